"""The experiment that a release is: how its arms compare, read at any time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matinee.decisions import Decision
from matinee.exceptions import RefusedError
from matinee.releases import Release
from matinee.results import Table
from matinee.rewarded import SLOT_COLUMNS, mature_before, rewarded_slots
from matinee.times import from_us

if TYPE_CHECKING:
    from matinee.experiments import Readout
    from matinee.studio import Studio

PLANNED = 10_000  # units an arm, where the release does not say


@dataclass(frozen=True)
class Trial(Table):
    """The live arms of a decision, and what may be said of them.

    Attributes:
        release: Which release.
        arms: One dict an arm: arm, policy, share, units, value, and its 95% interval (Student's, over units): low, high. It
            holds at one look; the readout's holds at any.
        readout: The challenger against the arm it must beat; None while there is one arm only.
    """

    release: Release
    arms: tuple[dict[str, Any], ...]
    readout: Readout | None

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "arm": a["arm"], "policy": a["policy"], "share": a["share"], "units": a["units"], "value": a["value"],
                "interval": None if a["low"] is None else (a["low"], a["high"]),
            }
            for a in self.arms
        ]  # fmt: skip

    def notes(self) -> Sequence[str]:
        return ["one arm: nothing to compare"] if self.readout is None else self.readout.notes()


def trial(studio: Studio, decision: Decision, *, planned: int = PLANNED) -> Trial:
    """Read the live release as an experiment: mean reward a choice by arm, sample ratio, an always-valid difference.

    Raises:
        RefusedError: If the decision has no release, or none of its choices has a complete reward yet.
    """
    import polars as pl
    from scipy import special

    from matinee.experiments import Design, Sample, ratio_check, readout

    live = studio.releases.live(decision.name)
    if live is None:
        raise RefusedError(f"decision {decision.name!r} has no release, must have one to be read")
    since = from_us(int(live.at * 1e6))
    until = mature_before(decision, studio.clock())
    log = studio.choices(decision.name, since=since, until=until, columns=[*SLOT_COLUMNS, "arm"])
    log = log.filter(pl.col("policy").is_in([a.policy for a in live.arms]))
    if not len(log):
        raise RefusedError(
            f"no choice since release {live.number} of {decision.name!r} has a complete reward, must have some: "
            "wait until the reward's time is over, then `matinee seal`"
        )
    rewards = rewarded_slots(studio, decision, log).group_by("choice").agg(pl.col("reward").sum())
    rows = log.select(pl.col("id").alias("choice"), "unit", "arm").join(rewards, on="choice", how="left")
    rows = rows.with_columns(pl.col("reward").fill_null(0.0))
    samples: dict[str, Sample] = {}
    arms = []
    for arm in live.arms:
        mine = rows.filter(pl.col("arm") == arm.name)
        value = low = high = None
        units = mine["unit"].n_unique()
        if units >= 2:
            sample = Sample.of_rows(mine["unit"].to_numpy(), mine["reward"].to_numpy())
            samples[arm.name] = sample
            # Student's quantile: of few units the variance is a guess too.
            half = float(special.stdtrit(units - 1, 0.975)) * math.sqrt(sample.variance / sample.units)
            value, low, high = sample.mean, sample.mean - half, sample.mean + half
        arms.append(
            {
                "arm": arm.name,
                "role": arm.role,
                "policy": arm.policy,
                "share": arm.share,
                "units": units,
                "value": value,
                "low": low,
                "high": high,
            }
        )
    challenger = next((a for a in live.arms if a.role == "challenger"), None)
    said = None
    if challenger is not None and {challenger.name, live.live.name} <= samples.keys():
        exposed = {
            a.name: int(rows.filter(pl.col("arm") == a.name)["unit"].n_unique()) for a in live.arms if a.share > 0
        }
        ratio = ratio_check(exposed, {a.name: a.share for a in live.arms if a.share > 0})
        said = readout(
            samples[live.live.name], samples[challenger.name], design=Design(planned), ratio=ratio,
            metric=decision.reward_unit or "reward",
        )  # fmt: skip
    return Trial(live, tuple(arms), said)
