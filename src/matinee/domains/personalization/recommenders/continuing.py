"""Continue watching: what a member began and will come back to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np

from matinee.checks import must
from matinee.domains.personalization.recommenders.base import Recommender
from matinee.domains.personalization.recommenders.histories import Histories
from matinee.scorers import register

Array = np.ndarray[Any, Any]
AGES = (1, 2, 3, 5, 8, 13, 21, 50)  # distinct titles played since: the first age of each band
TIMES = (1, 2, 4)  # plays so far: the first of each band
SMOOTHING = 2.0  # plays' worth of the rate over all bands


@register
@dataclass(repr=False)
class Continuing(Recommender):
    """The chance that the next play goes back to a title of the history, by how long ago it was and how often it came.

    A title begun and not finished is played again after something else; what is over is not. Of all moments at which a
    title stood a distinct others back and had been played c times, the share whose next play was that title is its
    score: counted in bands of a and c, each drawn towards the rate over all by two moments' worth. Titles not in the
    history score 0. Where it is known how far a play went, the finished ones are to be left out of the history asked
    about.

    Seen titles are the point here: ask for `begun`, since `recommend` leaves them out as everywhere.

    Attributes:
        returns, moments: Plays that went back, and moments at which they might have, by band, shape (ages, times).
        most: How many titles back it looks.
    """

    kind: ClassVar[str] = "continuing"
    returns: Array = field(default_factory=lambda: np.zeros((len(AGES), len(TIMES))))
    moments: Array = field(default_factory=lambda: np.zeros((len(AGES), len(TIMES))))
    most: int = 100

    def __post_init__(self) -> None:
        must(self.most, "most", typ=int, ge=1)

    def fit(self, histories: Histories) -> Self:
        """Count returns, one pass: events times titles looked back on."""
        self.learned, self.titles = histories, histories.titles
        self.returns, self.moments = np.zeros((len(AGES), len(TIMES))), np.zeros((len(AGES), len(TIMES)))
        _kernel()(
            histories.items, histories.offsets, np.array(AGES), np.array(TIMES), self.most, self.returns, self.moments
        )
        return self

    @property
    def rates(self) -> Array:
        """Chance of a return by band, shape (ages, times)."""
        total = self.moments.sum()
        overall = self.returns.sum() / total if total else 0.0
        return np.asarray((self.returns + SMOOTHING * overall) / (self.moments + SMOOTHING))

    def scores(self, history: Sequence[int] | Array) -> Array:
        """The rate of each title of the history; 0 for all others."""
        found = np.zeros(len(self.titles), np.float32)
        known = self._known(history)
        newest, first, times = np.unique(known[::-1], return_index=True, return_counts=True)
        order = np.argsort(first)[: self.most]
        ages = np.arange(len(order))
        # The title that was played last stands 0 others back: to go on with it at once is no return, but it is the
        # first to be offered, as if one other had been played since.
        band = np.searchsorted(AGES, np.maximum(ages, 1), side="right") - 1
        often = np.searchsorted(TIMES, times[order], side="right") - 1
        found[newest[order]] = self.rates[band, often] if len(order) else 0.0
        return found

    def begun(self, history: Sequence[int] | Array, k: int = 10) -> tuple[Array, Array]:
        """The k titles of a history most likely to be gone on with, and their chances, best first."""
        titles, chances = self.recommend(history, k, exclude_seen=False)
        return titles[chances > 0], chances[chances > 0]

    def explain(self, history: Sequence[int] | Array, title: int) -> list[tuple[int, float]]:
        """The title itself."""
        at, known = self._positions(np.array([title]))
        score = float(self.scores(history)[at[0]]) if known[0] else 0.0
        return [(int(title), score)] if score > 0 else []

    def similar(self, title: int, k: int = 10) -> tuple[Array, Array]:
        """Nothing: it knows no likeness."""
        found = super().similar(title, k)
        return found[0][:0], found[1][:0]


@cache
def _kernel() -> Any:
    import numba

    @numba.njit(cache=True, nogil=True)
    def count(items, offsets, ages, times, most, returns, moments):  # type: ignore[no-untyped-def]
        for m in range(len(offsets) - 1):
            begin, end = offsets[m], offsets[m + 1]
            stack = np.empty(most, np.int64)  # distinct titles, the newest first
            plays = np.empty(most, np.int64)
            n = 0
            for x in range(begin, end):
                found = -1
                for a in range(n):
                    again = stack[a] == items[x]
                    if again:
                        found = a
                    if a > 0:  # what was played last cannot be come back to
                        i, j = 0, 0
                        while i + 1 < len(ages) and ages[i + 1] <= a:
                            i += 1
                        while j + 1 < len(times) and times[j + 1] <= plays[a]:
                            j += 1
                        moments[i, j] += 1.0
                        returns[i, j] += again
                count_so_far = plays[found] + 1 if found >= 0 else 1
                last = found if found >= 0 else min(n, most - 1)
                if found < 0 and n < most:
                    n += 1
                for a in range(last, 0, -1):
                    stack[a], plays[a] = stack[a - 1], plays[a - 1]
                stack[0], plays[0] = items[x], count_so_far

    return count
