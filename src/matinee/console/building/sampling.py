"""Samples of pages, drawn in a thread: drawing hundreds takes seconds, and a page of the console must not.

A sample is asked for and given at once, as far as it is drawn; who looks at it says so until it is done.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from matinee.choices import Id
from matinee.decisions import Decision
from matinee.exceptions import MatineeError
from matinee.showing import Showing

if TYPE_CHECKING:
    from matinee.live import Rehearsed

log = logging.getLogger("matinee.console")
SECONDS = 60.0  # after which a sample ends with the pages it has
FRESH_SECONDS = 900.0


@dataclass
class Sample:
    """Pages of one policy for a sample of units, as far as they are drawn.

    Attributes:
        units: Of the sample, in order.
        shown: The candidates of each page drawn so far.
        had: What each of these units had before.
        fell: How many pages fell back.
        among: Candidates that are published.
        done: True when no more will come.
        error: What ended it, when something did.
    """

    units: Sequence[Id]
    shown: list[list[Id]] = field(default_factory=list)
    had: list[list[Id]] = field(default_factory=list)
    fell: int = 0
    among: int = 0
    done: bool = False
    error: str = ""

    @property
    def drawn(self) -> int:
        """Units that were looked at."""
        return len(self.shown) + self.fell


class Reach:
    """Draws samples of pages in a thread; asked for again, gives what there is. Never waits.

    Args:
        draw: The page of a policy for a unit.
        ticks: Seconds of a clock that never goes back.
    """

    def __init__(
        self, draw: Callable[[Decision, Id, str], Rehearsed], *, ticks: Callable[[], float] = time.monotonic
    ) -> None:
        self._draw, self._ticks = draw, ticks
        self._lock = threading.Lock()
        self._samples: dict[tuple[object, ...], tuple[float, Sample]] = {}
        self._runs: threading.Thread | None = None
        self._waiting: list[tuple[Sample, Decision, str, Showing]] = []

    def sample(
        self, key: tuple[object, ...], decision: Decision, policy: str, showing: Showing, units: Callable[[], Sequence[Id]]
    ) -> Sample:
        """The sample of a policy; begun now where there is none that is fresh.

        Args:
            key: What the sample depends on: with another release or publish it is another one.
            decision, policy: Whose pages.
            showing: Of the decision.
            units: Gives the units of the sample.
        """
        with self._lock:
            found = self._samples.get(key)
            if found is not None and self._ticks() - found[0] < FRESH_SECONDS:
                return found[1]
        made = Sample(units())
        with self._lock:
            found = self._samples.get(key)
            if found is not None and self._ticks() - found[0] < FRESH_SECONDS:
                return found[1]  # somebody asked at the same moment
            for old in [k for k in self._samples if k[:2] == key[:2]]:
                self._samples.pop(old)[1].done = True
            self._samples[key] = (self._ticks(), made)
            self._waiting.append((made, decision, policy, showing))
            if self._runs is None:
                self._runs = threading.Thread(target=self._run, name="matinee-reach", daemon=True)
                self._runs.start()
        return made

    def forget(self) -> None:
        """Somebody acted or was erased: what was drawn before may no longer be so."""
        with self._lock:
            for _, sample in self._samples.values():
                sample.done = True
            self._samples, self._waiting = {}, []

    def wait(self, seconds: float) -> None:
        """Wait at most so long until all samples are drawn."""
        with self._lock:
            runs = self._runs
        if runs is not None:
            runs.join(seconds)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._runs = None
                    return
                job = self._waiting.pop(0)
            self._fill(*job)

    def _fill(self, sample: Sample, decision: Decision, policy: str, showing: Showing) -> None:
        begun = self._ticks()
        try:
            for unit in sample.units:
                if sample.done or self._ticks() - begun > SECONDS:
                    break
                made = self._draw(decision, unit, policy)
                sample.among = len(made.candidates)
                if made.choice.fallback:
                    sample.fell += 1
                else:
                    had = list(showing.history(made.request)) if showing.history is not None else []
                    sample.had.append(had)
                    sample.shown.append(list(made.choice.action))
                time.sleep(0.002)  # whoever is served meanwhile goes first
        except Exception as error:  # the studio was closed under it, for instance; the page says so
            log.exception("the pages of %s could not be drawn", policy)
            sample.error = str(error) if isinstance(error, MatineeError) else type(error).__name__
        sample.done = True
