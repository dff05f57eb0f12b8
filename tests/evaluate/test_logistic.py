"""The one-hot logistic against closed forms and a general optimiser."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special

from matinee.evaluate.logistic import Design, OneHotLogistic, _Counter, aggregate, fit_logistic
from matinee.exceptions import BadInputError, UnknownColumnError


def random_design(seed: int, n: int = 120, *, drop_first: bool = False) -> tuple[Design, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = (rng.integers(0, 3, n), rng.integers(-1, 4, n))  # -1: none of the levels
    design = Design(codes, (3, 4), rng.normal(size=(n, 2)), drop_first)
    trials = rng.integers(0, 4, n).astype(float)
    return design, rng.binomial(trials.astype(int), 0.4).astype(float), trials


def dense(design: Design) -> np.ndarray:
    columns = [np.ones(design.n), *design.dense.T]
    for codes, levels in zip(design.codes, design.levels, strict=True):
        columns += [(codes == level).astype(float) for level in range(levels)]
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("drop_first", [False, True])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_it_is_the_penalised_optimum(drop_first: bool, seed: int) -> None:
    design, ones, trials = random_design(seed, drop_first=drop_first)
    X, free = dense(design), design.free

    def loss(part: np.ndarray) -> float:
        whole = np.zeros(design.width)
        whole[free] = part
        score = X @ whole
        return float(trials @ np.logaddexp(0, score) - ones @ score + 0.5 / 2.0 * (whole[1:] @ whole[1:]))

    best = optimize.minimize(loss, np.zeros(int(free.sum())), method="BFGS", options={"gtol": 1e-7})
    found = fit_logistic(design, ones, trials, strength=2.0)
    assert loss(found[free]) <= best.fun + 1e-6
    assert found[free] == pytest.approx(best.x, abs=1e-3)
    assert (found[~free] == 0).all()
    assert design.logits(found) == pytest.approx(X @ found)


def test_the_counted_hessian_is_the_multiplied_one() -> None:
    design, _, _ = random_design(3)
    weights = np.random.default_rng(0).random(design.n)
    X, counter = dense(design), _Counter(design)
    assert counter.hessian(weights) == pytest.approx(X.T @ (weights[:, None] * X))
    assert counter.gradient(weights) == pytest.approx(weights @ X)


def test_counts_equal_copies() -> None:
    design, ones, trials = random_design(1)
    repeated = np.repeat(np.arange(design.n), trials.astype(int))
    within = np.concatenate([np.arange(int(t)) for t in trials])
    y = (within < ones[repeated]).astype(float)
    counted = fit_logistic(design, ones, trials)
    copied = fit_logistic(design.rows(repeated), y, np.ones(len(y)))
    assert counted == pytest.approx(copied, abs=1e-6)


def test_a_near_start_gives_the_same_answer() -> None:
    design, ones, trials = random_design(2)
    cold = fit_logistic(design, ones, trials)
    assert fit_logistic(design, ones, trials, start=cold + 0.5) == pytest.approx(cold, abs=1e-5)


def test_separation_ends() -> None:
    design = Design((np.repeat([0, 1], 50),), (2,), np.zeros((100, 0)))
    found = fit_logistic(design, np.repeat([0.0, 1.0], 50), np.ones(100), strength=100.0)
    assert np.isfinite(found).all()
    assert special.expit(design.logits(found))[[0, -1]] == pytest.approx([0, 1], abs=0.02)


def test_cells_add_up() -> None:
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, 3, 500), rng.integers(0, 5, 500)]
    y = rng.integers(0, 2, 500).astype(float)
    cells, ones, trials = aggregate(codes, [3, 5], y, np.ones(500))
    assert len(ones) == 15 and ones.sum() == y.sum() and trials.sum() == 500
    full = fit_logistic(Design(tuple(codes), (3, 5), np.zeros((500, 0))), y, np.ones(500))
    small = fit_logistic(Design(cells, (3, 5), np.zeros((15, 0))), ones, trials)
    assert small == pytest.approx(full, abs=1e-6)


def test_it_fits_frames_of_words_numbers_and_flags() -> None:
    rng = np.random.default_rng(0)
    X = pl.DataFrame(
        {"arm": rng.choice(["a", "b"], 4_000), "age": rng.normal(size=4_000), "new": rng.random(4_000) < 0.5}
    )
    chance = special.expit(np.where(X["arm"] == "a", -1.0, 0.5) + 0.8 * X["age"].to_numpy() + X["new"].to_numpy() * 0.7)
    y = (rng.random(4_000) < chance).astype(float)
    score = OneHotLogistic().fit(X, y).score(X)
    assert np.abs(score - chance).mean() < 0.03
    assert OneHotLogistic().fit(X[::-1], y[::-1]).score(X) == pytest.approx(score, abs=1e-6)
    assert OneHotLogistic().fit(X.select("new", "age", "arm"), y).score(X) == pytest.approx(score, abs=1e-6)


def test_an_unseen_level_counts_as_none() -> None:
    model = OneHotLogistic().fit(pl.DataFrame({"arm": ["a", "b"] * 50}), np.tile([0.0, 1.0], 50))
    score = model.score(pl.DataFrame({"arm": ["a", "c", None]}))
    assert score[0] < score[1] == score[2]


def test_errors_say_what_would_be_right() -> None:
    X, y = pl.DataFrame({"arm": ["a", "b"]}), np.array([0.0, 1.0])
    with pytest.raises(BadInputError, match="must be fitted"):
        OneHotLogistic().score(X)
    with pytest.raises(BadInputError, match="must be a probability"):
        OneHotLogistic().fit(X, np.array([0.0, 7.0]))
    with pytest.raises(UnknownColumnError, match="did you mean 'arms'"):
        OneHotLogistic().fit(X, y).score(pl.DataFrame({"arms": ["a"]}))
    with pytest.raises(BadInputError, match="NaN or null"):
        OneHotLogistic().fit(pl.DataFrame({"x": [1.0, None]}), y)
    with pytest.raises(BadInputError, match=r"trials.sum"):
        fit_logistic(Design((), (), np.zeros((2, 1))), np.zeros(2), np.zeros(2))
