"""Means of arms with clustered intervals: known answers, coverage, and the trap of a raised share."""

from __future__ import annotations

import numpy as np
import pytest

from matinee.console.building.measured import (
    arm_means,
    clustered_error,
    lift_estimate,
    mean_estimate,
    shared_days,
)


def test_days_count_only_where_every_arm_was_live() -> None:
    arm, day = np.array([0, 0, 1, 1, 0]), np.array([1, 2, 2, 3, 3])
    assert shared_days(arm, day, [0, 1]).tolist() == [2, 3]
    assert shared_days(arm, day, []).tolist() == []


def test_a_mean_by_hand() -> None:
    arm, day = np.array([0, 0, 0, 1]), np.array([1, 1, 2, 1])
    means = arm_means(arm, day, np.arange(4), np.array([1.0, 0.0, 9.0, 1.0]), [0, 1])
    assert (means[0].value, means[1].value) == (0.5, 1.0)  # day 2 had no choice of arm 1
    assert (means[0].choices, means[0].units) == (2, 2)
    assert arm_means(arm, day, np.arange(4), np.zeros(4), [0, 7]) == {}


def test_a_share_raised_on_a_good_day_does_not_look_like_a_better_policy() -> None:
    # Both arms are alike: 0.1 on the first day, 0.9 on the second. Arm 1 gets 10 % of the first and 90 % of the second.
    rng = np.random.default_rng(5)
    day = np.repeat([0, 1], 20_000)
    arm = np.concatenate([rng.random(20_000) < 0.1, rng.random(20_000) < 0.9]).astype(np.int64)
    reward = (rng.random(40_000) < np.where(day == 0, 0.1, 0.9)).astype(float)
    naive = reward[arm == 1].mean() / reward[arm == 0].mean() - 1
    means = arm_means(arm, day, np.arange(40_000), reward, [0, 1])
    lift = lift_estimate(means[1], means[0], np.arange(40_000))
    assert naive > 3
    assert lift.low is not None and lift.high is not None and lift.low < 0 < lift.high


def test_choices_of_one_unit_are_not_independent() -> None:
    # Ten choices of each unit, all alike: they carry the information of one.
    unit = np.repeat(np.arange(100), 10)
    value = np.repeat(np.random.default_rng(1).random(100), 10)
    influence = (value - value.mean()) / len(value)
    assert clustered_error(influence, unit) == pytest.approx(value[::10].std(ddof=1) / 10, rel=1e-6)
    assert clustered_error(influence, unit) > 3 * clustered_error(influence, np.arange(1000))
    assert clustered_error(np.zeros(5), np.arange(5)) == 0.0


def test_the_interval_of_a_lift_covers_the_truth() -> None:
    rng, hits = np.random.default_rng(11), 0
    for _ in range(300):
        unit = np.repeat(np.arange(400), 5)
        arm = (np.arange(400) % 2)[unit]
        member = rng.gamma(4, 0.25, 400)[unit]
        reward = rng.poisson(member * np.where(arm == 1, 1.2, 1.0)).astype(float)
        means = arm_means(arm, np.zeros(2000, np.int64), unit, reward, [0, 1])
        lift = lift_estimate(means[1], means[0], unit)
        assert lift.low is not None and lift.high is not None
        hits += lift.low <= 20.0 <= lift.high
    assert 0.91 <= hits / 300 <= 0.985


def test_too_few_units_and_a_baseline_of_nothing_are_refused() -> None:
    arm, unit = np.repeat([0, 1], 20), np.arange(40)
    means = arm_means(arm, np.zeros(40, np.int64), unit, np.ones(40), [0, 1])
    assert lift_estimate(means[1], means[0], unit).refused == "20 units of 30 needed in the smaller arm"
    assert mean_estimate(means[0], unit).refused == "20 units of 30 needed"
    arm, unit = np.repeat([0, 1], 100), np.arange(200)
    nothing = arm_means(arm, np.zeros(200, np.int64), unit, arm.astype(float), [0, 1])
    assert lift_estimate(nothing[1], nothing[0], unit).refused == "the baseline is not clearly above zero"
