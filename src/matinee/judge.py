"""Judging a policy from the log: walk it along every logged choice through the serving code, weigh, and say what it is worth.

The candidates are those that were logged as allowed: a policy that would have proposed others is judged on these.

A policy is judged on choices that it did not learn from: those after the newest row of its models' training, but for
those whose outcome may be part of a reward that was learned. A model flatters the rows it was fitted on.

Everybody's choices are weighed and counted, as in a sum. What is fitted on them, the model of the reward, learns only
from units whose consent for the decision's purpose is in force.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from matinee.decisions import Decision
from matinee.evaluate import Evidence, Logged, SlateLog, Thresholds, estimate, estimate_all, slate_terms, terms
from matinee.evaluate.intervals import Interval, skewed_interval
from matinee.exceptions import RefusedError
from matinee.policies import Policy
from matinee.replay import WALKED_COLUMNS, Walked, drawn_alone, walk
from matinee.results import Table, number
from matinee.rewarded import SLOT_COLUMNS, mature_before, rewarded_slots
from matinee.times import from_us
from matinee.training import Pinned, denied
from matinee.workshop import Learned, learned_until

if TYPE_CHECKING:
    import polars as pl

    from matinee.studio import Studio

Array = np.ndarray[Any, Any]
LEARNED = "the policy learned from them, or they are older than what it learned from"
SHARED = "what followed them may have been learned as the reward of a choice before them"
RESOLUTION = timedelta(microseconds=1)


@dataclass(frozen=True)
class Evaluation(Table):
    """What an evaluation says about a policy: its value, what was logged, and the difference on the same rows.

    Attributes:
        decision, policy: What was judged.
        evidence: One estimate a method, the headline first.
        logged: Mean reward of the rows as they were logged, with its interval.
        difference: Value minus logged, paired; None when refused.
        refused: Why there is no number; None when there is one.
        left_out: How many choices had to be left out, by reason.
        judged_on: Which choices it was judged on, in words.
        proxy: The same by the decision's proxy, where it has one: shown beside, never acted upon.
    """

    decision: str
    policy: str
    evidence: tuple[Evidence, ...]
    logged: Interval | None
    logged_value: float | None
    difference: float | None
    difference_interval: tuple[float, float] | None
    refused: str | None
    left_out: Mapping[str, int] = field(default_factory=dict)
    unit: str = ""
    against: str = "logged"
    judged_on: str = ""
    proxy: Evaluation | None = None

    @property
    def headline(self) -> Evidence | None:
        """The estimate to act on."""
        return self.evidence[0] if self.evidence else None

    @property
    def value(self) -> float | None:
        """The headline value; None when refused."""
        return None if self.headline is None else self.headline.value

    @property
    def interval(self) -> tuple[float, float] | None:
        """The headline's 95% interval; None when refused."""
        one = self.headline
        return None if one is None or one.low is None or one.high is None else (one.low, one.high)

    @property
    def better(self) -> bool:
        """Whether the interval of the difference is above zero."""
        return self.difference_interval is not None and self.difference_interval[0] > 0

    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [
            {
                "policy": one.policy,
                "method": one.method,
                "value": one.value,
                "interval": None if one.low is None else (one.low, one.high),
                "effective n": round(one.effective_n),
                "choices": one.n,
                "mean weight": one.mean_weight,
            }
            for one in self.evidence
        ]
        if not rows:
            return [{"policy": self.policy, "method": "none", "value": None, "interval": None, "choices": 0}]
        if self.logged is not None:
            rows.append(
                {
                    "policy": "as logged",
                    "method": "mean",
                    "value": self.logged_value,
                    "interval": (self.logged.low, self.logged.high),
                    "effective n": rows[0]["choices"],
                    "choices": rows[0]["choices"],
                    "mean weight": 1.0,
                }
            )
        if self.proxy is None:
            return rows
        beside = self.proxy.rows() or [{"policy": self.policy, "method": "none", "value": None, "interval": None}]
        return [
            *({"metric": self.unit or "reward", **row} for row in rows),
            *({"metric": f"proxy: {self.proxy.unit}", **row} for row in beside),
        ]

    def notes(self) -> list[str]:
        lines = []
        if self.refused:
            missing = self.headline.missing if self.headline is not None else None
            lines.append(f"no value: {self.refused}" + (f"; {missing}" if missing else ""))
        elif self.difference is not None and self.difference_interval is not None:
            low, high = self.difference_interval
            verdict = "better" if low > 0 else "worse" if high < 0 else "not told apart"
            lines.append(
                f"against {self.against}: {number(self.difference)} [{number(low)}, {number(high)}] {self.unit}".rstrip()
                + f" a choice, {verdict}"
            )
        lines += [self.judged_on] if self.judged_on else []
        lines += [f"{n:,} choices left out: {why}" for why, n in self.left_out.items()]
        if self.headline is not None and self.headline.estimated:
            lines.append("propensities were estimated, not logged: the interval leaves out their error")
        if self.proxy is not None:
            lines += [f"proxy ({self.proxy.unit}): {line}" for line in self.proxy.notes()]
        return lines


def evaluate(
    studio: Studio,
    decision: Decision,
    policy: str | Policy,
    *,
    against: str = "logged",
    since: datetime | None = None,
    until: datetime | None = None,
    q: Any = None,
    lateness: timedelta | None = None,
    thresholds: Thresholds | None = None,
    record: bool = True,
    seed: int = 0,
) -> Evaluation:
    """The value of a policy from what others decided, with its interval, or a refusal.

    Args:
        studio: Whose log.
        decision: Which decision; its mode must be "decide".
        policy: A policy or the name of a saved one.
        against: "logged", or the name of a policy to be judged on the same rows.
        since, until: Which choices; all whose reward is complete where not given. In any case only those that came
            after the ones that the policy, or the one it is compared with, learned from.
        q: A model of the reward (`fit`, `score`), cross-fitted by cluster; a table of rates by action and slot where
            not given. Either learns only from units with the consent that the decision names.
        lateness: How long to wait for late facts beyond the reward's horizon; 48 hours where not given.
        thresholds: When to refuse.
        record: Keep the result as evidence of the policy.
        seed: Of the folds.

    Raises:
        RefusedError: If the decision is advised or planned: those are judged by back-test and calibration.
    """
    if decision.mode != "decide":
        raise RefusedError(
            f"decision {decision.name!r} is in {decision.mode} mode, must be judged by back-test and calibration: "
            "nothing was drawn, so there are no propensities to weigh"
        )
    ready = studio.policy(policy)
    name = policy if isinstance(policy, str) else studio.save_policy(decision, ready)
    if decision.proxy is not None:
        read = {"against": against, "since": since, "until": until, "q": q, "lateness": lateness, "thresholds": thresholds}
        beside = evaluate(studio, decision.by_proxy(), name, **read, record=False, seed=seed)
    else:
        beside = None
    cut = (
        mature_before(decision, studio.clock())
        if lateness is None
        else mature_before(decision, studio.clock(), lateness)
    )
    rival = None if against == "logged" else studio.policy(against)
    learned = [learned_until(studio, one) for one in (ready, rival) if one is not None]
    newest = max(learned, key=lambda one: from_us(0) if one.until is None else one.until)
    log = _log(studio, decision, since, min(until, cut) if until else cut, newest)
    said = _judged_on(decision, log, newest)
    if log.n < 2:
        reason = _nothing_to_judge_on(decision, log, newest)
        result = Evaluation(
            decision.name, name, (), None, None, None, None, reason, log.left_out, decision.reward_unit, against, said, beside
        )
        return _kept(studio, result, record)
    slots = log.rewards.shape[1]
    drawn = drawn_alone(studio, decision, log.frame, slots, seed)
    walked = walk(studio, decision, ready, log.frame, slots, seed + 1)
    other = None if rival is None else walk(studio, decision, rival, log.frame, slots, seed + 1)
    data = _weighed(decision, log, walked, drawn, q, name, seed)
    base = None if other is None else _weighed(decision, log, other, drawn, q, against, seed)
    result = _result(decision, log, name, data, base, against, thresholds or Thresholds())
    return _kept(studio, replace(result, judged_on=said, proxy=beside), record)


def _judged_on(decision: Decision, log: _Log, learned: Learned) -> str:
    """Which choices a policy is judged on, in words."""
    if not log.n:
        return ""
    first, last = log.frame["at"].min(), log.frame["at"].max()
    said = f"judged on {log.n:,} choices from {_minute(first)} to {_minute(last)}"
    if learned.until is None:
        said += "; it learned from no choice"
    else:
        said += f", none of them learned from: {learned.by} learned up to {_minute(learned.until)}"
    if not log.learnable.all():
        allowed = int(log.learnable.sum())
        said += f"; the reward's model learned from {allowed:,} of them, whose units allow {decision.consent!r} now"
    return said


def _nothing_to_judge_on(decision: Decision, log: _Log, learned: Learned) -> str:
    if learned.until is not None and log.left_out.get(LEARNED):
        return (
            f"{learned.by} learned from choices up to {_minute(learned.until)} and {log.n} later ones have a complete "
            "reward, must have at least 50 that it did not learn from: train it on an earlier part "
            "(studio.train(..., until=2/3)), or serve, wait until the reward's time is over, and `matinee seal`"
        )
    return (
        f"decision {decision.name!r} has {log.n} logged choices with a complete reward, must have at least 50; "
        "serve it, or wait until the reward's time is over, then `matinee seal`"
    )


def _minute(at: Any) -> str:
    return f"{at:%Y-%m-%d %H:%M}"


@dataclass
class _Log:
    """The choices that can be judged, as arrays; rewards by slot."""

    frame: pl.DataFrame
    rewards: Array  # (n, slots)
    filled: Array  # bool (n, slots)
    learnable: Array  # bool (n,): the unit allows that a model learns from it
    left_out: dict[str, int]

    @property
    def n(self) -> int:
        return len(self.frame)


def _log(studio: Studio, decision: Decision, since: datetime | None, until: datetime, learned: Learned) -> _Log:
    import polars as pl

    choices = studio.choices(decision.name, since=since, columns=[*SLOT_COLUMNS, *WALKED_COLUMNS])
    left_out: dict[str, int] = {}

    def keep(frame: pl.DataFrame, condition: pl.Expr, why: str) -> pl.DataFrame:
        kept = frame.filter(condition)
        if len(kept) < len(frame):
            left_out[why] = len(frame) - len(kept)
        return kept

    if learned.until is not None:
        choices = keep(choices, pl.col("at") > learned.until, LEARNED)
        shared = pl.col("unit").is_in(_loose(studio, decision, learned.until))
        horizon = decision.reward.horizon if decision.reward is not None else timedelta(0)
        choices = keep(choices, ~shared | (pl.col("at") > learned.until + horizon), SHARED)
    choices = keep(choices, pl.col("at") < until, "their reward is not complete yet")
    choices = keep(choices, pl.col("fallback").is_null(), "the fallback acted: nothing was drawn")
    choices = keep(choices, pl.col("propensities").list.len() > 0, "they carry no propensity")
    choices = choices.sort("at", "id")
    slots = max([1, *choices["action"].list.len().to_list()])
    rewards, filled = np.zeros((len(choices), slots)), np.zeros((len(choices), slots), np.bool_)
    if len(choices):
        rewarded = rewarded_slots(studio, decision, choices)
        order = {c: i for i, c in enumerate(choices["id"].to_list())}
        rows = np.array([order[c] for c in rewarded["choice"].to_list()])
        columns = rewarded["slot"].to_numpy()
        rewards[rows, columns] = rewarded["reward"].to_numpy()
        filled[rows, columns] = True
    return _Log(choices, rewards, filled, _learnable(studio, decision, choices), left_out)


def _learnable(studio: Studio, decision: Decision, choices: pl.DataFrame) -> Array:
    """Which choices are of units that allow now, by the decision's own purpose, that something learns from them."""
    if decision.consent is None:
        return np.ones(len(choices), np.bool_)
    rules = denied(Pinned(studio.facts), choices["unit"], [decision.consent], studio.clock(), decision.shelter)
    return np.array([not rules[unit] for unit in choices["unit"].to_list()], np.bool_)


def _loose(studio: Studio, decision: Decision, since: datetime) -> list[str]:
    """Units decided for before this moment with an outcome after it that names no choice: two choices may share it."""
    import polars as pl

    if decision.reward is None:
        return []
    horizon = decision.reward.horizon
    asked = studio.choices(decision.name, since=since - horizon, until=since + RESOLUTION, columns=["unit"])
    before = set(asked["unit"].to_list())
    found: set[str] = set()
    for fact in decision.reward.facts:
        if decision.unit in fact.schema.columns and before:
            inside = (pl.col("at") > since) & (pl.col("at") <= since + horizon)
            rows = studio.facts.scan(fact).filter(inside & pl.col("choice").is_null())
            found |= set(rows.select(pl.col(decision.unit).cast(pl.String)).unique().collect().to_series().to_list())
    return sorted(found & {str(unit) for unit in before})


def _weighed(
    decision: Decision, log: _Log, walked: Walked, drawn: Array | None, q: Any, name: str, seed: int
) -> Logged | SlateLog:
    frame = log.frame
    cluster = frame.select(_cluster()).to_series().to_numpy()
    logging = np.ones(log.rewards.shape)
    for i, p in enumerate(frame["propensities"].to_list()):
        logging[i, : len(p)] = p
    estimated = bool(frame["estimated"].any())
    q_logged, q_policy = _expected(log, walked, cluster, q, seed)
    if log.rewards.shape[1] == 1:
        return Logged(
            log.rewards[:, 0], logging[:, 0], walked.chance[:, 0], q=q_logged[:, 0], q_policy=q_policy[:, 0],
            cluster=cluster, action=np.array([a[0] for a in frame["action"].to_list()]), policy=name, estimated=estimated,
        )  # fmt: skip
    both = drawn is not None and walked.alone is not None
    return SlateLog(
        log.rewards, logging, walked.chance, q=q_logged, q_policy=q_policy, mask=log.filled, cluster=cluster, policy=name,
        slot_propensity=drawn if both else None, policy_slot_propensity=walked.alone if both else None,
        estimated=estimated,
    )  # fmt: skip


def _cluster() -> pl.Expr:
    import polars as pl

    return pl.coalesce("cluster", "unit")


def _expected(log: _Log, walked: Walked, cluster: Array, q: Any, seed: int) -> tuple[Array, Array]:
    """Expected reward of what was logged and of the policy, by slot, from clusters other than the row's own.

    Without a model of the caller's: the rate of an action (shrunk to the mean, as by 20 more rows) times the strength of
    a slot. For slates both count the reward from the slot to the end, as the cascade estimator needs it.
    """
    from matinee.evaluate.reward_model import cluster_folds

    n, slots = log.rewards.shape
    vocabulary, codes, logged = walked.slates.vocabulary, walked.slates.candidates, walked.slates.logged
    distinct = len(np.unique(cluster))
    folds = cluster_folds(n, cluster, min(3, distinct), seed) if distinct >= 2 else np.zeros(n, np.int64)
    own, expected = np.zeros((n, slots)), np.zeros((n, slots))
    for fold in np.unique(folds):
        train = log.learnable & (folds != fold if distinct >= 2 else np.ones(n, np.bool_))
        strength = _slot_means(log, train)
        overall = float(log.rewards[train].sum() / max(1, log.filled[train].sum()))
        total, seen = np.zeros(len(vocabulary)), np.zeros(len(vocabulary))
        for i in np.flatnonzero(train):
            taken = codes[i][logged[i]]
            np.add.at(total, taken, log.rewards[i, : len(taken)])
            np.add.at(seen, taken, strength[: len(taken)])
        rate = (total + 20 * overall) / (seen + 20)
        for i in np.flatnonzero(folds == fold):
            filled = len(logged[i])
            values = rate[codes[i]]
            own[i, :filled] = values[logged[i]] * strength[:filled]
            expected[i, :filled] = walked.matrices[i] @ values * strength[:filled]
    if q is not None and slots == 1:
        return _modelled(log, walked, q, folds, own, expected, seed)
    if slots > 1:
        # From the slot to the end: what this slot brings and what those after it are expected to.
        rest = np.concatenate([np.cumsum(expected[:, ::-1], axis=1)[:, ::-1][:, 1:], np.zeros((n, 1))], axis=1)
        own, expected = own + rest, expected + rest
    return own, expected


def _slot_means(log: _Log, rows: Array) -> Array:
    """How much a slot brings relative to the average slot, shape (slots,)."""
    counts = log.filled[rows].sum(axis=0)
    sums = log.rewards[rows].sum(axis=0)
    overall = sums.sum() / max(1, counts.sum())
    if overall <= 0:
        return np.ones(log.rewards.shape[1])
    return np.asarray((sums + 20 * overall) / (counts + 20) / overall)


def _modelled(
    log: _Log, walked: Walked, q: Any, folds: Array, own: Array, expected: Array, seed: int
) -> tuple[Array, Array]:
    """With a model of the caller's: context and action as columns, cross-fitted in the folds given."""
    import polars as pl

    contexts = [json.loads(c) for c in log.frame["context"].to_list()]
    keys = sorted({k for c in contexts for k in c})
    base = pl.DataFrame({k: [c.get(k) for c in contexts] for k in keys}, strict=False) if keys else pl.DataFrame()
    base = base.select([c for c in base.columns if not base[c].dtype.is_nested()])
    slates = walked.slates
    taken = pl.Series(
        "action",
        [slates.vocabulary[among[one[0]]] for among, one in zip(slates.candidates, slates.logged, strict=True)],
    )
    rows = pl.DataFrame([*base.get_columns(), taken])
    rewards = log.rewards[:, 0]
    for fold in np.unique(folds):
        train, test = np.flatnonzero(log.learnable & (folds != fold)), np.flatnonzero(folds == fold)
        if not len(train):
            continue  # nobody allows it: the table's rates stand
        fitted = q().fit(rows[train], rewards[train], seed=seed)
        own[test, 0] = fitted.score(rows[test])
        actions = np.unique(np.concatenate([slates.candidates[i] for i in test])).tolist()
        scores = {
            a: fitted.score(rows[test].with_columns(pl.lit(slates.vocabulary[a]).alias("action"))) for a in actions
        }
        for k, i in enumerate(test.tolist()):
            values = np.array([scores[a][k] for a in slates.candidates[i].tolist()])
            expected[i, 0] = float(walked.matrices[i][0] @ values)
    return own, expected


def _result(
    decision: Decision, log: _Log, name: str, data: Logged | SlateLog, base: Logged | SlateLog | None, against: str,
    thresholds: Thresholds,
) -> Evaluation:  # fmt: skip
    found = list(estimate_all(data, thresholds=thresholds).evidence)
    if isinstance(data, SlateLog):
        # The estimate that assumes least and can still answer leads; where none can, the refusal of the first does.
        answering = [e for e in found if e.value is not None]
        found = answering[:1] + [e for e in found if not answering or e is not answering[0]]
    head = found[0]
    totals = log.rewards.sum(axis=1)
    mean = float(totals.mean())
    logged = skewed_interval(mean, totals - mean, data.codes, data.clusters, 0.95)
    difference, span = None, None
    refused = head.refused
    if base is not None and refused is None:
        refused = estimate(base, head.method, thresholds=thresholds).refused
    if refused is None:
        ours = _influence(data, head.method)
        value, influence = (mean, totals - mean) if base is None else _influence(base, head.method)
        difference = ours[0] - value
        paired = skewed_interval(difference, ours[1] - influence, data.codes, data.clusters, 0.95)
        span = (paired.low, paired.high)
    return Evaluation(
        decision.name,
        name,
        tuple(found),
        logged,
        mean,
        difference,
        span,
        refused,
        log.left_out,
        decision.reward_unit,
        against,
    )


def _influence(data: Logged | SlateLog, method: str) -> tuple[float, Array]:
    found = slate_terms(data, method) if isinstance(data, SlateLog) else terms(data, method)
    return found.value, found.influence


def _kept(studio: Studio, result: Evaluation, record: bool) -> Evaluation:
    if not record:
        return result
    head = result.headline
    data = {
        "value": result.value,
        "interval": result.interval,
        "difference": result.difference,
        "difference_interval": result.difference_interval,
        "logged": result.logged_value,
        "logged_interval": None if result.logged is None else (result.logged.low, result.logged.high),
        "effective_n": None if head is None else head.effective_n,
        "choices": 0 if head is None else head.n,
        "refused": result.refused,
        "missing": None if head is None else head.missing,
        "unit": result.unit,
        "judged_on": result.judged_on,
        "rows": result.rows(),
        "proxy": None if result.proxy is None else {"unit": result.proxy.unit, "value": result.proxy.value},
    }
    method = "none" if head is None else head.method
    with studio.registry.transaction() as db:
        db.execute(
            "INSERT INTO evidence (decision, policy, against, method, data, at) VALUES (?, ?, ?, ?, ?, ?)",
            (result.decision, result.policy, result.against, method, json.dumps(data), studio.clock().timestamp()),
        )
    studio.graph.put(
        f"evidence://{result.policy}", {"value": result.value, "refused": result.refused},
        {f"policy://{result.policy}": "judged"},
    )  # fmt: skip
    return result
