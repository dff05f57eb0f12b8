"""Retries: when, and by which route, to try a declined charge again; or to stop."""

from __future__ import annotations

from collections.abc import Sequence

import matinee as mt
from matinee.domains.payments.charging import MARGIN, MOST_ATTEMPTS, most_attempts, paid, refused_for_good, stopped
from matinee.domains.payments.facts import Attempt

WAITS = ("1h", "6h", "1d", "3d", "7d")
ROUTES = ("same", "other")  # the processor of the last attempt, or whichever `route` would choose besides it
QUIET = ("22:00", "08:00")


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
