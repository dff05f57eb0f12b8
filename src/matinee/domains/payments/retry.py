"""Retries: when, and by which route, to try a declined charge again; or to stop. The decision, and how it is learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

import matinee as mt
from matinee.domains.payments.charging import (
    MARGIN,
    MOST_ATTEMPTS,
    charge,
    most_attempts,
    paid,
    refused_for_good,
    stopped,
)
from matinee.domains.payments.facts import Attempt
from matinee.rewards import LATENESS

if TYPE_CHECKING:
    import polars as pl

Progress = Callable[..., None]

WAITS = ("1h", "6h", "1d", "3d", "7d")
ROUTES = ("same", "other")  # the processor of the last attempt, or whichever `route` would choose besides it
QUIET = ("22:00", "08:00")
FEWEST_CHOICES = 300  # logged retries with a complete reward below which nothing is learned
FEWEST_ROWS = 40  # in a leaf
FIRST = 2 / 3  # the part of them, in order of time, that is learned from; the rest is kept to judge on
FLOOR = 0.1  # share of the choices that stays random, so that the log stays worth learning from
WARMTH = 0.5  # temperature, in standard deviations of a value over the options


def retry_decision(
    routes: Sequence[str] = ROUTES,
    waits: Sequence[str] = WAITS,
    *,
    margin: float = MARGIN,
    attempts: int = MOST_ATTEMPTS,
    quiet: tuple[str, str] = QUIET,
    within: str = "14d",
) -> mt.Decision:
    """The retry decision: a wait and a route, or stop.

    The guards are simple rules: never after a success, a stop, or an answer that says never again; a cap on attempts;
    no charge in the member's night. The networks' own rules, with their dates and regions, are not part of them.

    Args:
        routes: Names of processors, or "same" and "other".
        waits: How long after the last attempt.
        margin: Share of an amount that the service keeps before fees.
        attempts: Most attempts in 30 days, the first included.
        quiet: Local hours in which nobody is charged; the time zone comes with the request (`zone`).
        within: How long after a choice its reward is counted.

    Example:
        >>> retry_decision(["alder"], ["1h", "1d"]).options.candidates().ids.tolist()
        ['1h alder', '1d alder', 'stop']
    """
    options = mt.grid(wait=list(waits), route=list(routes))
    return mt.Decision(
        "retry",
        title="Payment retries",
        unit="invoice",
        among=options + [mt.stop],  # noqa: RUF005  # options add up to options, not to a list
        reward=margin * mt.sum(Attempt.amount_minor, within=within, where=Attempt.approved)
        - mt.sum(Attempt.fee_minor, within=within),
        reward_unit="minor units",
        guards=[
            paid(),
            stopped(),
            refused_for_good(),
            most_attempts(attempts),
            mt.quiet(*quiet, wait="wait", allow=("stop",)),
        ],
        fallback=mt.stop,
        description="When and how to try a declined charge again",
    )


retry = retry_decision()


def train(
    studio: mt.Studio,
    step: Progress = lambda *_a: None,
    *,
    until: datetime | float = FIRST,
    again: bool = True,
) -> list[str]:
    """Learn what each way to retry is worth, from the rewards of the logged choices.

    The model learns from the first part of the log; `studio.evaluate` judges its policy on the rest. Then the same is
    learned once more from everything, for which the log holds no evidence: its own trial judges it.

    Args:
        studio: Where the choices were logged.
        step: Called with the steps done.
        until: Learn from the choices before this time, or from this first share of them.
        again: Whether to learn once more from everything.

    Returns:
        Names of the policies: anything at random (the baseline), the learned one, and the same on everything.

    Raises:
        MatineeError: If there are too few logged choices with a complete reward.
    """
    decision = studio.decision("retry")
    baseline = studio.save_policy(decision, mt.Uniform(), note="any wait and any route: the cleanest log there is")
    log = _logged(studio, decision)
    if len(log) < FEWEST_CHOICES:
        raise mt.MatineeError(
            f"decision 'retry' has {len(log)} logged choices with a complete reward, must have at least {FEWEST_CHOICES} "
            f"to learn from: release the policy that tries anything (`matinee release retry {baseline} 1`), retry by its "
            "choices, wait until their reward is complete, then `matinee seal`"
        )
    step(1, "learning from the first part of the log")
    learned = _learned(studio, decision, log, until)
    cut = studio.graph.get(f"model://{learned.scorers()[0].name}").data["until"]
    names = [
        baseline,
        studio.save_policy(
            decision, learned, note=f"expected net value, learned before {cut[:16]}: to be judged on what came later"
        ),
    ]
    if again:
        step(1, "learning once more from all of it")
        everything = _learned(studio, decision, log, None)
        note = (
            f"{names[1]} learned again on all choices: nothing that is logged can judge it, release it to a share and "
            "read its trial"
        )
        names.append(studio.save_policy(decision, everything, note=note))
    return names


def _logged(studio: mt.Studio, decision: mt.Decision) -> pl.DataFrame:
    """Drawn choices whose reward is complete."""
    import polars as pl

    assert decision.reward is not None
    log = studio.choices(decision.name, until=studio.clock() - decision.reward.horizon - LATENESS)
    return log.filter(pl.col("fallback").is_null(), pl.col("mode") == "decide", pl.col("propensities").list.len() > 0)


def _learned(studio: mt.Studio, decision: mt.Decision, log: pl.DataFrame, until: datetime | float | None) -> mt.Softmax:
    # A way to retry is worth a split of its own from as few rows as any other: LightGBM would ask for a hundred.
    options = {"min_data_per_group": FEWEST_ROWS}
    model = mt.LightGBM(objective="regression", trees=120, leaves=7, min_rows=FEWEST_ROWS, options=options)
    ranker = studio.train(decision, model, on=[charge], action=True, clock=True, until=until)
    return mt.Softmax(ranker, temperature=_temperature(studio, decision, ranker, log), floor=FLOOR)


def _temperature(studio: mt.Studio, decision: mt.Decision, ranker: Any, log: pl.DataFrame, most: int = 200) -> float:
    """A share of how much values differ between the options of one invoice: rewards may be cents or whole amounts."""
    import polars as pl

    assert decision.options is not None
    options = decision.options.candidates()
    some = log.sort("at", "id").gather_every(max(1, len(log) // most)).select(pl.col("unit").alias("invoice"), "at")
    states = charge.batch(studio.facts, some).select(charge.names).to_dicts()
    spreads = [
        ranker.score(mt.Request(decision.name, unit, at, {}, state), options).mean.std()
        for (unit, at), state in zip(some.iter_rows(), states, strict=True)
    ]
    return float(f"{max(WARMTH * float(np.mean(spreads)), 1e-6):.2g}")
