"""LightGBM: the promises of every model, known answers, its own errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from matinee.exceptions import BadInputError, MatineeError, UnknownColumnError
from matinee.models import LightGBM
from matinee.testing.models import ModelCheck, example_rows
from models.suite import every_promise

MODELS = [
    LightGBM(trees=6),
    LightGBM(
        objective="regression", trees=6, leaves=40, min_rows=3, row_share=0.7, column_share=0.7, categories=("title",)
    ),
    LightGBM(objective="lambdarank", trees=6, monotone={"hours": 1}),
    LightGBM(objective="poisson", trees=6),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.objective)
@every_promise
def test_keeps_the_promises_of_a_model(model: LightGBM, check: ModelCheck) -> None:
    check(model, np.random.default_rng(7))


def test_learns_a_step_to_its_leaf_means() -> None:
    X = pl.DataFrame({"day": [float(i % 10) for i in range(500)]})
    y = np.where(X["day"] >= 6, 5.0, 2.0)
    model = LightGBM(objective="regression", trees=200, rate=0.2, l2=0.0).fit(X, y)
    assert model.score(pl.DataFrame({"day": [0.0, 5.0, 6.0, 9.0]})) == pytest.approx([2, 2, 5, 5], abs=1e-6)


def test_quantile_and_median_are_met() -> None:
    y = np.random.default_rng(1).exponential(size=4_000)
    X = pl.DataFrame({"half": np.arange(4_000) % 2})
    for objective, options, level in (("quantile", {"alpha": 0.9}, 0.9), ("absolute", {}, 0.5)):
        model = LightGBM(objective=objective, options=options).fit(X, y)
        assert np.mean(y <= model.score(X)) == pytest.approx(level, abs=0.02)


def test_number_of_threads_has_no_influence(tmp_path: Path) -> None:
    rows = example_rows(LightGBM(), np.random.default_rng(1), 2_000)
    for threads in (1, 2):
        rows.fit(LightGBM(trees=20, threads=threads)).save(tmp_path / str(threads))
    one, two = (json.loads((tmp_path / t / "model.json").read_text())["files"] for t in "12")
    assert one == two


def test_seed_draws_the_rows_of_each_tree() -> None:
    rows = example_rows(LightGBM(), np.random.default_rng(1))
    first, second = (rows.fit(LightGBM(trees=5, row_share=0.5), seed=s).score(rows.X) for s in (1, 2))
    assert not np.array_equal(first, second)


def test_ranking_puts_higher_grades_first_within_their_list() -> None:
    rng = np.random.default_rng(2)
    X = pl.DataFrame({"x": rng.normal(size=600)})
    grades = np.digitize(X["x"].to_numpy(), [-1, 0, 1]).astype(float)
    model = LightGBM(objective="lambdarank", trees=30).fit(X, grades, group=np.arange(600) % 30)
    low, high = model.score(pl.DataFrame({"x": [-2.0, 2.0]}))
    assert high > low


def test_ranking_compares_rows_of_one_list_only() -> None:
    rng = np.random.default_rng(8)
    x, mine = rng.uniform(0, 1, 600), rng.random(600) < 0.5
    grades = np.where(mine, np.floor(4 * x), 0.0)
    X = pl.DataFrame({"x": np.where(mine, x, x + 2)})
    # The lists of x above 2 hold one grade: they teach nothing, and their rows score as the best of the others.
    model = LightGBM(objective="lambdarank", trees=30).fit(X, grades, group=np.where(mine, "graded", "flat"))
    low, best, beyond = model.score(pl.DataFrame({"x": [0.1, 0.95, 2.5]}))
    assert low < best == beyond


def test_score_only_rises_with_a_monotone_column() -> None:
    rng = np.random.default_rng(3)
    X = pl.DataFrame({"tenure": rng.uniform(0, 10, 800)})
    y = (rng.random(800) < 0.5 + 0.3 * np.sin(X["tenure"].to_numpy())).astype(float)
    scores = LightGBM(monotone={"tenure": 1}).fit(X, y).score(pl.DataFrame({"tenure": np.linspace(0, 10, 200)}))
    assert (np.diff(scores) >= 0).all()
    assert len(np.unique(scores)) > 1


def test_contributions_add_up_to_the_log_odds() -> None:
    rows = example_rows(LightGBM(), np.random.default_rng(4))
    model = LightGBM(trees=20).fit(rows.X, rows.y)
    p = model.score(rows.X)
    assert model.contributions(rows.X).sum_horizontal().to_numpy() == pytest.approx(np.log(p / (1 - p)), abs=1e-9)


def test_contributions_are_those_of_the_newest_fit() -> None:
    X = pl.DataFrame({"hours": np.tile([1.0, 9.0], 100)})
    y = np.tile([0.0, 1.0], 100)
    model = LightGBM(trees=5).fit(X, y)
    before = model.contributions(X)["hours"][0]
    after = model.fit(X, 1 - y).contributions(X)["hours"][0]
    assert before < 0 < after


def test_errors_name_what_the_user_wrote() -> None:
    rows = example_rows(LightGBM(), np.random.default_rng(5))
    with pytest.raises(MatineeError, match=r"objective == 'binray', must be one of .*; did you mean 'binary'"):
        LightGBM(objective="binray")
    with pytest.raises(MatineeError, match=r"options\['num_threads'\], must not be set"):
        LightGBM(options={"num_threads": 4})
    with pytest.raises(BadInputError, match="group is missing with objective == 'lambdarank'"):
        LightGBM(objective="lambdarank").fit(rows.X, rows.y)
    with pytest.raises(BadInputError, match="y is 1 in every row, must hold both 0 and 1"):
        LightGBM().fit(rows.X, np.ones(rows.X.height))
    with pytest.raises(BadInputError, match=r"y holds 2, must hold only 0 and 1"):
        LightGBM().fit(rows.X, rows.y * 2)
    with pytest.raises(BadInputError, match=r"y\[0\] == 0.5, must be a whole grade from 0 to 30"):
        LightGBM(objective="lambdarank").fit(rows.X, rows.y * 0 + 0.5, group=np.zeros(rows.X.height))
    with pytest.raises(
        UnknownColumnError, match=r"column == 'hour', must be a column of the model .*; did you mean 'hours'"
    ):
        LightGBM(monotone={"hour": 1}).fit(rows.X, rows.y)
    with pytest.raises(BadInputError, match="LightGBM refused"):
        LightGBM(options={"max_depth": "deep"}).fit(rows.X, rows.y)
