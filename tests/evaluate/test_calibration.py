"""Reliability and interval coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.evaluate.calibration import interval_coverage, reliability, wilson
from matinee.exceptions import BadInputError


def honest(n: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.05, 0.6, n)
    return (rng.random(n) < p).astype(float), p


def test_honest_probabilities_are_calibrated() -> None:
    y, p = honest()
    found = reliability(y, p)
    assert found.error < 0.015 and found.bias_low < 0 < found.bias_high
    assert [b.n for b in found.bins] == [2_000] * 10
    assert sum(b.low <= b.stated <= b.high for b in found.bins) >= 9


def test_boasting_shows() -> None:
    y, p = honest()
    found = reliability(y, np.minimum(1, 1.5 * p))
    assert found.error == pytest.approx(0.5 * p.mean(), abs=0.02)
    assert found.bias_low > 0.1


def test_equal_probabilities_share_a_bin() -> None:
    y, _ = honest(1_000)
    found = reliability(y, np.full(1_000, 0.3))
    assert len(found.bins) == 1 and found.bins[0].n == 1_000


@given(seed=st.integers(0, 200))
def test_row_order_has_no_influence(seed: int) -> None:
    y, p = honest(300, seed)
    p = p.round(1)
    order = np.random.default_rng(seed).permutation(300)
    assert reliability(y[order], p[order]).error == pytest.approx(reliability(y, p).error)


def test_copies_of_a_member_do_not_narrow_the_interval() -> None:
    y, p = honest(500)
    once = reliability(y, p, bins=2)
    copied = reliability(np.repeat(y, 10), np.repeat(p, 10), bins=2, cluster=np.repeat(np.arange(500), 10))
    for a, b in zip(once.bins, copied.bins, strict=True):
        assert b.high - b.low == pytest.approx(a.high - a.low, rel=0.1)


def test_wilson_by_hand() -> None:
    low, high = wilson(0.5, 100)
    assert (low, high) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(1.0, 10)[1] == pytest.approx(1.0)


def test_coverage_of_intervals_by_group() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=8_000)
    new = np.arange(8_000) < 4_000
    half = np.where(new, 1.2816, 0.6)
    found = interval_coverage(y, -half, half, nominal=0.8, group=np.where(new, "new", "returning"))
    rows = {r["group"]: r for r in found.rows()}
    assert rows["new"]["covered"] == pytest.approx(0.8, abs=0.02)
    assert rows["returning"]["covered"] == pytest.approx(0.4515, abs=0.03)
    assert rows["all"]["below"] == pytest.approx(rows["all"]["above"], abs=0.02)
    assert "off in all, returning" in found.notes()[0]


def test_errors_say_what_would_be_right() -> None:
    with pytest.raises(BadInputError, match=r"low\[1\] == 3.0, must be <= high\[1\] == 2.0"):
        interval_coverage([1.0, 2.0], [0.0, 3.0], [2.0, 2.0])
    with pytest.raises(BadInputError, match="values other than 0 and 1"):
        reliability([0.5], [0.5])
    with pytest.raises(BadInputError, match="must be probabilities"):
        reliability([1.0], [1.5])
    with pytest.raises(BadInputError, match="at least one row"):
        reliability([], [])
