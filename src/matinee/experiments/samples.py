"""What a readout reads of an arm: units, mean and variance, made from rows once and added up from then on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matinee.exceptions import BadInputError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """The metric of one arm, summed up.

    Attributes:
        units: Independent units (members, not rows).
        mean: Mean of the metric; of a ratio metric, the ratio.
        variance: Variance of one unit's contribution to the mean (delta method for ratios).
        events: Of a yes-or-no metric, the count of the rarer answer; None of other metrics.
    """

    units: int
    mean: float
    variance: float
    events: int | None = None

    def __post_init__(self) -> None:
        if self.units < 0 or not math.isfinite(self.mean) or not self.variance >= 0:
            raise BadInputError(
                f"Sample(units={self.units}, mean={self.mean}, variance={self.variance}), must be counts and finite"
            )

    @classmethod
    def of_units(cls, values: ArrayLike) -> Sample:
        """From one value a unit.

        Example:
            >>> Sample.of_units([0, 1, 1, 1])
            Sample(units=4, mean=0.75, variance=0.25, events=1)
        """
        x = _finite(values, "values")
        yes = int(np.count_nonzero(x == 1))
        events = min(yes, len(x) - yes) if np.isin(x, (0.0, 1.0)).all() else None
        return cls(len(x), float(x.mean()), float(x.var(ddof=1)) if len(x) > 1 else 0.0, events)

    @classmethod
    def of_rows(cls, unit: ArrayLike, values: ArrayLike, over: ArrayLike | None = None) -> Sample:
        """From rows of which several belong to a unit: the ratio of sums, its variance by the delta method over units.

        Args:
            unit: Label of the unit of each row.
            values: Numerator of each row (seconds, clicks).
            over: Denominator of each row (sessions, impressions); None counts rows.

        Example:
            >>> found = Sample.of_rows(["ann", "ann", "bob"], [1.0, 0.0, 1.0])
            >>> found.units, round(found.mean, 3)
            (2, 0.667)
        """
        y = _finite(values, "values")
        d = np.ones_like(y) if over is None else _finite(over, "over")
        names, code = np.unique(np.asarray(unit), return_inverse=True)
        if code.reshape(-1).shape != y.shape or d.shape != y.shape:
            raise BadInputError(f"unit has {code.size} and over {d.size} values, must be {y.size} as values")
        k = len(names)
        top, bottom = np.bincount(code.reshape(-1), y, k), np.bincount(code.reshape(-1), d, k)
        if bottom.sum() <= 0:
            raise BadInputError("over.sum() == 0, must be > 0")
        ratio = float(top.sum() / bottom.sum())
        part = (top - ratio * bottom) / bottom.mean()
        return cls(k, ratio, float(part @ part / (k - 1)) if k > 1 else 0.0)


def _finite(values: ArrayLike, name: str) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not len(x):
        raise BadInputError(f"{name}.shape == {x.shape}, must be one-dimensional and hold at least one value")
    if not np.isfinite(x).all():
        raise BadInputError(f"{name}[{int(np.argmax(~np.isfinite(x)))}] is not finite, must be a number")
    return x


def cuped(values: ArrayLike, before: ArrayLike) -> Floats:
    """The metric with what was known before the start taken out: Y - theta (X - mean X), theta = cov(Y, X) / var(X).

    Fit it on all arms together. Units without a past (NaN) get their own mean instead of a made-up past of zero: their
    values are moved by a constant that keeps the mean of all. Deng, Xu, Kohavi and Walker (2013).

    Args:
        values: The metric of each unit, all arms, shape (units,).
        before: The same or a related metric from before the start, NaN for new units, shape (units,).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> past = rng.normal(size=10_000)
        >>> now = past + 0.5 * rng.normal(size=10_000)
        >>> adjusted = cuped(now, past)
        >>> bool(abs(adjusted.mean() - now.mean()) < 1e-9), bool(adjusted.var() < 0.25 * now.var())
        (True, True)
    """
    y = _finite(values, "values")
    x = np.asarray(before, dtype=np.float64)
    if x.shape != y.shape:
        raise BadInputError(f"before.shape == {x.shape}, must be {y.shape}")
    known = np.isfinite(x)
    if known.sum() < 2 or np.ptp(x[known]) == 0:
        return y.copy()
    old = x[known] - x[known].mean()
    theta = float(old @ y[known] / (old @ old))
    adjusted = y.copy()
    adjusted[known] -= theta * old
    return adjusted
