"""Popularity: the promises of every model, counts by hand, decay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from matinee.exceptions import BadInputError, UnknownColumnError
from matinee.models import Model, Popularity
from matinee.testing.models import ModelCheck, Rows, example_rows
from models.suite import every_promise

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def dated_rows(model: Model, rng: np.random.Generator) -> Rows:
    rows = example_rows(model, rng)
    days = rng.integers(0, 60, rows.X.height).tolist()
    return Rows(rows.X.with_columns(at=pl.Series([NOW - timedelta(days=d) for d in days])), rows.y, rows.weight)


@pytest.mark.parametrize("model", [Popularity("title"), Popularity("device", half_life="7d")], ids=repr)
@every_promise
def test_keeps_the_promises_of_a_model(model: Popularity, check: ModelCheck) -> None:
    check(model, np.random.default_rng(7), dated_rows)


def test_counts_by_hand() -> None:
    X = pl.DataFrame({"title": ["Heat", "Heat", "Alien", None, ""]})
    model = Popularity("title").fit(X, np.array([1.0, 2.0, 4.0, 8.0, 16.0]), weight=np.array([1.0, 0.5, 1.0, 1.0, 1.0]))
    assert model.score(pl.DataFrame({"title": ["Heat", "Alien", "Big", None]})).tolist() == [2.0, 4.0, 0.0, 0.0]
    assert model.top(5) == ["Alien", "Heat"]


def test_a_row_loses_half_its_count_in_a_half_life() -> None:
    X = pl.DataFrame({"title": [1, 1, 2], "at": [NOW - timedelta(days=14), NOW - timedelta(days=7), NOW]})
    model = Popularity("title", half_life="7d").fit(X, np.ones(3))
    assert model.score(pl.DataFrame({"title": [1, 2]})).tolist() == [0.75, 1.0]


def test_equal_counts_stand_in_the_order_of_the_ids() -> None:
    assert Popularity("title").fit(pl.DataFrame({"title": [9, 3, 7, 7]}), np.ones(4)).top(3) == [7, 3, 9]


def test_errors_name_the_column() -> None:
    X = pl.DataFrame({"titel": [1, 2], "at": [NOW, None]})
    with pytest.raises(UnknownColumnError, match="did you mean 'titel'"):
        Popularity("title").fit(X, np.ones(2))
    with pytest.raises(BadInputError, match=r"column 'at' is Datetime.* with 1 nulls"):
        Popularity("titel", half_life="1d").fit(X, np.ones(2))
