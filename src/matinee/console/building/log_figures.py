"""Figures of one decision from its log: arms, values by day, what guards kept out, how probable choices were."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from matinee.console.building.desk import PERIOD, Desk
from matinee.console.building.measured import (
    ArmMean,
    arm_means,
    clustered_error,
    lift_estimate,
    mean_estimate,
)
from matinee.console.pages import Arm, Estimate, GuardRow, Point
from matinee.decisions import Decision
from matinee.releases import BASELINE, CHALLENGER, LIVE, Release
from matinee.rewarded import mature_before, rewarded_slots

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Codes = NDArray[np.int64]

MOST = 200_000  # newest choices that are measured
# What rewards and arms need; the lists of candidates stay on the disk.
COLUMNS = ("id", "unit", "at", "items_at", "context", "policy", "cluster", "fallback", "action", "propensities")
LOOKED_AT = 300  # newest choices whose candidates are counted


@dataclass(frozen=True)
class LogFigures:
    """What the log of a decision says.

    Attributes:
        choices: Choices of the period, sealed or not.
        since: When the period begins.
        arms: Policies that decided, the live ones first.
        points: Value by day: the live policy against the baseline in per cent, or its mean where nothing is compared.
        compared: Names of the policies that `points` compares; None when it shows a mean.
        worth: The live policy against the baseline, in per cent.
        ahead: The challenger against the live policy, in per cent.
        measured: How many choices had a complete reward.
        why_not: Why there is no value; empty when there is one.
        srm: Always-valid p value of the check that units fell into the arms as planned.
        fell_back: Choices that fell back.
    """

    choices: int
    since: datetime
    arms: tuple[Arm, ...]
    points: tuple[Point, ...]
    compared: tuple[str, str] | None
    worth: Estimate | None
    ahead: Estimate | None
    measured: int
    why_not: str
    srm: float | None
    fell_back: int


@dataclass(frozen=True)
class _Table:
    """Choices as arrays; `reward` is NaN while it is not complete."""

    policy: list[str]  # name of each code
    arm: Codes
    unit: Codes
    day: Codes
    reward: Floats
    fell: NDArray[np.bool_]

    def mature(self) -> _Table:
        keep = ~np.isnan(self.reward)
        return _Table(self.policy, self.arm[keep], self.unit[keep], self.day[keep], self.reward[keep], self.fell[keep])


def log_figures(desk: Desk, decision: Decision) -> LogFigures:
    """Measure the choices of the last 28 days; kept for a minute."""
    return desk.kept(("figures", decision.name), lambda: _measure(desk, decision))


def _measure(desk: Desk, decision: Decision) -> LogFigures:
    since = desk.now - PERIOD
    frame = desk.log.sealed(COLUMNS, decision=decision.name, since=since, limit=MOST)
    release = desk.studio.releases.live(decision.name)
    fell = int(frame["fallback"].is_not_null().sum()) if len(frame) else 0
    sealed = set(frame["id"].to_list())
    unsealed = sum(c.decision == decision.name and c.id not in sealed for c in desk.log.fresh())
    why = _why_not(desk, decision, frame, release)
    table = _table(desk, decision, frame, with_rewards=not why)
    arms, worth, ahead, compared = _arms(table, release)
    points = _points(table.mature(), release, compared)
    measured = int(np.count_nonzero(~np.isnan(table.reward)))
    if not why and not measured:
        why = _not_yet(desk, decision, frame)
    return LogFigures(
        len(frame) + unsealed, since, arms, points, compared, worth, ahead, measured, why, _srm(table, release), fell
    )


def _why_not(desk: Desk, decision: Decision, frame: pl.DataFrame, release: Release | None) -> str:
    if decision.mode != "decide":
        return (
            f"A decision in {decision.mode} mode is judged by back-test and calibration, not by what its log brought."
        )
    if decision.reward is None:
        return "This decision declares no reward, so its choices have no value to draw."
    if not len(frame):
        if release is None:
            return "Nothing is released, so nothing has been chosen yet."
        return "Nothing has been sealed in the last 28 days. `matinee seal` moves the log into the tables."
    return ""


def _not_yet(desk: Desk, decision: Decision, frame: pl.DataFrame) -> str:
    ready = mature_before(decision, desk.now)
    wait = desk.now - ready
    return (
        f"{len(frame):,} choices wait for their reward: it is complete {wait.days} days later, late facts included."
        if wait.days
        else f"{len(frame):,} choices wait for their reward."
    )


def _table(desk: Desk, decision: Decision, frame: pl.DataFrame, *, with_rewards: bool) -> _Table:
    import polars as pl

    if not len(frame):
        none = np.zeros(0, np.int64)
        return _Table([], none, none, none, np.zeros(0), np.zeros(0, np.bool_))
    rows = frame.select("id", "unit", "at", "policy", "fallback", "action")
    if with_rewards:
        done = frame.filter(pl.col("at") < mature_before(decision, desk.now))
        if len(done):
            sums = rewarded_slots(desk.studio, decision, done).group_by("choice").agg(pl.col("reward").sum())
            rows = rows.join(sums, left_on="id", right_on="choice", how="left", maintain_order="left")
            complete = pl.col("at") < mature_before(decision, desk.now)
            # A choice of nothing has brought nothing; one that is too fresh has no reward yet.
            rows = rows.with_columns(
                pl.when(complete).then(pl.col("reward").fill_null(0.0)).otherwise(None).alias("reward")
            )
    if "reward" not in rows.columns:
        rows = rows.with_columns(pl.lit(None, dtype=pl.Float64).alias("reward"))
    policies, arm = np.unique(rows["policy"].to_numpy(), return_inverse=True)
    unit = np.unique(rows["unit"].to_numpy(), return_inverse=True)[1]
    day = rows["at"].dt.date().to_physical().to_numpy()
    reward = rows["reward"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    fell = rows["fallback"].is_not_null().to_numpy()
    return _Table(
        [str(p) for p in policies], arm.astype(np.int64), unit.astype(np.int64), day.astype(np.int64), reward, fell
    )


def _roles(release: Release | None) -> dict[str, str]:
    """Policy -> role in the live release; a policy that holds two arms keeps the first."""
    roles: dict[str, str] = {}
    for one in release.arms if release else ():
        roles.setdefault(one.policy, one.role)
    return roles


def _arms(
    table: _Table, release: Release | None
) -> tuple[tuple[Arm, ...], Estimate | None, Estimate | None, tuple[str, str] | None]:
    roles = _roles(release)
    done = table.mature()
    code = {name: i for i, name in enumerate(table.policy)}
    deciding = [p for p in roles if p in code]
    base = release.baseline.policy if release else ""
    live = release.live.policy if release else ""
    compared = [code[p] for p in deciding if np.any(done.arm == code[p])]
    means = arm_means(done.arm, done.day, done.unit, done.reward, compared) if compared else {}
    of_base = means.get(code.get(base, -1))
    others = [p for p in table.policy if p not in roles]
    found = []
    order = {LIVE: 0, CHALLENGER: 1, BASELINE: 2}
    for policy in [*sorted(roles, key=lambda p: order.get(roles[p], 3)), *others]:
        if policy not in code:  # released, and nobody was drawn into its arm yet
            unasked = Estimate(None, refused="no choice yet")
            found.append(Arm(policy, "no choice yet", roles[policy], 0.0, 0, 0, unasked, None, None))  # type: ignore[arg-type]  # one of the roles
            continue
        mine = table.arm == code[policy]
        mean = means.get(code[policy])
        if mean is None:
            own = arm_means(done.arm, done.day, done.unit, done.reward, [code[policy]])
            mean = own.get(code[policy])
        is_base = policy == base and len(roles) > 1
        value = (
            Estimate(None, refused="no complete reward yet")
            if mean is None
            else mean_estimate(
                mean, done.unit, reference=of_base.value if of_base and len(deciding) > 1 else 0.0, baseline=is_base
            )
        )
        against = (
            lift_estimate(means[code[policy]], of_base, done.unit)
            if of_base is not None and code[policy] in means and not is_base and len(deciding) > 1
            else None
        )
        n = int(np.count_nonzero(mine))
        found.append(
            Arm(
                policy or "no policy",
                "decided earlier in this period" if policy in others and policy else "",
                roles.get(policy, "fallback" if not policy else "earlier"),  # type: ignore[arg-type]  # one of the roles
                n / max(1, len(table.arm)),
                len(np.unique(table.unit[mine])),
                n,
                value,
                against,
                float(table.fell[mine].mean()) if n else None,
            )
        )
    worth = ahead = None
    pair: tuple[str, str] | None = None
    if of_base is not None and base != live and code.get(live) in means:
        worth, pair = lift_estimate(means[code[live]], of_base, done.unit), (live, base)
    challenger = next((p for p, r in roles.items() if r == CHALLENGER), None)
    if challenger is not None and code.get(challenger) in means and code.get(live) in means:
        ahead = lift_estimate(means[code[challenger]], means[code[live]], done.unit)
        pair = pair or (challenger, live)
    return tuple(found), worth, ahead, pair


def _points(done: _Table, release: Release | None, compared: tuple[str, str] | None) -> tuple[Point, ...]:
    """One point a day, each from its own choices alone."""
    code = {name: i for i, name in enumerate(done.policy)}
    out: list[Point] = []
    for d in np.unique(done.day).tolist():
        here = done.day == d
        at = datetime.fromtimestamp(d * 86_400, UTC)
        n = int(np.count_nonzero(here))
        if compared is not None:
            means = arm_means(
                done.arm[here], done.day[here], done.unit[here], done.reward[here], [code[p] for p in compared]
            )
            if len(means) == 2:
                e = lift_estimate(means[code[compared[0]]], means[code[compared[1]]], done.unit[here])
                out.append(Point(at, e.value, e.low, e.high, n))
            elif out:  # a gap; before the first day with both there is nothing to draw
                out.append(Point(at, None, None, None, n))
            continue
        policy = release.live.policy if release else None
        mine = here & (done.arm == code[policy]) if policy in code else here
        if not mine.any():
            continue
        one = done.reward[mine]
        mean = ArmMean(float(one.mean()), (one - one.mean()) / len(one), len(one), len(np.unique(done.unit[mine])))
        half = 1.96 * clustered_error(mean.influence, done.unit[mine])
        enough = mean.units >= 30
        out.append(
            Point(
                at,
                mean.value if enough else None,
                mean.value - half if enough else None,
                mean.value + half if enough else None,
                n,
            )
        )
    return tuple(out)


def _srm(table: _Table, release: Release | None) -> float | None:
    """Ratio test of the units that the live arms decided for on the newest day with all of them."""
    if release is None or len(release.arms) < 2:
        return None
    code = {name: i for i, name in enumerate(table.policy)}
    if any(a.policy not in code for a in release.arms) or len({a.policy for a in release.arms}) < len(release.arms):
        return None
    newest = int(table.day.max())
    here = table.day == newest
    units = [len(np.unique(table.unit[here & (table.arm == code[a.policy])])) for a in release.arms]
    if sum(units) < 100:
        return None
    from matinee.experiments import ratio_check

    counts = {a.policy: n for a, n in zip(release.arms, units, strict=True)}
    total = sum(a.share for a in release.arms)
    return ratio_check(counts, {a.policy: a.share / total for a in release.arms}).p


def guard_rows(desk: Desk, decision: Decision) -> tuple[tuple[GuardRow, ...], GuardRow | None, int]:
    """What each guard kept out of the candidates of the newest choices, what was left, and how many were read."""
    return desk.kept(("guards", decision.name), lambda: _guard_rows(desk, decision))


def _guard_rows(desk: Desk, decision: Decision) -> tuple[tuple[GuardRow, ...], GuardRow | None, int]:
    frame = desk.log.newest(["blocked", "candidates"], decision.name, LOOKED_AT)
    kept: dict[str, int] = {}
    left = read = 0
    if len(frame):
        lengths = frame["candidates"].list.len().to_list()
        for blocked, n in zip(frame["blocked"].to_list(), lengths, strict=True):
            counts = {g: len(ids) for g, ids in json.loads(blocked).items()}
            if not n and not counts:
                continue  # fell back before the guards looked at anything
            read += 1
            left += n
            for guard, count in counts.items():
                kept[guard] = kept.get(guard, 0) + count
    total = left + sum(kept.values())
    rows = []
    for guard in decision.guards:
        between = not kept.get(guard.name) and getattr(type(guard), "limit", None) is not None and _is_limit(guard)
        share = kept.get(guard.name, 0) / total if total else 0.0
        mean = round(kept.get(guard.name, 0) / read) if read else 0
        rows.append(GuardRow(guard.name, guard.reason, share, mean, "between slots" if between else ""))
    mine = {g.name for g in decision.guards}
    rows += [
        GuardRow(name, "no longer a guard of this decision", n / total, round(n / read))
        for name, n in kept.items()
        if name not in mine
    ]
    rows.sort(key=lambda r: -r.share)
    rest = GuardRow("Left to choose from", "", left / total, round(left / read)) if total else None
    return tuple(rows), rest, read


def _is_limit(guard: object) -> bool:
    """Guards that act between the slots define a limit of their own."""
    from matinee.guards import BaseGuard

    return not isinstance(guard, BaseGuard) or type(guard).limit is not BaseGuard.limit


def first_chances(desk: Desk, decision: Decision) -> list[float]:
    """Probabilities of what stood in the first slot, of the newest choices that were drawn."""

    def read() -> list[float]:
        import polars as pl

        columns = ["fallback", "propensities"]
        frame = desk.log.sealed(columns, decision=decision.name, since=desk.now - PERIOD, limit=20_000)
        if not len(frame):
            return []
        drawn = frame.filter(pl.col("fallback").is_null() & (pl.col("propensities").list.len() > 0))
        return [float(p) for p in drawn["propensities"].list.first().to_list()]

    return desk.kept(("chances", decision.name), read)
