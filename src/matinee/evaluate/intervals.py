"""Intervals for means of clustered, skewed terms, and the lower bound that makes a release safe."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from matinee.checks import must
from matinee.evaluate.logged import Floats, Ints

NARROW_UP_TO, CUBIC_FROM = 0.35, 0.55  # |r| at which one transformation hands over to the other
SMALLEST_LOG = 0.02  # of high levels the exponential runs into its pole; the cubic has none


@dataclass(frozen=True)
class Interval:
    """A two-sided interval and what it was made of.

    Attributes:
        low, high: The limits.
        se: Clustered standard error of the value.
        skew: Skewness of the studentised mean, third standardised moment over sqrt(clusters).
    """

    low: float
    high: float
    se: float
    skew: float


def cluster_sums(terms: Floats, codes: Ints | None, clusters: int) -> Floats:
    """Sum of the terms within each cluster, shape (clusters,)."""
    if codes is None:
        return terms
    return np.bincount(codes, weights=terms, minlength=clusters).astype(np.float64, copy=False)


def standard_error(influence: Floats, codes: Ints | None, clusters: int) -> float:
    """Clustered standard error of a mean: sqrt(sum of squared cluster sums) / n, with C / (C - 1).

    Args:
        influence: Centred terms, shape (n,): the value is their mean before centring.
        codes: Cluster of each row, 0..C-1, or None where each row stands alone.
        clusters: C.

    Example:
        >>> round(standard_error(np.array([-1.0, 1.0]), None, 2), 6)
        1.0
    """
    sums = cluster_sums(influence, codes, clusters)
    if clusters < 2:
        return math.inf
    return float(np.sqrt((sums @ sums) * clusters / (clusters - 1)) / influence.shape[0])


def skewed_interval(
    value: float, influence: Floats, codes: Ints | None, clusters: int, level: float = 0.95
) -> Interval:
    """Interval of a mean whose studentised statistic is transformed to take its skewness out.

    The terms of off-policy estimates of rare rewards are so skewed that mean ± 1.96 se covers 85-93%, always missing
    on the same side. With r = skewness / sqrt(clusters), two monotone transformations of the t-statistic T remove the
    first-order effect,

        exponential   (exp(2 r T / 3) - 1) / (2 r / 3) + r / 6        (Zhou and Dinh, 2005)
        cubic         T + r T^2 / 3 + r^2 T^3 / 27 + r / 6            (Hall, 1992)

    and are inverted in closed form, so the interval needs no resampling, is the same in any row order, and becomes the
    ordinary t-interval as r goes to 0. Up to |r| = .35 the first is used, which is narrower; from .55 on the second,
    which stays finite; between them a mixture. Measured on logs of 80 items with about 20 and 40 clicks it covers 95%
    and 96.5%; the t-interval covers 85-93%, empirical likelihood 90-94%, the bootstrap-t 93%.

    Args:
        value: The estimate.
        influence: Centred terms, shape (n,).
        codes: Cluster of each row, or None.
        clusters: Number of clusters; Student's t has one degree of freedom less.
        level: Two-sided coverage wanted.

    Example:
        >>> x = np.array([0.0] * 95 + [1.0] * 5)
        >>> found = skewed_interval(0.05, x - 0.05, None, 100)
        >>> round(found.low, 3), round(found.high, 3)
        (0.016, 0.119)
    """
    must(level, "level", gt=0, lt=1)
    sums = cluster_sums(influence, codes, clusters)
    se = standard_error(influence, codes, clusters)
    if not math.isfinite(se):
        return Interval(-math.inf, math.inf, se, 0.0)
    second = float(sums @ sums) / clusters
    if second <= 0:
        return Interval(value, value, 0.0, 0.0)
    scaled = sums / math.sqrt(second)
    skew = float((scaled * scaled) @ scaled) / clusters / math.sqrt(clusters)
    quantile = float(special.stdtrit(clusters - 1, 0.5 + level / 2))
    return Interval(value - se * _untransformed(quantile, skew), value - se * _untransformed(-quantile, skew), se, skew)


def _untransformed(quantile: float, skew: float) -> float:
    """The T at which the transformation gives the quantile."""
    if abs(skew) < 1e-6:
        return quantile
    centred = quantile - skew / 6.0
    share = min(1.0, max(0.0, (abs(skew) - NARROW_UP_TO) / (CUBIC_FROM - NARROW_UP_TO)))
    cubic = 3.0 / skew * (float(np.cbrt(1.0 + skew * centred)) - 1.0)
    inside = 1.0 + 2.0 * skew / 3.0 * centred
    if share == 1.0 or inside <= SMALLEST_LOG:
        return cubic
    return share * cubic + (1.0 - share) * math.log(inside) * 1.5 / skew


def empirical_bernstein(
    terms: Floats, codes: Ints | None, clusters: int, *, spread: float | None = None, delta: float = 0.05
) -> float:
    """A lower bound of the mean that holds at any sample size: what "safe to deploy" is judged by.

    mean - sqrt(2 V ln(2/delta) / C) - 7 b ln(2/delta) / (3 (C - 1)) over cluster totals (Maurer and Pontil, 2009).

    Args:
        terms: Bounded terms whose mean is the value, not centred, shape (n,).
        codes: Cluster of each row, or None.
        clusters: Number of clusters C.
        spread: Range b of one row's term; the observed range where it is not known beforehand.
        delta: Chance of error.

    Example:
        >>> round(empirical_bernstein(np.tile([0.0, 1.0], 5_000), None, 10_000, spread=1.0), 3)
        0.486
    """
    must(delta, "delta", gt=0, lt=1)
    if clusters < 2:
        return -math.inf
    n = terms.shape[0]
    totals = cluster_sums(terms, codes, clusters) * (clusters / n)  # their mean is the mean over rows
    if codes is None:
        b = float(np.ptp(terms)) if spread is None else spread
    else:
        # A cluster's total can range as far as its largest size allows.
        largest = int(np.bincount(codes, minlength=clusters).max())
        b = float(np.ptp(totals)) if spread is None else spread * largest * clusters / n
    log = math.log(2.0 / delta)
    variance = float(totals.var(ddof=1))
    return float(totals.mean()) - math.sqrt(2 * variance * log / clusters) - 7 * b * log / (3 * (clusters - 1))
