"""Intervals: known answers, invariances, coverage on worlds with a known truth."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from matinee.evaluate.intervals import empirical_bernstein, skewed_interval, standard_error
from matinee.exceptions import MatineeError


def centred(x: np.ndarray) -> np.ndarray:
    return x - x.mean()


def test_without_skewness_it_is_the_t_interval() -> None:
    x = np.random.default_rng(0).normal(size=200)
    x = np.concatenate([x, -x])  # exactly symmetric
    found = skewed_interval(0.0, x, None, 400)
    low, high = stats.t.interval(0.95, 399, loc=0.0, scale=stats.sem(x))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.skew == pytest.approx(0.0)


@pytest.mark.parametrize(("n", "largest", "cubic"), [(200, 6.0, False), (8, 60.0, True), (25, 6.0, None)])
def test_the_interval_inverts_the_transformations(n: int, largest: float, cubic: bool | None) -> None:
    x = np.append(np.random.default_rng(1).exponential(size=n - 1), largest)
    t = special.stdtrit(n - 1, 0.975)
    found = skewed_interval(float(x.mean()), centred(x), None, n)
    r = float(stats.skew(x)) / math.sqrt(n)
    for limit, quantile in ((found.low, t), (found.high, -t)):
        T = (x.mean() - limit) / found.se
        by_cubic = T + r * T**2 / 3 + r**2 * T**3 / 27 + r / 6
        by_exponential = (math.exp(2 * r * T / 3) - 1) / (2 * r / 3) + r / 6
        if cubic is None:  # between the two
            assert 0.35 < r < 0.55 and sorted([by_cubic, quantile, by_exponential])[1] == quantile
        else:
            assert r > 0.55 if cubic else r < 0.35
            assert (by_cubic if cubic else by_exponential) == pytest.approx(quantile)


def test_clusters_by_hand() -> None:
    x = np.array([1.0, 2.0, 3.0, -2.0, -4.0])
    codes = np.array([0, 0, 1, 1, 2])
    sums = np.array([3.0, 1.0, -4.0])
    assert standard_error(x, codes, 3) == pytest.approx(math.sqrt((sums @ sums) * 3 / 2) / 5)


def test_repeated_rows_of_a_cluster_add_no_information() -> None:
    x = np.random.default_rng(0).exponential(size=60)
    once = skewed_interval(float(x.mean()), centred(x), None, 60)
    thrice = skewed_interval(float(x.mean()), centred(np.repeat(x, 3)), np.repeat(np.arange(60), 3), 60)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_row_order_and_cluster_labels_have_no_influence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, codes = centred(rng.exponential(size=40)), rng.integers(0, 10, 40)
    base = skewed_interval(1.0, x, codes, 10)
    order, names = rng.permutation(40), rng.permutation(10)
    other = skewed_interval(1.0, x[order], names[codes][order], 10)
    assert (other.low, other.high) == pytest.approx((base.low, base.high))


@given(level=st.floats(0.5, 0.99), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_higher_levels_are_wider(level: float, seed: int) -> None:
    x = centred(np.random.default_rng(seed).exponential(size=60))
    found = [skewed_interval(0.0, x, None, 60, one) for one in (level / 2, level, (1 + level) / 2)]
    for inner, outer in pairwise(found):
        assert outer.low <= inner.low and inner.high <= outer.high


def test_degenerate_inputs() -> None:
    assert skewed_interval(2.0, np.zeros(10), None, 10).high == 2.0
    one = skewed_interval(2.0, np.zeros(10), np.zeros(10, dtype=np.int64), 1)
    assert one.low == -math.inf and one.high == math.inf
    assert empirical_bernstein(np.ones(4), np.zeros(4, dtype=np.int64), 1) == -math.inf
    with pytest.raises(MatineeError, match="level == 1"):
        skewed_interval(2.0, np.zeros(10), None, 10, 1.0)


@pytest.mark.parametrize(("rate", "n"), [(0.3, 300), (0.004, 8_000), (0.02, 1_000)])
def test_coverage_of_rare_and_common_rewards(rate: float, n: int) -> None:
    # 1,000 worlds: the standard error of a coverage of 95% is .7 points.
    held, held_t = 0, 0
    for seed in range(1_000):
        rng = np.random.default_rng([n, seed])
        w = np.exp(rng.normal(0, 0.8, n) - 0.32)
        x = w * (rng.random(n) < rate)
        found = skewed_interval(float(x.mean()), centred(x), None, n)
        held += found.low <= rate <= found.high
        held_t += abs(x.mean() - rate) <= 1.96 * found.se
    assert 0.93 <= held / 1_000 <= 0.97
    if rate < 0.1:
        assert held_t / 1_000 < 0.935  # why the plain interval is not used


def test_empirical_bernstein_by_hand() -> None:
    x = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    log = math.log(2 / 0.05)
    expected = 0.6 - math.sqrt(2 * 0.3 * log / 5) - 7 * log / (3 * 4)
    assert empirical_bernstein(x, None, 5, spread=1.0) == pytest.approx(expected)


def test_empirical_bernstein_of_clusters_by_hand() -> None:
    x, codes = np.array([0.0, 1.0, 1.0, 0.0, 1.0]), np.array([0, 0, 1, 2, 2])
    log, totals = math.log(2 / 0.05), np.array([1.0, 1.0, 1.0]) * 3 / 5
    range_of_a_total = 1.0 * 2 * 3 / 5  # two rows at most, each worth up to 1
    expected = totals.mean() - 0.0 - 7 * range_of_a_total * log / (3 * 2)
    assert empirical_bernstein(x, codes, 3, spread=1.0) == pytest.approx(expected)


def test_empirical_bernstein_holds_in_small_samples() -> None:
    broken = 0
    for seed in range(2_000):
        x = (np.random.default_rng(seed).random(60) < 0.1).astype(float)
        broken += empirical_bernstein(x, None, 60, spread=1.0) > 0.1
    assert broken / 2_000 <= 0.05


def test_empirical_bernstein_of_clusters_is_no_bolder_than_of_their_rows() -> None:
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(500), 4)
    x = np.repeat((rng.random(500) < 0.5).astype(float), 4)
    assert empirical_bernstein(x, codes, 500, spread=1.0) < empirical_bernstein(x, None, 2_000, spread=1.0)
