"""Positives that come late: the chance and the delay are found again, from choices most of which are not over."""

from __future__ import annotations

import numpy as np
import pytest

from matinee.exceptions import BadInputError
from matinee.models import DelayedFeedback


def world(n: int = 30_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Columns, delays seen so far, days elapsed, and whether a positive comes at all. High x: likelier, and slower."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    comes = rng.random(n) < 1 / (1 + np.exp(0.5 - x[:, 0]))
    delay = rng.exponential(np.exp(1.0 + 0.7 * x[:, 0]))
    elapsed = rng.uniform(0.05, 6.0, n)
    return x, np.where(comes & (delay <= elapsed), delay, np.nan), elapsed, comes


def test_chance_is_found_although_most_have_not_come_yet() -> None:
    x, delay, elapsed, comes = world()
    model = DelayedFeedback().fit(x, delay, elapsed)
    truth = 1 / (1 + np.exp(0.5 - x[:, 0]))
    assert np.isfinite(delay).mean() < 0.7 * comes.mean()  # counting what has come is far off
    assert np.abs(model.chance(x) - truth).mean() < 0.03
    naive = np.isfinite(delay)
    high = x[:, 0] > 1
    assert model.chance(x)[high].mean() == pytest.approx(comes[high].mean(), abs=0.05)
    assert naive[high].mean() < comes[high].mean() - 0.25  # and worst where waiting is longest


def test_what_is_still_to_come_is_calibrated() -> None:
    x, delay, elapsed, comes = world(seed=1)
    model = DelayedFeedback().fit(x, delay, elapsed)
    open_ = np.isnan(delay)
    expected = model.still_to_come(x, elapsed)[open_]
    later = comes[open_]
    for part in np.array_split(np.argsort(expected), 5):
        assert expected[part].mean() == pytest.approx(later[part].mean(), abs=0.04)
    labels = model.expected(x, delay, elapsed)
    assert (labels[~open_] == 1).all()
    assert labels.mean() == pytest.approx(comes.mean(), abs=0.02)


def test_waiting_longer_leaves_less_to_come() -> None:
    x, delay, elapsed, _ = world(3000)
    model = DelayedFeedback().fit(x, delay, elapsed)
    one = np.zeros((6, 2))
    left = model.still_to_come(one, [0, 1, 2, 4, 8, 1000])
    assert (np.diff(left) < 0).all()
    assert left[0] == pytest.approx(model.chance(one)[0])
    assert left[-1] == pytest.approx(0, abs=1e-6)


def test_a_window_ends_the_waiting() -> None:
    x, delay, elapsed, comes = world(20_000, seed=2)
    rng = np.random.default_rng(3)
    model = DelayedFeedback(window=4.0).fit(x, delay, elapsed)
    assert model.still_to_come(np.zeros((2, 2)), [4.0, 9.0]).tolist() == [0.0, 0.0]
    assert model.chance(np.zeros((1, 2)))[0] == pytest.approx(
        (1 - np.exp(-4.0 / np.exp(1.0))) / (1 + np.exp(0.5)), abs=0.03
    )
    late = np.isfinite(delay) & (delay > 4.0)
    assert late.any()
    assert (model.expected(x, delay, elapsed)[late] == 0).all()  # it came, but outside
    assert comes.any() and rng is not None


def test_the_slope_of_the_likelihood_is_right() -> None:
    """Numerically, through the fit: a wrong slope would stop elsewhere than where the likelihood is highest."""
    x, delay, elapsed, _ = world(4000, seed=4)
    model = DelayedFeedback(l2=0.0).fit(x, delay, elapsed)

    def likelihood(weights: np.ndarray) -> float:  # type: ignore[type-arg]
        z = model._design(x)
        p, rate = 1 / (1 + np.exp(-z @ weights[:3])), np.exp(z @ weights[3:])
        came = np.isfinite(delay)
        seen = np.log(p) + np.log(rate) - rate * np.where(came, delay, 0)
        return float(np.where(came, seen, np.log(1 - p + p * np.exp(-rate * elapsed))).sum())

    assert model._weights is not None
    best = likelihood(model._weights)
    for i in range(6):
        for by in (-0.05, 0.05):
            moved = model._weights.copy()
            moved[i] += by
            assert likelihood(moved) < best


def test_what_cannot_be_so_is_refused() -> None:
    ok = np.ones(30)
    with pytest.raises(BadInputError, match="5 positives came, must be at least 20"):
        DelayedFeedback().fit(np.zeros((30, 1)), np.where(np.arange(30) < 5, 0.5, np.nan), ok)
    with pytest.raises(BadInputError, match="nothing is known before it happens"):
        DelayedFeedback().fit(np.zeros((30, 1)), 2 * ok, ok)
    with pytest.raises(BadInputError, match="elapsed > 0"):
        DelayedFeedback().fit(np.zeros((30, 1)), 0 * ok, 0 * ok)
    with pytest.raises(BadInputError, match="must have a row each"):
        DelayedFeedback().fit(np.zeros((30, 1)), ok[:3], ok)
    with pytest.raises(BadInputError, match="not fitted"):
        DelayedFeedback().chance([[1.0]])
