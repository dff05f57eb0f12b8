"""Logged choices with what came of them: one row a slot, the reward of each, mature choices only."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from matinee import catalogue
from matinee.decisions import Decision
from matinee.exceptions import BadInputError
from matinee.rewards import LATENESS, slot_rewards

if TYPE_CHECKING:
    import polars as pl

    from matinee.facts import Fact
    from matinee.studio import Studio

# The columns of `choices` that `rewarded_slots` needs.
SLOT_COLUMNS = ("id", "unit", "at", "items_at", "context", "policy", "cluster", "action", "propensities")


def mature_before(decision: Decision, now: datetime, lateness: timedelta = LATENESS) -> datetime:
    """Choices before this time have their whole reward by now: its horizon and the allowance for late facts are over."""
    horizon = decision.reward.horizon if decision.reward is not None else timedelta(0)
    return now - horizon - (lateness if horizon else timedelta(0))


def rewarded_slots(
    studio: Studio,
    decision: Decision,
    choices: pl.DataFrame,
    *,
    scan: Callable[[type[Fact]], pl.LazyFrame] | None = None,
) -> pl.DataFrame:
    """One row a slot: `choice`, `unit`, `at`, `items_at`, `slot`, `action`, `reward`, `propensity`, `context`.

    Args:
        studio: Whose log.
        decision: What was decided.
        choices: Rows of the `choices` table, with `SLOT_COLUMNS` at least.
        scan: Reads a fact (pinned, for training); the studio's newest rows where not given.

    Raises:
        BadInputError: If the decision has no reward.
    """
    import polars as pl

    if decision.reward is None:
        raise BadInputError(f"decision {decision.name!r} has no reward, must have one to be learned from or evaluated")
    slots = (
        choices.select(
            pl.col("id").alias("choice"),
            pl.col("unit").cast(pl.String),
            "at",
            "items_at",
            "context",
            "policy",
            "cluster",
            pl.int_ranges(pl.col("action").list.len()).alias("slot"),
            "action",
            pl.col("propensities").alias("propensity"),
        )
        .explode("slot", "action", "propensity")
        .filter(pl.col("action").is_not_null())
        .with_columns(pl.col("action").cast(pl.String))
    )
    table = catalogue.option_table(decision, decision.options.candidates()) if decision.options is not None else {}
    return slot_rewards(
        decision.reward,
        slots,
        scan or (lambda fact: studio.facts.scan(fact)),
        unit=decision.unit,
        among=decision.entity,
        columns=lambda name: _costs(table, name, decision),
    )


def _costs(table: object, name: str, decision: Decision) -> dict[object, float]:
    if not isinstance(table, dict) or name not in table:
        raise BadInputError(
            f"cost({name!r}) of decision {decision.name!r}, must name a numeric attribute of its options"
        )
    return dict(table[name])


def context_columns(slots: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """The context keys as columns `context.NAME`, from the logged JSON text."""
    import json

    import polars as pl

    if not keys:
        return slots
    parsed = [json.loads(c) if c else {} for c in slots["context"].to_list()]
    return slots.with_columns(pl.Series(f"context.{k}", [p.get(k) for p in parsed], strict=False) for k in keys)
