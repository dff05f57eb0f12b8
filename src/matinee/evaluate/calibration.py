"""Whether stated probabilities and intervals come true: reliability, calibration error, interval coverage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from matinee.checks import must
from matinee.evaluate.intervals import skewed_interval, standard_error
from matinee.evaluate.logged import Floats, cluster_codes, numbers
from matinee.exceptions import BadInputError
from matinee.results import Table, number


@dataclass(frozen=True)
class Bin:
    """Rows of about the same stated probability.

    Attributes:
        n: Rows.
        stated: Mean stated probability.
        happened: Share that happened.
        low, high: 95% interval of `happened`, Wilson's, with clustering widening it where rows depend.
    """

    n: int
    stated: float
    happened: float
    low: float
    high: float


@dataclass(frozen=True)
class Reliability(Table):
    """Stated against happened, bin by bin, and the expected calibration error.

    Attributes:
        bins: Of equal counts, from the least to the most likely.
        error: Expected calibration error: mean of |stated - happened| over rows.
        bias: Mean stated minus share happened, and its interval `bias_low`, `bias_high`.
    """

    bins: tuple[Bin, ...]
    error: float
    bias: float
    bias_low: float
    bias_high: float

    def rows(self) -> list[dict[str, Any]]:
        """One row a bin."""
        return [{"n": b.n, "stated": b.stated, "happened": b.happened, "interval": (b.low, b.high)} for b in self.bins]

    def notes(self) -> Sequence[str]:
        """The calibration error and the overall bias."""
        span = f"[{number(self.bias_low)}, {number(self.bias_high)}]"
        return (f"calibration error {number(self.error)}; stated minus happened {number(self.bias)} {span}",)


def reliability(
    truth: ArrayLike, stated: ArrayLike, *, bins: int = 10, cluster: ArrayLike | None = None
) -> Reliability:
    """Stated probabilities against what happened, in bins of equal counts.

    Rows of the same stated probability never fall into different bins, so the result is the same in any row order.

    Args:
        truth: 0 or 1, shape (n,).
        stated: Probabilities, shape (n,).
        bins: Number of bins; fewer where probabilities tie.
        cluster: Rows that depend on each other share a label.

    Example:
        >>> print(reliability([0, 1] * 50 + [0, 0, 0, 1] * 25, [0.5] * 100 + [0.25] * 100, bins=2))
          n  stated  happened  interval
        100   0.250     0.250  [0.175, 0.343]
        100   0.500     0.500  [0.404, 0.596]
        calibration error 0; stated minus happened 0 [−0.0670, 0.0639]
    """
    must(bins, "bins", typ=int, ge=1)
    y = numbers(truth, "truth")
    p = numbers(stated, "stated", y.shape)
    if not np.isin(y, (0.0, 1.0)).all():
        raise BadInputError("truth holds values other than 0 and 1, must be events")
    if not len(y):
        raise BadInputError("truth == [], must hold at least one row")
    if p.min() < 0 or p.max() > 1:
        raise BadInputError(f"stated in [{p.min():.6g}, {p.max():.6g}], must be probabilities in [0, 1]")
    codes, clusters = cluster_codes(cluster, len(y))
    _, place, counts = np.unique(p, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2  # a level goes where the middle of its rows lies
    bin_of = np.minimum((middle * bins / len(y)).astype(np.int64), bins - 1)[place.reshape(-1)]
    found, error = [], 0.0
    for b in np.unique(bin_of):
        mine = bin_of == b
        n, said, came = int(mine.sum()), float(p[mine].mean()), float(y[mine].mean())
        effect = 1.0
        if codes is not None and 0 < came < 1:
            influence = np.where(mine, y - came, 0.0) * (len(y) / n)
            effect = max(1.0, standard_error(influence, codes, clusters) ** 2 / (came * (1 - came) / n))
        low, high = wilson(came, n / effect)
        found.append(Bin(n, said, came, low, high))
        error += n / len(y) * abs(said - came)
    gap = p - y
    around = skewed_interval(float(gap.mean()), gap - gap.mean(), codes, clusters)
    return Reliability(tuple(found), error, float(gap.mean()), around.low, around.high)


def wilson(share: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share of n: never outside [0, 1], honest at 0 and 1.

    Example:
        >>> low, high = wilson(0.0, 20)
        >>> round(low, 3), round(high, 3)
        (0.0, 0.161)
    """
    z = float(special.ndtri(0.5 + level / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class Coverage(Table):
    """How often intervals held what came, overall and by group.

    Attributes:
        nominal: Coverage the intervals claim.
        groups: One dict a group: group, n, covered, its interval, below, above, median factor.
    """

    nominal: float
    groups: tuple[dict[str, Any], ...]

    def rows(self) -> list[dict[str, Any]]:
        """One row a group, all rows together first."""
        return [dict(group) for group in self.groups]

    def notes(self) -> Sequence[str]:
        """Groups whose interval of coverage leaves out the nominal level."""
        off = [str(g["group"]) for g in self.groups if not g["interval"][0] <= self.nominal <= g["interval"][1]]
        return (f"nominal {self.nominal:.0%}" + (f"; off in {', '.join(off)}" if off else ""),)


def interval_coverage(
    truth: ArrayLike, low: ArrayLike, high: ArrayLike, *, nominal: float = 0.8, group: ArrayLike | None = None
) -> Coverage:
    """Coverage and width of stated intervals, overall and in every group: an average may hide a band that is off.

    Args:
        truth: What came, shape (n,).
        low, high: The stated intervals, shape (n,).
        nominal: The share they claim to hold.
        group: Label of each row (type, budget band, new or returning), shape (n,).

    Example:
        >>> print(interval_coverage([1.0, 5.0, 9.0, 20.0], [0.5, 4.0, 8.0, 5.0], [2.0, 8.0, 16.0, 10.0]))
        group  n  covered  interval        below  above  median factor
        all    4    0.750  [0.301, 0.954]      0  0.250              2
        nominal 80%
    """
    must(nominal, "nominal", gt=0, lt=1)
    y = numbers(truth, "truth")
    lower, upper = numbers(low, "low", y.shape), numbers(high, "high", y.shape)
    if (lower > upper).any():
        row = int(np.argmax(lower > upper))
        raise BadInputError(f"low[{row}] == {lower[row]}, must be <= high[{row}] == {upper[row]}")
    labels = None if group is None else np.asarray(group).astype(str)
    if labels is not None and labels.shape != y.shape:
        raise BadInputError(f"group.shape == {labels.shape}, must be {y.shape}")
    parts = [("all", np.ones(len(y), dtype=np.bool_))]
    parts += [] if labels is None else [(str(name), labels == name) for name in np.unique(labels)]
    return Coverage(nominal, tuple(_covered(name, y[rows], lower[rows], upper[rows]) for name, rows in parts))


def _covered(name: str, y: Floats, low: Floats, high: Floats) -> dict[str, Any]:
    held = float(((low <= y) & (y <= high)).mean())
    positive = low > 0
    factor = float(np.median(high[positive] / low[positive])) if positive.any() else None
    return {
        "group": name,
        "n": len(y),
        "covered": held,
        "interval": wilson(held, len(y)),
        "below": float((y < low).mean()),
        "above": float((y > high).mean()),
        "median factor": factor,
    }
