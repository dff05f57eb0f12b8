"""An expression over a row gives what it gives over a frame, nulls included."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import matinee as mt
from matinee.exceptions import DeclarationError
from matinee.expressions import Expression, Literal


class Row(mt.Fact, key="a"):
    a: int
    x: float | None
    y: float | None
    flag: bool | None


class Other(mt.Fact, key="b"):
    b: int


NUMBERS = st.one_of(st.none(), st.sampled_from([0.0, 1.0, -2.5, 3.0, 1e6]))
ROWS = st.fixed_dictionaries({"a": st.integers(-5, 5), "x": NUMBERS, "y": NUMBERS, "flag": st.one_of(st.none(), st.booleans())})
LEAVES = st.one_of(
    st.sampled_from([Row.x, Row.y, Row.a]), st.sampled_from([-1.0, 0.0, 2.0]).map(Literal)
)  # fmt: skip


def _arithmetic(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: t[0]._with(t[1], t[2]))


VALUES = st.recursive(LEAVES, _arithmetic, max_leaves=4)
COMPARED = st.tuples(VALUES, st.sampled_from([">", ">=", "<", "<="]), VALUES).map(lambda t: t[0]._with(t[1], t[2]))
LISTED = st.lists(st.integers(-5, 5), min_size=1, max_size=3).map(lambda v: Row.a.is_in(v))
CONDITIONS = st.recursive(
    st.one_of(COMPARED, LISTED, st.just(Row.flag)),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("&|"), inner).map(lambda t: t[0]._with(t[1], t[2])), inner.map(lambda c: ~c)
    ),
    max_leaves=4,
)
SCHEMA = {"a": pl.Int64, "x": pl.Float64, "y": pl.Float64, "flag": pl.Boolean}


def _same(one: Any, other: Any) -> bool:
    both_nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    return both_nan or one == other


def _has_nan(expression: Expression, row: dict[str, Any]) -> bool:
    return any(
        isinstance(v, float) and math.isnan(v)
        for v in (p.value(row) for p in _parts(expression) if isinstance(p, Expression))
    )


def _parts(expression: Expression) -> list[Expression]:
    inner = [getattr(expression, n) for n in ("left", "right", "inner") if hasattr(expression, n)]
    return [expression, *(p for i in inner for p in _parts(i))]


@settings(max_examples=150, deadline=None)
@given(st.one_of(VALUES, CONDITIONS), st.lists(ROWS, min_size=1, max_size=4))
def test_a_row_at_a_time_equals_the_frame(expression: Expression, rows: list[dict[str, Any]]) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA).with_columns(expression.polars().alias("v"))["v"].to_list()
    for row, framed in zip(rows, frame, strict=True):
        if not _has_nan(expression, row):  # NaN is refused on appending, and ordered differently by the two
            assert _same(expression.value(row), framed), (expression, row)


@pytest.mark.parametrize(
    ("condition", "known"),
    [
        ((Row.x > 1) & (Row.y > 1), {(None, 0.0): False, (None, 2.0): None, (2.0, 2.0): True}),
        ((Row.x > 1) | (Row.y > 1), {(None, 0.0): None, (None, 2.0): True, (0.0, 0.0): False}),
        (~(Row.x > 1), {(None, None): None, (2.0, None): False}),
    ],
)
def test_null_is_not_known_rather_than_false(condition: Expression, known: dict[tuple[Any, Any], Any]) -> None:
    for (x, y), expected in known.items():
        assert condition.value({"x": x, "y": y}) is expected


def test_columns_and_the_fact_are_known_without_a_row() -> None:
    expression = (Row.x + 1 > Row.y) & Row.flag
    assert expression.columns() == {"x", "y", "flag"}
    assert expression.fact is Row
    assert Literal(3).fact is None


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(DeclarationError, match="mixes two facts"):
        Row.a + Other.b
    with pytest.raises(DeclarationError, match="must be combined with & and |"):
        bool(Row.x > 1 and Row.y > 1)
