"""Signature: what a column becomes, the same from a frame and from arrays."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.exceptions import BadInputError, UnknownColumnError
from matinee.models import Signature

FRAME = pl.DataFrame(
    {
        "device": ["tv", "phone", None, ""],
        "age": [30, 41, None, 7],
        "kids": [True, False, None, True],
        "title": [5, 9, 5, None],
    }
)
SIGNATURE = Signature.learn(FRAME, categories=["title"])


def test_known_encoding() -> None:
    assert SIGNATURE.names == ["age", "device", "kids", "title"]
    nan = np.nan
    expected = [[30, 1, 1, 0], [41, 0, 0, 1], [nan, nan, nan, 0], [7, nan, 1, nan]]
    np.testing.assert_array_equal(SIGNATURE.encode(FRAME), expected)


def test_unseen_levels_are_minus_one_in_every_form() -> None:
    frame = pl.DataFrame({"device": ["radio"], "age": [1], "kids": [None], "title": [6]})
    enum = frame.with_columns(pl.col("device").cast(pl.Categorical), pl.col("title").cast(pl.UInt16))
    for X in (
        frame,
        enum,
        frame.row(0, named=True),
        {"device": np.array(["radio"]), "age": 1, "kids": None, "title": np.array([6])},
    ):
        np.testing.assert_array_equal(SIGNATURE.encode(X), [[1, -1, np.nan, -1]])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.none() | st.sampled_from(["tv", "phone", "radio", ""]),
            st.none() | st.integers(-(2**40), 2**40),
            st.none() | st.booleans(),
            st.none() | st.sampled_from([5, 9, 6, -1]),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_arrays_and_single_values_encode_as_frames(
    rows: list[tuple[str | None, int | None, bool | None, int | None]],
) -> None:
    frame = pl.DataFrame(rows, schema=FRAME.schema, orient="row")
    matrix = SIGNATURE.encode(frame)
    arrays = {name: np.array(frame[name].to_list(), object) for name in frame.columns}
    np.testing.assert_array_equal(SIGNATURE.encode(arrays), matrix)
    # As the catalogue publishes them: numbers as floats with NaN, text with "" for null.
    typed = {n: frame[n].cast(pl.Float64).to_numpy() for n in ("age", "kids", "title")}
    typed["device"] = np.array(frame["device"].fill_null("").to_list())
    np.testing.assert_array_equal(SIGNATURE.encode(typed), matrix)
    for i, row in enumerate(frame.iter_rows(named=True)):
        np.testing.assert_array_equal(SIGNATURE.encode(row), matrix[i : i + 1])


def test_json_round_trip() -> None:
    again = Signature.from_json(SIGNATURE.to_json())
    assert again == SIGNATURE
    np.testing.assert_array_equal(again.encode(FRAME), SIGNATURE.encode(FRAME))


def test_category_without_levels_and_column_of_nulls() -> None:
    X = pl.DataFrame({"a": pl.Series([None], dtype=pl.String), "b": pl.Series([None], dtype=pl.Int32), "c": [None]})
    signature = Signature.learn(X, categories=["b"])
    found = signature.encode(pl.DataFrame({"a": ["x"], "b": [3], "c": [2.5]}))
    np.testing.assert_array_equal(found, [[-1, -1, 2.5]])
    np.testing.assert_array_equal(signature.encode({"a": "x", "b": np.array([3]), "c": 2.5}), found)


@pytest.mark.parametrize(
    ("X", "text"),
    [
        (FRAME.drop("age"), "column == 'age', must be a column of the frame to be scored"),
        (FRAME.with_columns(age=pl.lit("old")), "column 'age' is String, must be a number .Int64 when"),
        (FRAME.with_columns(device=pl.lit(3)), "column 'device' is Int32, must be text"),
        (FRAME.with_columns(title=pl.lit(1.5)), "column 'title' is Float64, must be an integer"),
        (FRAME.with_columns(age=pl.lit(float("inf"))), "column 'age' is infinite in 4 rows"),
        ({"age": 1, "device": "tv", "kids": True}, "column == 'title', must be"),
        ({"age": "old", "device": "tv", "kids": True, "title": 5}, "column 'age' is str, must be a number"),
        ({"age": 1, "device": 3, "kids": True, "title": 5}, "column 'device' is int, must be text"),
        ({"age": 1, "device": np.array([3]), "kids": True, "title": 5}, "column 'device' is int64, must be text"),
        ({"age": np.array(["old"]), "device": "tv", "kids": True, "title": 5}, "column 'age' is <U3, must be a number"),
        (
            {"age": 1, "device": "tv", "kids": True, "title": np.array(["5"])},
            "column 'title' is <U1, must be an integer",
        ),
        (
            {"age": np.ones(2), "device": np.array(["tv"]), "kids": True, "title": 5},
            r"shape \(1,\), must have shape \(2,\)",
        ),
    ],
)
def test_errors_name_the_column(X: pl.DataFrame, text: str) -> None:
    with pytest.raises((BadInputError, UnknownColumnError), match=text):
        SIGNATURE.encode(X)


def test_columns_no_model_can_read_are_refused_at_once() -> None:
    with pytest.raises(BadInputError, match="column 'day' is Date, must be a number, a boolean or text"):
        Signature.learn(pl.DataFrame({"day": [date(2026, 1, 1)]}))
    with pytest.raises(UnknownColumnError, match="did you mean 'title'"):
        Signature.learn(FRAME, categories=["titel"])
    with pytest.raises(BadInputError, match="X has 0 rows"):
        Signature.learn(FRAME.head(0))
    with pytest.raises(BadInputError, match="X is dict, must be a polars DataFrame"):
        Signature.learn({"a": [1]})  # type: ignore[arg-type]  # that is the fault
