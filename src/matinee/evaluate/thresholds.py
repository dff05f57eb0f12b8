"""When an evaluation refuses to give a number, and what it would take: the only place that holds these limits."""

from __future__ import annotations

from dataclasses import dataclass

from matinee.checks import must
from matinee.evaluate.logged import Floats
from matinee.results import number


@dataclass(frozen=True)
class Thresholds:
    """The limits below which the data cannot carry a number. Each has a default that a caller may tighten or loosen.

    | limit | default | why |
    |---|---|---|
    | `effective_n` | 50 | fewer equally weighted rows than this and one row decides the value |
    | `unsupported_mass` | .05 | policy mass on actions the log never shows, or shows below `propensity_floor` |
    | `propensity_floor` | 1e-5 | below it a propensity is a rounding error, not exploration |
    | `mean_weight_errors` | 4 | the mean weight must be 1; this many standard errors away it is not, ... |
    | `mean_weight_slack` | .05 | ... and away by more than this: the logged probabilities are wrong |
    | `events` | 10 | effective number of events, below which every interval that we measured covers less than it says |
    | `clusters` | 20 | a clustered interval from fewer clusters is not trusted |
    | `open_share` | 0 | choices whose outcome window is not yet closed |
    """

    effective_n: float = 50.0
    unsupported_mass: float = 0.05
    propensity_floor: float = 1e-5
    mean_weight_errors: float = 4.0
    mean_weight_slack: float = 0.05
    events: float = 10.0
    clusters: int = 20
    open_share: float = 0.0

    def __post_init__(self) -> None:
        must(self.effective_n, "effective_n", ge=1)
        must(self.unsupported_mass, "unsupported_mass", ge=0, le=1)
        must(self.propensity_floor, "propensity_floor", ge=0, lt=1)
        must(self.mean_weight_errors, "mean_weight_errors", gt=0)
        must(self.mean_weight_slack, "mean_weight_slack", ge=0)
        must(self.events, "events", ge=0)
        must(self.clusters, "clusters", ge=2)
        must(self.open_share, "open_share", ge=0, le=1)


@dataclass(frozen=True)
class Refusal:
    """Why there is no number, and what it would take to have one.

    Attributes:
        kind: `overlap`, `effective n`, `weights`, `events`, `clusters` or `open window`.
        reason: What is wrong, with the figure and the limit.
        missing: What to do: more rows, more exploration and where, or when to come back.
    """

    kind: str
    reason: str
    missing: str


@dataclass(frozen=True)
class Overlap:
    """How well the log covers the policy: what refusals are decided on.

    Attributes:
        n: Rows.
        clusters: Independent clusters.
        effective_n: (sum w)^2 / sum w^2; 0 when no row carries weight.
        mean_weight: Mean importance weight; 1 when the propensities are right and the log covers the policy.
        mean_weight_se: Its clustered standard error.
        unsupported: Share of the policy's mass on actions without support.
        events: Effective number of events (clicks, sales): (sum e)^2 / sum e^2, where e is a row's weight times the
            distance of its reward from the median reward.
        open_rows: Rows whose outcome window is not closed.
        known_unsupported: The part of it that the log was told of, on actions with no propensity at all.
        heaviest: Actions that carry most of the sum of squared weights.
    """

    n: int
    clusters: int
    effective_n: float
    mean_weight: float
    mean_weight_se: float
    unsupported: float
    events: float
    open_rows: int
    known_unsupported: float = 0.0
    heaviest: tuple[str, ...] = ()


def effective_size(weights: Floats) -> float:
    """Number of equally weighted choices that carry the same information: (sum w)^2 / sum w^2 (Kish, 1965).

    Example:
        >>> import numpy as np
        >>> effective_size(np.array([1.0, 1.0, 2.0, 0.0]))
        2.6666666666666665
        >>> effective_size(np.zeros(3))
        0.0
    """
    top = float(weights.max(initial=0.0))
    if top <= 0:
        return 0.0
    scaled = weights / top  # squares of tiny weights would underflow
    return float(scaled.sum() ** 2 / (scaled @ scaled))


def refusals(overlap: Overlap, limits: Thresholds) -> tuple[Refusal, ...]:
    """Every reason not to give a number, the most telling first; empty when there is none.

    Example:
        >>> never = Overlap(n=100, clusters=100, effective_n=0.0, mean_weight=0.0, mean_weight_se=0.0,
        ...                 unsupported=1.0, events=0.0, open_rows=0)
        >>> [refusal.kind for refusal in refusals(never, Thresholds())]
        ['overlap', 'effective n']
    """
    found: list[Refusal] = []
    where = f" of {', '.join(overlap.heaviest)}" if overlap.heaviest else " of what the policy prefers"
    if overlap.open_rows > limits.open_share * overlap.n:
        found.append(
            Refusal(
                "open window",
                f"the outcome window of {number(overlap.open_rows)} of {number(overlap.n)} choices is not closed",
                "wait until their windows close, or evaluate the closed choices only",
            )
        )
    if overlap.unsupported > limits.unsupported_mass:
        found.append(
            Refusal(
                "overlap",
                f"{overlap.unsupported:.0%} of the policy's choices are actions the log never or hardly shows, "
                f"must be <= {limits.unsupported_mass:.0%}",
                f"log with exploration{where}, or keep the policy to actions that were tried",
            )
        )
    if overlap.effective_n < limits.effective_n:
        if overlap.effective_n > 0:
            rows = overlap.n * (limits.effective_n / overlap.effective_n - 1)
            missing = f"about {number(_rounded(rows))} more rows logged the same way, or more exploration{where}"
        else:
            missing = f"exploration{where}: no logged choice is one the policy would make"
        found.append(
            Refusal(
                "effective n",
                f"effective n == {number(overlap.effective_n)}, must be >= {number(limits.effective_n)}",
                missing,
            )
        )
    if overlap.effective_n == 0:
        return tuple(found)  # nothing to weigh or to count: what follows would only repeat it
    # What is known to be out of the log's reach lowers the mean weight by as much.
    gap = abs(overlap.mean_weight - (1.0 - overlap.known_unsupported))
    if gap > limits.mean_weight_slack and gap > limits.mean_weight_errors * overlap.mean_weight_se:
        found.append(
            Refusal(
                "weights",
                f"mean weight == {number(overlap.mean_weight)} ± {number(overlap.mean_weight_se)}, must be 1",
                "check that the logged probabilities are those of the draw itself, after guards and edits, and that "
                "the log covers the policy's actions",
            )
        )
    if overlap.events < limits.events:
        found.append(
            Refusal(
                "events",
                f"{number(overlap.events)} effective events among the choices the policy would share, "
                f"must be >= {number(limits.events)}",
                _more_events(overlap, limits),
            )
        )
    if overlap.clusters < limits.clusters:
        found.append(
            Refusal(
                "clusters",
                f"{number(overlap.clusters)} independent clusters, must be >= {limits.clusters}",
                f"{limits.clusters - overlap.clusters} more units (members, purchases), not more rows of the same ones",
            )
        )
    return tuple(found)


def _more_events(overlap: Overlap, limits: Thresholds) -> str:
    if not overlap.events:
        return "a longer log, or a reward that occurs more often"
    rows = overlap.n * (limits.events / overlap.events - 1)
    return f"about {number(_rounded(rows))} more rows at the same rate, or a reward that occurs more often"


def _rounded(rows: float) -> int:
    """Two significant digits: a forecast of need is no count."""
    size = 10 ** max(0, len(str(int(rows))) - 2)
    return int(-(-rows // size) * size)
