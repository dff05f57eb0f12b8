"""What the stages of the demo share: the simulated clock, a true value, a line for each step, a row of the result."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matinee.judge import Evaluation
    from matinee.studio import Studio


@dataclass
class Clock:
    """The studio's clock: the simulated time."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now


@dataclass(frozen=True)
class Truth:
    """A true value and its standard error, from the contexts being a sample."""

    value: float
    error: float


class Bar:
    """One line a step on stderr, with the seconds it took; a bar while it runs."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.begun = quiet, time.perf_counter()

    @contextmanager
    def step(self, what: str, total: int | None = None) -> Iterator[Callable[..., None]]:
        """Show a step while it runs, then what it took."""
        from matinee.cli.app import progress

        begin = time.perf_counter()
        with progress(what, total, quiet=self.quiet) as advance:
            yield advance
        if not self.quiet:
            print(
                f"{time.perf_counter() - self.begun:6.1f} s  {what} ({time.perf_counter() - begin:.1f} s)",
                file=sys.stderr,
            )


def row(studio: Studio, decision: str, name: str, judged: Evaluation, truth: Truth) -> dict[str, Any]:
    """One policy of the result: what it was judged to be worth, and what it is worth."""
    low, high = judged.interval or (None, None)
    return {
        "decision": decision,
        "policy": name,
        "what": studio.policies(decision)[name]["note"],
        "estimate": judged.value,
        "low": low,
        "high": high,
        "truth": truth.value,
        "truth_error": truth.error,
        "method": "" if judged.headline is None else judged.headline.method,
        "refused": judged.refused,
        "unit": studio.decision(decision).reward_unit,
    }
