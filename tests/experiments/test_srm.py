"""The sample ratio check: quiet however often a healthy experiment is looked at, loud when units go missing."""

from __future__ import annotations

import numpy as np
import pytest

from matinee.exceptions import BadInputError, MatineeError
from matinee.experiments import ratio_check
from matinee.experiments.srm import RatioCheck

HALVES = {"a": 0.5, "b": 0.5}


def looks(share: float, seed: int, batches: int = 100, size: int = 500) -> list[float]:
    rng = np.random.default_rng(seed)
    b = np.cumsum(rng.binomial(size, share, batches))
    n = size * np.arange(1, batches + 1)
    return [ratio_check({"a": int(t - k), "b": int(k)}, HALVES).p for t, k in zip(n, b, strict=True)]


def test_healthy_experiments_are_not_blocked_however_often_they_are_looked_at() -> None:
    lowest = np.array([min(looks(0.5, seed)) for seed in range(200)])
    assert (lowest < 0.05).mean() <= 0.05
    assert (lowest < 0.001).sum() == 0
    fixed = [
        min(ratio_check({"a": 500 * i - int(k), "b": int(k)}, HALVES).p_fixed for i, k in enumerate(b, start=1))
        for b in (np.cumsum(np.random.default_rng(s).binomial(500, 0.5, 100)) for s in range(100))
    ]
    assert np.mean(np.array(fixed) < 0.05) > 0.2  # why a repeated chi-square is not used


def test_a_loss_of_eight_percent_in_one_arm_is_found() -> None:
    assert all(looks(0.48, seed)[-1] < 0.001 for seed in range(20))


def test_evidence_of_a_mismatch_does_not_expire() -> None:
    early = ratio_check({"a": 700, "b": 300}, HALVES)
    late = ratio_check({"a": 100_700, "b": 100_300}, HALVES, earlier=early.p)
    assert not early.passed and not late.passed
    assert ratio_check({"a": 100_700, "b": 100_300}, HALVES).passed


def test_a_p_of_exactly_one_in_a_thousand_passes() -> None:
    assert RatioCheck({"a": 1}, {"a": 1.0}, 0.001, 1.0).passed
    assert not RatioCheck({"a": 1}, {"a": 1.0}, 0.000999, 1.0).passed


def test_unequal_and_many_arms() -> None:
    shares = {"a": 0.9, "b": 0.05, "c": 0.05}
    assert ratio_check({"a": 9_000, "b": 510, "c": 490}, shares).passed
    assert not ratio_check({"a": 9_000, "b": 650, "c": 350}, shares).passed
    assert ratio_check({"a": 0, "b": 0, "c": 0}, shares).p == 1.0
    assert ratio_check({"a": 10}, {"a": 1.0}).passed


def test_a_unit_in_an_arm_of_share_zero_is_a_mismatch() -> None:
    assert ratio_check({"a": 100, "b": 1}, {"a": 1.0, "b": 0.0}).p == 0.0


def test_the_order_of_arms_has_no_influence() -> None:
    one = ratio_check({"a": 520, "b": 480}, HALVES).p
    assert ratio_check({"b": 480, "a": 520}, HALVES).p == pytest.approx(one)


def test_the_table_says_what_to_look_for() -> None:
    text = str(ratio_check({"a": 6_000, "b": 4_000}, HALVES))
    assert "readout is blocked" in text and "crashes" in text and "5,000" in text


def test_errors_say_what_would_be_right() -> None:
    with pytest.raises(BadInputError, match="must be those of shares"):
        ratio_check({"a": 1}, HALVES)
    with pytest.raises(BadInputError, match="must sum to 1"):
        ratio_check({"a": 1, "b": 1}, {"a": 0.5, "b": 0.4})
    with pytest.raises(MatineeError, match=r"counts\['a'\] == -1"):
        ratio_check({"a": -1, "b": 1}, HALVES)
