"""Two policies on the same rows: the paired difference, its interval, and the bound that makes a release safe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from matinee.checks import must
from matinee.evaluate.estimators import PLAIN, Terms, terms
from matinee.evaluate.evidence import overlap
from matinee.evaluate.intervals import empirical_bernstein, skewed_interval
from matinee.evaluate.logged import Floats, Logged, SlateLog
from matinee.evaluate.slates import slate_terms, slate_weights
from matinee.evaluate.thresholds import Overlap, Refusal, Thresholds, refusals
from matinee.exceptions import BadInputError
from matinee.results import Table, number


@dataclass(frozen=True)
class Comparison(Table):
    """How much better one policy is than another, judged on the same rows.

    Attributes:
        policy, against: The two policies.
        method: The estimator of both.
        difference: Value of `policy` minus value of `against`; None when refused.
        low, high: Interval at `level` of the paired difference; None when refused.
        bound: One-sided lower bound at `level`, from the same asymptotics as the interval; None when refused.
        safe_bound: Empirical Bernstein lower bound, which holds at any sample size; None when refused.
        level: Coverage claimed.
        effective_n: The smaller effective n of the two.
        n, clusters: Rows and independent clusters.
        refusals: Why there is no value.
    """

    policy: str
    against: str
    method: str
    difference: float | None
    low: float | None
    high: float | None
    bound: float | None
    safe_bound: float | None
    level: float
    effective_n: float
    n: int
    clusters: int
    refusals: tuple[Refusal, ...] = ()

    @property
    def refused(self) -> str | None:
        """The most telling reason why there is no difference; None when there is one."""
        return self.refusals[0].reason if self.refusals else None

    @property
    def missing(self) -> str | None:
        """What it would take; None when there is a difference."""
        return self.refusals[0].missing if self.refusals else None

    @property
    def better(self) -> bool:
        """Whether the one-sided lower bound of the difference is above zero."""
        return self.bound is not None and self.bound > 0

    @property
    def safe(self) -> bool:
        """Whether even the bound that trusts no asymptotics is above zero: safe to deploy without an experiment."""
        return self.safe_bound is not None and self.safe_bound > 0

    def rows(self) -> list[dict[str, Any]]:
        """One row: the two policies, the difference, its interval and bounds."""
        return [
            {
                "policy": self.policy,
                "against": self.against,
                "method": self.method,
                "difference": self.difference,
                "interval": (self.low, self.high),
                "bound": self.bound,
                "safe bound": self.safe_bound,
                "effective n": round(self.effective_n),
                "n": self.n,
                "clusters": self.clusters,
            }
        ]

    def notes(self) -> Sequence[str]:
        """The verdict in words, or the refusal."""
        if self.refusals:
            return tuple(f"no value: {r.reason}; {r.missing}" for r in self.refusals)
        if self.safe:
            return (f"better, and safe to deploy: at least {number(self.safe_bound)} more a choice at any sample size",)
        if self.better:
            return ("better at the level asked; the bound that holds at any sample size is not above zero",)
        return ("not shown to be better",)


def compare(
    a: Logged | SlateLog,
    b: Logged | SlateLog | None = None,
    *,
    method: str | None = None,
    lam: float | None = None,
    clip: float | None = None,
    thresholds: Thresholds | None = None,
    level: float = 0.95,
) -> Comparison:
    """The paired difference of two policies on the same logged rows.

    Two intervals that overlap say little: the rows are shared, so most of their noise cancels in the difference.

    The safe bound clips the weights of `a` and adds the least reward back, so that clipping can only understate `a`:
    mean of min(w_a, clip) (r - r_min) - w_b (r - r_min), by empirical Bernstein. It needs full support, no model. Of
    slates the weights are the products up to each slot (for independent IPS the slot's own).

    Args:
        a: The rows with the policy that might be released.
        b: The same rows with the policy to beat; None compares with what was logged, whose value is the mean reward.
        method: Estimator of both; None is doubly robust where both have a model, else self-normalised IPS (of slates:
            reward-interaction IPS).
        lam: Constant of clipped-ips, switch-dr or dr-os; chosen by SLOPE for each where not given.
        clip: Weight limit of the safe bound; None chooses n^(1/3) (at least 10), which balances bias against range.
        thresholds: When to refuse.
        level: Coverage of interval and bounds.

    Raises:
        BadInputError: The two logs are not the same rows.

    Example:
        >>> rng = np.random.default_rng(1)
        >>> right = rng.random(4_000) < 0.5
        >>> reward = (rng.random(4_000) < np.where(right, 0.4, 0.2)).astype(float)
        >>> log = Logged(reward, np.full(4_000, 0.5), right.astype(float), policy="always right")
        >>> print(compare(log))
        policy        against  method  difference  interval          bound  safe bound  effective n      n  clusters
        always right  logged   snips        0.105  [0.0910, 0.119]  0.0933      0.0789        2,015  4,000     4,000
        better, and safe to deploy: at least 0.0789 more a choice at any sample size
    """
    limits = thresholds or Thresholds()
    must(level, "level", gt=0, lt=1)
    if b is not None:
        _same_rows(a, b)
    if method is None:
        modelled = a.q is not None and (b is None or b.q is not None)
        slates = isinstance(a, SlateLog)
        method = ("cascade-dr" if slates else "dr") if modelled else "interaction-ips" if slates else "snips"
    ours = _terms(a, method, lam)
    theirs = _live(a) if b is None else _terms(b, method, lam)
    states = [_state(log, method, limits) for log in ((a,) if b is None else (a, b))]
    reasons = tuple({r.reason: r for state in states for r in refusals(state, limits)}.values())
    size = min(state.effective_n for state in states)
    against = "logged" if b is None else b.policy
    if reasons:
        return Comparison(
            a.policy, against, method, None, None, None, None, None, level, size, a.n, a.clusters, reasons
        )
    difference = ours.value - theirs.value
    influence = ours.influence - theirs.influence
    two = skewed_interval(difference, influence, a.codes, a.clusters, level)
    one = skewed_interval(difference, influence, a.codes, a.clusters, 2 * level - 1 if level > 0.5 else level)
    safe = _safe_bound(a, b, method, clip, 1 - level)
    return Comparison(
        a.policy, against, method, difference, two.low, two.high, one.low, safe, level, size, a.n, a.clusters
    )


def _terms(log: Logged | SlateLog, method: str, lam: float | None) -> Terms:
    if isinstance(log, SlateLog):
        return slate_terms(log, method)
    return terms(log, method, lam=None if method in PLAIN else lam)


def _state(log: Logged | SlateLog, method: str, limits: Thresholds) -> Overlap:
    if isinstance(log, SlateLog):
        return overlap(log, slate_weights(log, method), log.reward.sum(axis=1), limits)
    return overlap(log, log.weights, log.reward, limits)


def _live(log: Logged | SlateLog) -> Terms:
    """The logging policy itself: its weights are 1 and its value is the mean reward."""
    total = log.reward if isinstance(log, Logged) else log.reward.sum(axis=1)
    value = float(total.mean())
    return Terms(value, total - value)


def _same_rows(a: Logged | SlateLog, b: Logged | SlateLog) -> None:
    if type(a) is not type(b) or a.reward.shape != b.reward.shape:
        raise BadInputError(f"b.reward.shape == {b.reward.shape}, must be {a.reward.shape}: compare the same rows")
    pairs = (("reward", a.reward, b.reward), ("propensity", a.propensity, b.propensity))
    for name, left, right in pairs:
        if not np.array_equal(left, right):
            row = int(np.argmax((left != right).reshape(len(left), -1).any(axis=1)))
            raise BadInputError(f"b.{name}[{row}] == {right[row]}, must be {left[row]} as in a: compare the same rows")
    same = a.codes is b.codes is None or (
        a.codes is not None and b.codes is not None and np.array_equal(a.codes, b.codes)
    )
    if not same:
        raise BadInputError("b.cluster differs from a.cluster, must be the same: compare the same rows")


def _slot_weights(log: Logged | SlateLog, method: str) -> Floats:
    """Weight of the reward of each slot, shape (n, slots); one slot for single actions."""
    if isinstance(log, Logged):
        return log.weights[:, None]
    return log.slot_weights if method == "independent-ips" else log.prefix_weights


def _safe_bound(
    a: Logged | SlateLog, b: Logged | SlateLog | None, method: str, clip: float | None, delta: float
) -> float:
    limit = must(max(10.0, a.n ** (1 / 3)) if clip is None else clip, "clip", gt=0)
    rewards = a.reward.reshape(a.n, -1)
    lifted = rewards - rewards.min()
    if isinstance(a, SlateLog):
        lifted = lifted * np.asarray(a.mask)  # an empty slot brings nothing, whatever the least reward is
    ours = np.minimum(_slot_weights(a, method), limit)
    theirs = np.ones_like(ours) if b is None else _slot_weights(b, method)
    rows = ((ours - theirs) * lifted).sum(axis=1)
    spread = float((ours.max(axis=0) + theirs.max(axis=0)) @ lifted.max(axis=0))
    return empirical_bernstein(rows, a.codes, a.clusters, spread=spread, delta=delta)
