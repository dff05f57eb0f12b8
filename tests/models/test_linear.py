"""Linear and Logistic: the promises of every model, closed forms, quality on a real table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize

from matinee.exceptions import BadInputError, RefusedError
from matinee.models import Linear, Logistic
from matinee.testing.models import ModelCheck, example_rows
from models.suite import every_promise

MODELS = [Linear(), Logistic(), Logistic(l2=0.1, min_rows=1, categories=("title",))]


@pytest.mark.parametrize("model", MODELS, ids=repr)
@every_promise
def test_keeps_the_promises_of_a_model(model: Linear | Logistic, check: ModelCheck) -> None:
    check(model, np.random.default_rng(7))


def test_ridge_is_the_closed_form() -> None:
    rng = np.random.default_rng(1)
    A, y, w = rng.normal(size=(60, 3)), rng.normal(size=60), rng.uniform(0.5, 2, 60)
    mean = w @ A / w.sum()
    Z = np.column_stack([np.ones(60), (A - mean) / np.sqrt(w @ (A - mean) ** 2 / w.sum())])
    b = np.linalg.solve(Z.T @ (Z * w[:, None]) + np.diag([0.0, 2.5, 2.5, 2.5]), Z.T @ (w * y))
    X = pl.DataFrame(A, schema=["a", "b", "c"], orient="row")
    assert Linear(l2=2.5).fit(X, y, weight=w).score(X) == pytest.approx(Z @ b, abs=1e-10)


def test_logistic_minimises_the_penalised_log_loss() -> None:
    rng = np.random.default_rng(2)
    a, device = rng.normal(size=300), rng.choice(["phone", "tv"], 300)
    y = (rng.random(300) < 1 / (1 + np.exp(-a - (device == "tv")))).astype(float)
    Z = np.column_stack([np.ones(300), (a - a.mean()) / a.std(), device == "phone", device == "tv"])

    def loss(b: np.ndarray) -> float:
        z = Z @ b
        return float((np.logaddexp(0, z) - y * z).sum() + 0.5 * 3.0 * (b[1:] ** 2).sum())

    best = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-8}).x
    model = Logistic(l2=3.0).fit(pl.DataFrame({"a": a, "device": device}), y)
    found = model.score(pl.DataFrame({"a": a, "device": device}))
    assert found == pytest.approx(1 / (1 + np.exp(-Z @ best)), abs=1e-5)
    assert found.mean() == pytest.approx(y.mean(), abs=1e-9)


def test_missing_number_has_a_weight_of_its_own_and_rare_levels_share_theirs() -> None:
    X = pl.DataFrame({"a": [1.0, 3.0, None, None] * 10, "city": (["Rome"] * 36 + ["Oslo", "Bonn", "Lyon", "Nice"])})
    y = np.array([0.0, 0.0, 5.0, 5.0] * 10)
    model = Linear(l2=1e-8).fit(X, y)
    known, missing = model.score(pl.DataFrame({"a": [2.0, None], "city": ["Rome"] * 2}))
    assert (known, missing) == (pytest.approx(0, abs=1e-6), pytest.approx(5, abs=1e-6))
    rare, unseen = model.score(pl.DataFrame({"a": [2.0, 2.0], "city": ["Oslo", "Ulm"]}))
    assert rare == unseen


def test_wide_models_reach_the_same_minimum_by_another_road() -> None:
    rng = np.random.default_rng(3)
    ids = rng.integers(0, 1_100, 6_000)
    y = (rng.random(6_000) < np.where(ids % 2, 0.7, 0.3)).astype(float)
    X = pl.DataFrame({"id": ids})
    wide = Logistic(categories=("id",), min_rows=1).fit(X, y)
    with pytest.raises(RefusedError, match="coefficients, must have at most 512"):
        wide.spread(wide.encode(X))
    # With one-hot levels alone the penalised optimum of each level solves a scalar equation in its own counts.
    b0 = np.log(wide.score(pl.DataFrame({"id": [-5]}))[0] / (1 - wide.score(pl.DataFrame({"id": [-5]}))[0]))
    for level in (3, 4):
        mine = ids == level
        p = wide.score(pl.DataFrame({"id": [level]}))[0]
        b = np.log(p / (1 - p)) - b0
        assert y[mine].sum() - mine.sum() * p - b == pytest.approx(0, abs=1e-3)


def test_spread_is_the_standard_error_of_the_mean() -> None:
    rng = np.random.default_rng(4)
    X = pl.DataFrame({"arm": ["a"] * 100 + ["b"] * 400})
    y = np.concatenate([rng.normal(0, 1, 100), rng.normal(1, 1, 400)])
    linear = Linear(l2=1e-6).fit(X, y)
    spread = linear.spread(linear.encode(pl.DataFrame({"arm": ["a", "b"]})))
    sigma = np.sqrt(np.mean((y - linear.score(X)) ** 2))
    assert spread == pytest.approx([sigma / 10, sigma / 20], rel=1e-3)
    clicks = (rng.random(500) < 0.3).astype(float)
    logistic = Logistic(l2=1e-6).fit(X, clicks)
    p = clicks[:100].mean()
    assert logistic.spread(logistic.encode(X[:1])) == pytest.approx([np.sqrt(p * (1 - p) / 100)], rel=1e-3)


def test_contributions_add_up_to_the_log_odds() -> None:
    rows = example_rows(Logistic(), np.random.default_rng(5))
    model = Logistic().fit(rows.X, rows.y)
    p = model.score(rows.X)
    assert model.contributions(rows.X).sum_horizontal().to_numpy() == pytest.approx(np.log(p / (1 - p)), abs=1e-12)


def test_extreme_scores_neither_overflow_nor_leave_the_interval() -> None:
    X = pl.DataFrame({"x": np.linspace(-1, 1, 200)})
    model = Logistic(l2=1e-3).fit(X, (X["x"] > 0).to_numpy())
    low, high = model.score(pl.DataFrame({"x": [-1e6, 1e6]}))
    assert (low, high) == (0.0, 1.0)


def test_columns_that_determine_each_other_need_a_penalty() -> None:
    X = pl.DataFrame({"a": [1.0, 2, 3, 5], "b": [1.0, 2, 3, 5]})
    with pytest.raises(RefusedError, match="l2 == 0, must be > 0"):
        Linear(l2=0).fit(X, np.arange(4.0))
    with pytest.raises(BadInputError, match="matrix has shape"):
        Linear().fit(X, np.arange(4.0)).score_array(np.zeros((2, 3)))


def test_churn_of_a_real_table_is_predicted_as_well_as_published(shared_data: Path) -> None:
    telco = pl.read_csv(shared_data / "payments/telco-churn/telco.csv", null_values=[" "])
    y, X = (telco["Churn"] == "Yes").to_numpy().astype(float), telco.drop("Churn", "customerID")
    fold = np.random.default_rng(0).integers(0, 5, len(y))
    scores = np.empty(len(y))
    for k in range(5):
        scores[fold == k] = Logistic().fit(X.filter(fold != k), y[fold != k]).score(X.filter(fold == k))
    assert np.mean((scores - y) ** 2) < 0.1365  # published for this table: .1354, fold noise about .001
