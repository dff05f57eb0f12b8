"""Boundaries that allow looking at any time: half-widths of intervals for a difference, and their p-values.

Two of them, alone or together:

- planned: an O'Brien-Fleming-type boundary for continuous looks up to a planned number of units n,
  |z_t| >= c sqrt(n / t) with 4 (1 - Phi(c)) = alpha. At n it is 1.14 times as wide as a fixed test;
  early looks are wider.
- open-ended: an asymptotic confidence sequence, normal mixture (Robbins, 1970; Waudby-Smith, Arbour, Sinha, Kennedy and
  Ramdas, 2021), never below 1.55 times the fixed test however it is tuned, but valid for ever.

Together alpha is split: the boundary up to n, the sequence after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from matinee.checks import must

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Design:
    """How an experiment will be read, fixed before it starts.

    Args:
        planned: Units an arm at which it is meant to end.
        alpha: Chance of ever calling a difference that is not there, over all looks.
        beyond: The part of alpha kept for looks after `planned`. 0: nothing can be concluded after it. Equal to
            `alpha`: open-ended from the first look, narrowest near `planned`.

    Example:
        >>> round(Design(10_000, beyond=0.0).ratio(10_000), 3)          # against a fixed test at the planned size
        1.144
        >>> round(Design(10_000).ratio(10_000), 3)
        1.187
        >>> round(Design(10_000, beyond=0.05).ratio(10_000), 3)
        1.549
    """

    planned: int
    alpha: float = 0.05
    beyond: float = 0.01

    def __post_init__(self) -> None:
        must(self.planned, "planned", typ=int, gt=0)
        must(self.alpha, "alpha", gt=0, lt=1)
        must(self.beyond, "beyond", ge=0, le=self.alpha)

    @property
    def critical(self) -> float:
        """c of the planned boundary, infinite where all of alpha is kept for the sequence."""
        spent = self.alpha - self.beyond
        return math.inf if spent <= 0 else float(-special.ndtri(spent / 4))

    @property
    def _mixture(self) -> float:
        """rho^2 of the sequence: narrowest at `planned` where it stands alone, at twice that where it takes over."""
        return _best_mixture(self.beyond) / (self.planned if self.beyond == self.alpha else 2 * self.planned)

    def half_width(self, units: ArrayLike, variance: ArrayLike) -> Floats:
        """Half-width of the interval of a difference at each look; infinite where nothing may be concluded.

        Args:
            units: Units an arm so far, any shape.
            variance: Sum of the variances of the two arms, same shape or one number.
        """
        t = np.asarray(units, dtype=np.float64)
        v = np.asarray(variance, dtype=np.float64)
        before = t <= self.planned
        with np.errstate(divide="ignore", invalid="ignore"):
            width = np.where(before, self.critical * math.sqrt(self.planned) * np.sqrt(v) / t, math.inf)
            if self.beyond > 0:
                sequence = _sequence(t, v, self._mixture, self.beyond)
                width = np.where(before & np.isfinite(width), width, sequence)
        return np.where(t > 0, width, math.inf)

    def ratio(self, units: float) -> float:
        """Width against that of a fixed test at the same size and alpha."""
        fixed = -float(special.ndtri(self.alpha / 2)) / math.sqrt(units)
        return float(self.half_width(units, 1.0)) / fixed

    def p_value(self, difference: float, units: float, variance: float) -> float:
        """The smallest alpha, split in the same proportion, at which this look would call a difference."""
        if units <= 0 or variance <= 0:
            return 1.0
        z = abs(difference) * math.sqrt(units / variance)
        kept = self.beyond / self.alpha
        if units <= self.planned and kept < 1:
            return min(1.0, 4 * float(special.ndtr(-z * math.sqrt(units / self.planned))) / (1 - kept))
        if kept == 0:
            return 1.0
        u = units * self._mixture
        return min(1.0, math.sqrt(u + 1) * math.exp(-0.5 * z * z * u / (u + 1)) / kept)

    def units_to_see(self, difference: float, variance: float) -> int | None:
        """Units an arm at which this difference, if it stays, would be called; None where it never would be."""
        if difference == 0 or variance <= 0:
            return None
        if math.isfinite(self.critical):
            needed = self.critical * math.sqrt(self.planned * variance) / abs(difference)
            if needed <= self.planned:
                return math.ceil(needed)
            if self.beyond == 0:
                return None
        low, high = 1.0, 2.0 * self.planned
        while float(self.half_width(high, variance)) > abs(difference):
            low, high = high, high * 2
            if high > 1e15:
                return None
        for _ in range(60):
            middle = 0.5 * (low + high)
            if float(self.half_width(middle, variance)) > abs(difference):
                low = middle
            else:
                high = middle
        return math.ceil(high)


def _sequence(t: Floats, v: Floats, rho2: float, alpha: float) -> Floats:
    u = t * rho2
    width: Floats = np.sqrt(v / t) * np.sqrt(2 * (u + 1) / u * np.log(np.sqrt(u + 1) / alpha))
    return width


def _best_mixture(alpha: float) -> float:
    """u = t rho^2 at which the sequence is narrowest against a fixed test.

    The derivative of (u + 1) / u ln(sqrt(u + 1) / alpha) vanishes where u / 2 = ln(sqrt(u + 1) / alpha); at
    alpha = .05 that is u = 8.2.
    """
    u = 8.0
    for _ in range(100):
        u = 2 * (0.5 * math.log(u + 1) - math.log(alpha))
    return u
