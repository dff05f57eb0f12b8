"""What is played soon after what: a Markov chain over a decayed window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np

from matinee.domains.personalization.recommenders.base import Recommender, largest_first
from matinee.domains.personalization.recommenders.histories import Histories
from matinee.scorers import register

Array = np.ndarray[Any, Any]
SHRINK = 5.0
# Part of popularity is taken out: what follows everything says little about what follows this.
POPULARITY = 0.15


@register
@dataclass(repr=False)
class Following(Recommender):
    """What is played soon after what: counts of pairs in a window, decayed by their distance, lifted by popularity.

    C[i, j] = sum over pairs with j after i of decay^(distance - 1). Scores add over the last titles of a history, again
    decayed: sum_r decay^(r - 1) C[i_r, j] / (C[i_r, .] + 5) / (plays_j + 1)^.15.

    Attributes:
        counts: C, shape (titles, titles), float32.
        plays: Plays of each title, shape (titles,), float32.
        decay: What a step of distance takes.
        window: Longest distance counted, and titles of a history read.
    """

    kind: ClassVar[str] = "following"
    counts: Array = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    plays: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    decay: float = 0.7
    window: int = 10
    _totals: Array = field(default_factory=lambda: np.zeros(0, np.float32), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._totals = self.counts.sum(axis=1)

    def fit(self, histories: Histories) -> Self:
        """Count pairs."""
        n = len(histories.titles)
        self.titles, self.learned = histories.titles, histories
        self.counts = np.zeros((n, n), np.float32)
        self._count(histories, histories.offsets[:-1])
        return self

    def update(self, newer: Histories) -> Self:
        """Count the pairs whose second title is new; exact. Events older than a member's last one are a fit again."""
        every, old = self._everything(newer), self.learned
        assert old is not None
        # How many old events each member has, where the seam lies; the new events must begin there.
        before = np.zeros(len(every), np.int64)
        place = np.searchsorted(every.members, old.members)
        before[place] = old.lengths
        last = np.full(len(every), -np.inf)
        some = old.lengths > 0
        last[place[some]] = old.day[old.offsets[1:][some] - 1]
        owner = np.searchsorted(every.members, np.repeat(newer.members, newer.lengths))
        if (newer.day < last[owner]).any():
            return self.fit(every)
        at = np.searchsorted(every.titles, self.titles)
        counts = np.zeros((len(every.titles),) * 2, np.float32)
        counts[np.ix_(at, at)] = self.counts
        self.titles, self.learned, self.counts = every.titles, every, counts
        self._count(every, every.offsets[:-1] + before)
        return self

    def _count(self, histories: Histories, fresh: Array) -> None:
        count_pairs(histories.items, histories.offsets, self.counts, self.decay, self.window, fresh)
        self.plays = np.bincount(histories.items, minlength=len(self.titles)).astype(np.float32)
        self._totals = self.counts.sum(axis=1)

    def scores(self, history: Sequence[int] | Array) -> Array:
        """Decayed sum over the last titles."""
        last, strength = self._last(history)
        if not len(last):
            return np.zeros(len(self.titles), np.float32)
        return np.asarray((strength @ self.counts[last]) * self._lift(), np.float32)

    def explain(self, history: Sequence[int] | Array, title: int) -> list[tuple[int, float]]:
        """The terms of the score, by title of the history."""
        at, known = self._positions(np.array([title]))
        last, strength = self._last(history)
        if not known[0] or not len(last):
            return []
        terms = strength * self.counts[last, at[0]] * self._lift()[at[0]]
        return largest_first(zip(self.titles[last].tolist(), terms.tolist(), strict=True))

    def _last(self, history: Sequence[int] | Array) -> tuple[Array, Array]:
        """The last titles, newest first, and what each counts."""
        last = self._known(history)[-self.window :][::-1]
        return last, self.decay ** np.arange(len(last), dtype=np.float32) / (self._totals[last] + np.float32(SHRINK))

    def _lift(self) -> Array:
        return np.asarray((self.plays + 1.0) ** -POPULARITY, np.float32)


def count_pairs(
    items: Array, offsets: Array, counts: Array, decay: float, window: int, fresh: Array | None = None
) -> None:
    """Add the decayed pairs of each member to `counts`, in place; pairs whose second event lies before `fresh` are not.

    Args:
        items: Positions, shape (events,).
        offsets: Where each member begins, and the end, shape (members + 1,).
        counts: Shape (titles, titles), float32.
        decay: What a step of distance takes.
        window: Longest distance.
        fresh: From which event on each member's are new, shape (members,); None: all are.
    """
    _kernel()(items, offsets, offsets[:-1] if fresh is None else fresh, counts, decay, window)


@cache
def _kernel() -> Any:
    import numba

    @numba.njit(cache=True)
    def pairs(items, offsets, fresh, counts, decay, window):  # type: ignore[no-untyped-def]
        for m in range(len(offsets) - 1):
            for y in range(max(fresh[m], offsets[m] + 1), offsets[m + 1]):
                strength = 1.0
                for x in range(y - 1, max(offsets[m] - 1, y - 1 - window), -1):
                    if items[x] != items[y]:
                        counts[items[x], items[y]] += strength
                    strength *= decay

    return pairs
