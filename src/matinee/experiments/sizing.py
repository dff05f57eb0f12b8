"""How many units an experiment needs, and what it can see: shown before the start."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scipy import special

from matinee.checks import must
from matinee.experiments.boundaries import Design
from matinee.results import Table, number


@dataclass(frozen=True)
class Power(Table):
    """What a planned size can see.

    Attributes:
        units: Units an arm.
        smallest: Smallest true difference that is called with the power asked.
        power: That power.
        design: The boundaries.
    """

    units: int
    smallest: float
    power: float
    design: Design

    def rows(self) -> list[dict[str, Any]]:
        """One row."""
        return [{"units an arm": self.units, "smallest difference": self.smallest, "power": self.power}]

    def notes(self) -> Sequence[str]:
        """What looking at any time costs."""
        return (
            f"intervals {number(self.design.ratio(self.units))} times as wide as those of a fixed test at this size",
        )


def power(design: Design, variance: float, *, power: float = 0.8) -> Power:
    """The smallest difference the planned size can see.

    At the planned size the boundary is c standard errors, so the difference is (c + z_power) sqrt(variance / n);
    looking earlier only adds chances, so the power is at least this.

    Args:
        design: How it will be read.
        variance: Sum of the variances of the two arms (twice a unit's variance where arms are alike).
        power: Chance of calling it.

    Example:
        >>> round(power(Design(20_000), 2 * 0.9 * 0.1).smallest, 4)
        0.0095
    """
    must(variance, "variance", gt=0)
    must(power, "power", gt=0, lt=1)
    n = design.planned
    half = float(design.half_width(n, variance))
    smallest = half + float(special.ndtri(power)) * math.sqrt(variance / n)
    return Power(n, smallest, power, design)


def units_needed(
    difference: float, variance: float, *, alpha: float = 0.05, beyond: float = 0.01, power: float = 0.8
) -> int:
    """Units an arm so that a difference is called with the power asked.

    For a fixed test this is the textbook 2 (z_{1 - alpha/2} + z_power)^2 sigma^2 / difference^2; here z_{1 - alpha/2}
    is replaced by the boundary's.

    Example:
        >>> units_needed(0.0095, 2 * 0.9 * 0.1)
        20017
    """
    must(abs(difference), "difference", gt=0)
    must(variance, "variance", gt=0)
    must(power, "power", gt=0, lt=1)
    z = float(Design(1_000_000, alpha, beyond).half_width(1_000_000, 1.0)) * 1_000.0
    return math.ceil((z + float(special.ndtri(power))) ** 2 * variance / difference**2)
