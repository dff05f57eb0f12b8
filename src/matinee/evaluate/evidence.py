"""What an evaluation says: a value with its interval and what carries it, or a refusal with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from matinee.evaluate.estimators import METHODS, UNBIASED, Terms, terms
from matinee.evaluate.intervals import Interval, skewed_interval, standard_error
from matinee.evaluate.logged import Floats, Logged, SlateLog
from matinee.evaluate.slates import SLATE_METHODS, slate_terms, slate_weights
from matinee.evaluate.thresholds import Overlap, Refusal, Thresholds, effective_size, refusals
from matinee.results import Table, number

HEAVIEST = 3  # actions a refusal names


@dataclass(frozen=True)
class Evidence(Table):
    """One estimate of a policy's value, or the refusal to give one.

    Attributes:
        policy: Name of the policy evaluated.
        method: The estimator.
        value: Mean reward a choice of the policy would bring; None when refused.
        low, high: Interval at `level`, clustered and corrected for skewness; None when refused.
        se: Clustered standard error; None when refused.
        level: Coverage the interval claims.
        effective_n: Equally weighted rows that would carry the same information.
        n, clusters: Rows and independent clusters.
        mean_weight, mean_weight_se: A free test of the log: 1 within its error.
        correction: Share of a doubly robust value that comes from the residuals; None for other methods.
        lam: Clipping, switching or shrinkage constant; None where the method has none or it was not needed.
        refused: Why there is no value; None when there is one.
        missing: What it would take.
        refusals: All reasons, the most telling first.
        estimated: The propensities were estimated, not logged: a weaker claim.
    """

    policy: str
    method: str
    value: float | None
    low: float | None
    high: float | None
    se: float | None
    level: float
    effective_n: float
    n: int
    clusters: int
    mean_weight: float
    mean_weight_se: float
    correction: float | None = None
    lam: float | None = None
    refusals: tuple[Refusal, ...] = ()
    estimated: bool = False

    @property
    def refused(self) -> str | None:
        """The most telling reason why there is no value; None when there is one."""
        return self.refusals[0].reason if self.refusals else None

    @property
    def missing(self) -> str | None:
        """What it would take to have a value; None when there is one."""
        return self.refusals[0].missing if self.refusals else None

    @property
    def unbiased(self) -> bool:
        """Whether the interval claims to cover the truth; a model's or a clipped estimate covers only its own mean."""
        return self.method in UNBIASED or self.method in SLATE_METHODS

    def rows(self) -> list[dict[str, Any]]:
        """One row: policy, method, value, interval, effective n, n, clusters, mean weight and error, correction."""
        return [
            {
                "policy": self.policy,
                "method": self.method,
                "value": self.value,
                "interval": (self.low, self.high),
                "effective n": round(self.effective_n),
                "n": self.n,
                "clusters": self.clusters,
                "mean weight": self.mean_weight,
                "its error": self.mean_weight_se,
                "correction": self.correction,
                "lambda": self.lam,
                "refused": self.refused,
                "missing": self.missing,
            }
        ]

    def notes(self) -> Sequence[str]:
        """The refusal and what it would take; that propensities were estimated."""
        lines = [f"no value: {r.reason}; {r.missing}" for r in self.refusals]
        if self.estimated:
            lines.append("propensities estimated, not logged: the interval leaves out their error")
        return tuple(lines)

    def __str__(self) -> str:
        return _text([self], self.notes())


def _text(evidence: Sequence[Evidence], notes: Sequence[str]) -> str:
    """The table as printed: columns that are empty everywhere are left out, refusals stand in the notes."""
    from matinee.results import text_table

    rows = [row for one in evidence for row in one.rows()]
    hidden = {"refused", "missing"} | {k for k in ("correction", "lambda") if all(r[k] is None for r in rows)}
    return "\n".join([text_table([{k: v for k, v in r.items() if k not in hidden} for r in rows]), *notes])


@dataclass(frozen=True)
class EvidenceTable(Table):
    """All estimators side by side, the headline (DR, or what is nearest to it) first.

    Attributes:
        evidence: One `Evidence` an estimator.
    """

    evidence: tuple[Evidence, ...]

    @property
    def headline(self) -> Evidence:
        """The estimate to act on: doubly robust where there is a reward model."""
        return self.evidence[0]

    def __getitem__(self, method: str) -> Evidence:
        for one in self.evidence:
            if one.method == method:
                return one
        from matinee.exceptions import UnknownNameError

        raise UnknownNameError("method", method, [one.method for one in self.evidence])

    def rows(self) -> list[dict[str, Any]]:
        """One row an estimator, the headline first."""
        return [row for one in self.evidence for row in one.rows()]

    def notes(self) -> Sequence[str]:
        """What to read the table by, and refusals."""
        lines = [f"headline: {self.headline.method}"]
        biased = [one.method for one in self.evidence if one.value is not None and not one.unbiased]
        if biased:
            lines.append(f"{', '.join(biased)}: the interval leaves out the bias of the model or the clipping")
        return (*lines, *self.headline.notes())

    def __str__(self) -> str:
        return _text(self.evidence, self.notes())


def overlap(log: Logged | SlateLog, weights: Floats, reward: Floats, limits: Thresholds) -> Overlap:
    """How well the log covers the policy, from its weights.

    Args:
        log: The rows.
        weights: The weights that limit the method, shape (n,).
        reward: Reward of each row, shape (n,).
        limits: Where `propensity_floor` is read.
    """
    mean = float(weights.mean())
    told = 0.0 if log.unsupported is None else float(np.mean(log.unsupported))
    unsupported = told
    heaviest: tuple[str, ...] = ()
    if isinstance(log, Logged):
        logged = log.propensity if log.logging_propensity is None else log.logging_propensity
        unsupported += float(np.where(logged < limits.propensity_floor, weights, 0.0).mean())
        heaviest = _heaviest(log, weights)
    if mean == 0.0:
        unsupported = 1.0  # nothing the policy would do was ever logged
    events = effective_size(weights * np.abs(reward - np.median(reward)))
    return Overlap(
        n=log.n,
        clusters=log.clusters,
        effective_n=effective_size(weights),
        mean_weight=mean,
        mean_weight_se=standard_error(weights - mean, log.codes, log.clusters),
        unsupported=min(1.0, unsupported),
        events=events,
        open_rows=0 if log.closed is None else int(np.count_nonzero(~log.closed)),
        known_unsupported=told,
        heaviest=heaviest,
    )


def _heaviest(log: Logged, weights: Floats) -> tuple[str, ...]:
    """Actions that hold half of the sum of squared weights, three at most: where exploration would help."""
    if log.action is None:
        return ()
    labels, codes = np.unique(np.asarray(log.action), return_inverse=True)
    mass = np.bincount(codes.reshape(-1), weights=weights * weights, minlength=len(labels))
    if mass.sum() <= 0:
        return ()
    order = np.argsort(mass)[::-1][:HEAVIEST]
    before = np.concatenate([[0.0], np.cumsum(mass[order])[:-1]])
    return tuple(str(labels[i]) for i in order[before < 0.5 * mass.sum()])


def _evidence(
    log: Logged | SlateLog, method: str, found: Terms, state: Overlap, limits: Thresholds, level: float
) -> Evidence:
    reasons = refusals(state, limits)
    interval: Interval | None = None
    if not reasons:
        interval = skewed_interval(found.value, found.influence, log.codes, log.clusters, level)
    return Evidence(
        policy=log.policy,
        method=method,
        value=None if interval is None else found.value,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        se=None if interval is None else interval.se,
        level=level,
        effective_n=state.effective_n,
        n=state.n,
        clusters=state.clusters,
        mean_weight=state.mean_weight,
        mean_weight_se=state.mean_weight_se,
        correction=found.correction,
        lam=None if found.lam is None or math.isinf(found.lam) else found.lam,
        refusals=reasons,
        estimated=log.estimated,
    )


def estimate(
    log: Logged | SlateLog,
    method: str | None = None,
    *,
    lam: float | None = None,
    thresholds: Thresholds | None = None,
    level: float = 0.95,
) -> Evidence:
    """The value of a policy from rows another policy logged, with its interval, or a refusal.

    Args:
        log: `Logged` for one action a choice, `SlateLog` for several slots.
        method: One of `METHODS` or `SLATE_METHODS`; None takes the headline: doubly robust where the log has a
            reward model, else self-normalised (for slates: reward-interaction) IPS.
        lam: Constant of clipped-ips, switch-dr and dr-os; chosen by SLOPE where not given.
        thresholds: When to refuse.
        level: Coverage of the interval.

    Raises:
        UnknownNameError: No such method.
        BadInputError: The method needs a reward model and the log has none.

    Example:
        >>> rng = np.random.default_rng(1)
        >>> right = rng.random(2_000) < 0.5                             # two arms, logged by a coin
        >>> reward = (rng.random(2_000) < np.where(right, 0.3, 0.2)).astype(float)
        >>> log = Logged(reward, np.full(2_000, 0.5), right.astype(float), policy="always right")
        >>> print(estimate(log))
        policy        method  value  interval        effective n      n  clusters  mean weight  its error
        always right  snips   0.306  [0.278, 0.336]        1,002  2,000     2,000         1.00     0.0224
    """
    limits = thresholds or Thresholds()
    if isinstance(log, SlateLog):
        chosen = method or ("cascade-dr" if log.q is not None else "interaction-ips")
        found = slate_terms(log, chosen)
        state = overlap(log, slate_weights(log, chosen), log.reward.sum(axis=1), limits)
    else:
        chosen = method or ("dr" if log.q is not None else "snips")
        found = terms(log, chosen, lam=lam)
        state = overlap(log, log.weights, log.reward, limits)
    return _evidence(log, chosen, found, state, limits, level)


def estimate_all(log: Logged | SlateLog, *, thresholds: Thresholds | None = None, level: float = 0.95) -> EvidenceTable:
    """Every estimator the log can carry, side by side, the headline first.

    DM, SNIPS and DR are read together: where they disagree the reward model is poor or the overlap thin.

    Example:
        >>> log = Logged(np.tile([1.0, 0.0], 200), np.full(400, 0.5), np.full(400, 0.5))
        >>> estimate_all(log).headline.method
        'snips'
    """
    limits = thresholds or Thresholds()
    if isinstance(log, SlateLog):
        # Without marginals the weights of `independent-ips` stand under the logged slots above, and a policy that would
        # have shown its best title once is counted as if it showed it in every slot.
        lacking = set() if log.slot_propensity is not None or log.reward.shape[1] == 1 else {"independent-ips"}
        lacking |= set() if log.q is not None else {"cascade-dr"}
        names = [name for name in SLATE_METHODS if name not in lacking]
        return EvidenceTable(tuple(estimate(log, name, thresholds=limits, level=level) for name in names))
    names = [name for name in METHODS if log.q is not None or name in {"snips", "ips", "clipped-ips"}]
    state = overlap(log, log.weights, log.reward, limits)
    return EvidenceTable(tuple(_evidence(log, name, terms(log, name), state, limits, level) for name in names))


def closed_only(log: Logged) -> Logged:
    """The rows whose outcome window is closed: what can be evaluated today.

    Leaving open choices out is sound because a window closes by the clock, not by its outcome.

    Example:
        >>> log = Logged([1.0, 0.0], [0.5, 0.5], [0.5, 0.5], closed=np.array([True, False]))
        >>> closed_only(log).n
        1
    """
    if log.closed is None or log.closed.all():
        return log

    def kept(values: Any) -> Any:
        array = None if values is None else np.asarray(values)
        return array[log.closed] if array is not None and array.shape == (log.n,) else values

    names = ("reward", "propensity", "policy_propensity", "q", "q_policy", "cluster", "logging_propensity")
    return replace(log, **{name: kept(getattr(log, name)) for name in (*names, "unsupported", "action", "closed")})


def describe(value: float | None, low: float | None, high: float | None) -> str:
    """`0.306 [0.278, 0.336]` in one string, an en dash where there is none."""
    return number(value) if low is None or high is None else f"{number(value)} [{number(low)}, {number(high)}]"
