"""The doctor's findings, looked up beside the pages: reading every file of a studio takes seconds, a page must not.

A page shows what was found last, and when. While nothing was found yet it says so, rather than that all is well.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matinee.doctor import Report

log = logging.getLogger("matinee.console")
FRESH_SECONDS = 600.0


@dataclass(frozen=True)
class Findings:
    """What the doctor found, and when it began to look: whatever came later it may not have seen."""

    report: Report
    at: datetime


class Checkup:
    """Runs the doctor in a thread when its findings are asked for and are missing or old.

    Args:
        examine: Runs every check.
        now: The studio's clock, which the findings are dated by.
        ticks: Seconds of a clock that never goes back.
    """

    def __init__(
        self, examine: Callable[[], Report], now: Callable[[], datetime], *, ticks: Callable[[], float] = time.monotonic
    ) -> None:
        self._examine, self._now, self._ticks = examine, now, ticks
        self._lock = threading.Lock()
        self._found: Findings | None = None
        self._begun = 0.0
        self._runs: threading.Thread | None = None

    def findings(self) -> Findings | None:
        """The newest findings, or None while the first ones are being made; never waits."""
        with self._lock:
            old = self._found is None or self._ticks() - self._begun >= FRESH_SECONDS
            if old and self._runs is None:
                self._begun = self._ticks()
                self._runs = threading.Thread(target=self._run, name="matinee-checkup")
                self._runs.start()
            return self._found

    def forget(self) -> None:
        """Somebody acted: what was found before may no longer be so. A look that is under way is of no use either."""
        with self._lock:
            self._found = self._runs = None

    def wait(self, seconds: float) -> Findings | None:
        """The findings, waiting at most so long for those that are being made."""
        self.findings()
        with self._lock:
            runs = self._runs
        if runs is not None:
            runs.join(seconds)
        with self._lock:  # also where they were made before anybody could wait
            return self._found

    def _run(self) -> None:
        found: Findings | None = None
        try:
            at = self._now()
            found = Findings(self._examine(), at)
        except Exception:  # the studio was closed under it, for instance; the next page asks again
            log.exception("the studio could not be examined")
        with self._lock:
            if self._runs is threading.current_thread():
                self._found, self._runs = found or self._found, None
