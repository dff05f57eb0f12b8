"""Sample ratio check: whether the arms have the shares they were promised, valid at every look."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import special

from matinee.checks import must
from matinee.exceptions import BadInputError
from matinee.results import Table, number

BLOCK_BELOW = 0.001
PRIOR_UNITS = 1_000.0


@dataclass(frozen=True)
class RatioCheck(Table):
    """Counts by arm against the shares promised.

    Attributes:
        counts: Units exposed, by arm.
        shares: Promised share, by arm.
        p: Always-valid p-value: under the promised shares the chance that it is *ever* below x is at most x.
        p_fixed: Chi-square p-value of one look; for comparison only.
    """

    counts: dict[str, int]
    shares: dict[str, float]
    p: float
    p_fixed: float

    @property
    def passed(self) -> bool:
        """Whether the readout may be read: p is not below .001."""
        return self.p >= BLOCK_BELOW

    def rows(self) -> list[dict[str, Any]]:
        """One row an arm: exposed, expected, share seen and promised."""
        total = sum(self.counts.values())
        return [
            {
                "arm": arm,
                "exposed": count,
                "expected": total * self.shares[arm],
                "share": count / total if total else None,
                "promised": self.shares[arm],
            }
            for arm, count in self.counts.items()
        ]

    def notes(self) -> Sequence[str]:
        """The verdict."""
        if self.passed:
            return (f"sample ratio as promised (always-valid p {number(self.p)})",)
        return (
            f"sample ratio mismatch: always-valid p {self.p:.2g} < {BLOCK_BELOW}; the readout is blocked",
            "look for units counted at different places in different arms, crashes, redirects, bots and late joins",
        )


def ratio_check(
    counts: Mapping[str, int], shares: Mapping[str, float], *, earlier: float = 1.0, prior: float = PRIOR_UNITS
) -> RatioCheck:
    """Compare exposed units by arm with the promised shares; may be called at every look.

    The Bayes factor of "any shares" (Dirichlet around the promise, worth `prior` units) against the promise is a
    martingale under the promise; one over it is an always-valid p-value (Lindon and Malek, 2022). A chi-square test
    repeated at each look would find a mismatch in healthy experiments.

    Count units where both arms are exposed alike, not at login: an arm that crashes before exposure loses units.

    Args:
        counts: Units exposed, by arm.
        shares: Promised shares, by arm, summing to 1.
        earlier: The smallest p of earlier looks, if kept: evidence of a mismatch does not expire.
        prior: How many units the promise is worth; more finds small deviations sooner, fewer large ones.

    Raises:
        BadInputError: Arms differ, a count is negative, shares do not sum to 1.

    Example:
        >>> ratio_check({"a": 5_021, "b": 4_979}, {"a": 0.5, "b": 0.5}).passed
        True
        >>> ratio_check({"a": 5_300, "b": 4_700}, {"a": 0.5, "b": 0.5}).passed
        False
    """
    if set(counts) != set(shares):
        raise BadInputError(f"counts hold arms {sorted(counts)}, must be those of shares, {sorted(shares)}")
    if abs(sum(shares.values()) - 1.0) > 1e-6:
        raise BadInputError(f"shares sum to {sum(shares.values()):.6g}, must sum to 1")
    must(earlier, "earlier", ge=0, le=1)
    must(prior, "prior", gt=0)
    for arm, count in counts.items():
        must(count, f"counts[{arm!r}]", ge=0)
    total = sum(counts.values())
    if any(count > 0 and shares[arm] == 0 for arm, count in counts.items()):
        return RatioCheck(dict(counts), dict(shares), 0.0, 0.0)
    factor = math.lgamma(prior) - math.lgamma(prior + total)
    chi = 0.0
    arms = [arm for arm in counts if shares[arm] > 0]
    for arm in arms:
        count, share = counts[arm], shares[arm]
        factor += math.lgamma(prior * share + count) - math.lgamma(prior * share) - count * math.log(share)
        if total:
            chi += (count - total * share) ** 2 / (total * share)
    p_fixed = float(special.chdtrc(len(arms) - 1, chi)) if len(arms) > 1 else 1.0
    return RatioCheck(dict(counts), dict(shares), min(earlier, 1.0, math.exp(min(0.0, -factor))), p_fixed)
