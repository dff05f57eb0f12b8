"""What the arms of a decision brought, from its logged choices: means by arm and by day, with intervals by unit.

Members were assigned to arms at random and stay in them, so arms may be compared directly. A day counts only if every
arm that is compared was live on it, and counts alike for each of them: a share that was raised on a good day would
otherwise look like a better policy. Choices of one unit depend on each other, so errors are clustered by unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from matinee.console.pages import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Codes = NDArray[np.int64]

Z = 1.959963984540054
MIN_UNITS = 30  # a clustered normal interval from fewer units is too narrow to be shown


@dataclass(frozen=True, slots=True)
class ArmMean:
    """Mean reward of an arm, with the influence of each choice on it.

    Attributes:
        value: Mean over the days that count, each weighted alike in every arm.
        influence: What each choice adds to the error, shape (choices,); zero for other arms.
        choices, units: How many carry it.
    """

    value: float
    influence: Floats
    choices: int
    units: int


def shared_days(arm: Codes, day: Codes, arms: Sequence[int]) -> Codes:
    """Days on which every one of these arms made a choice."""
    days = [set(np.unique(day[arm == a]).tolist()) for a in arms]
    return np.array(sorted(set.intersection(*days)) if days else [], np.int64)


def arm_means(arm: Codes, day: Codes, unit: Codes, reward: Floats, arms: Sequence[int]) -> dict[int, ArmMean]:
    """Mean reward of each arm over the days they share.

    Args:
        arm, day, unit: Codes of each choice, shape (choices,).
        reward: Of each choice, shape (choices,).
        arms: Which arms are compared.

    Returns:
        By arm; empty when they share no day.

    Example:
        >>> arm, day, unit = np.array([0, 0, 1, 1]), np.zeros(4, np.int64), np.arange(4)
        >>> means = arm_means(arm, day, unit, np.array([1.0, 0.0, 1.0, 1.0]), [0, 1])
        >>> means[0].value, means[1].value
        (0.5, 1.0)
    """
    days = shared_days(arm, day, arms)
    inside = np.isin(day, days) & np.isin(arm, np.asarray(arms))
    if not inside.any():
        return {}
    weight = {int(d): float(np.count_nonzero(inside & (day == d))) for d in days}
    total = sum(weight.values())
    out = {}
    for a in arms:
        mine = inside & (arm == a)
        value, influence = 0.0, np.zeros(len(reward))
        for d in days.tolist():
            here = mine & (day == d)
            n = int(np.count_nonzero(here))
            mean = float(reward[here].mean())
            share = weight[d] / total
            value += share * mean
            influence[here] = share * (reward[here] - mean) / n
        out[int(a)] = ArmMean(value, influence, int(np.count_nonzero(mine)), len(np.unique(unit[mine])))
    return out


def clustered_error(influence: Floats, unit: Codes) -> float:
    """Standard error of a sum of influences, choices of one unit taken together (Liang and Zeger, 1986)."""
    used = influence != 0
    if not used.any():
        return 0.0
    codes = np.unique(unit[used], return_inverse=True)[1]
    sums = np.bincount(codes, weights=influence[used])
    k = len(sums)
    small = k / (k - 1) if k > 1 else 1.0
    return math.sqrt(small * float(np.sum(sums**2)))


def mean_estimate(mean: ArmMean, unit: Codes, *, reference: float = 0.0, baseline: bool = False) -> Estimate:
    """The mean of an arm with its 95 % interval, or a refusal when too few units carry it."""
    if mean.units < MIN_UNITS:
        return Estimate(
            None, refused=f"{mean.units} units of {MIN_UNITS} needed", reference=reference, baseline=baseline
        )
    half = Z * clustered_error(mean.influence, unit)
    return Estimate(mean.value, mean.value - half, mean.value + half, reference=reference, baseline=baseline)


def lift_estimate(ours: ArmMean, base: ArmMean, unit: Codes) -> Estimate:
    """How much more one arm brings than another, in per cent, with its 95 % interval (delta method for a ratio).

    Refused when too few units carry either, or when the baseline is not clearly above zero: a ratio to nearly nothing
    means nothing.
    """
    fewest = min(ours.units, base.units)
    if fewest < MIN_UNITS:
        return Estimate(None, unit="%", signed=True, refused=f"{fewest} units of {MIN_UNITS} needed in the smaller arm")
    error = clustered_error(base.influence, unit)
    if base.value <= 0 or base.value < 3 * error:
        return Estimate(None, unit="%", signed=True, refused="the baseline is not clearly above zero")
    ratio = ours.value / base.value
    influence = (ours.influence - ratio * base.influence) / base.value
    half = 100 * Z * clustered_error(influence, unit)
    value = 100 * (ratio - 1)
    return Estimate(value, value - half, value + half, unit="%", signed=True)
