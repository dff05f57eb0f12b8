"""What is played soon after what: a Markov chain over a decayed window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from matinee.domains.personalization.recommenders.base import Recommender, largest_first
from matinee.domains.personalization.recommenders.histories import Histories
from matinee.domains.personalization.recommenders.pairs import pair_counts
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
    decayed: sum_r decay^(r - 1) C[i_r, j] / (C[i_r, .] + 5) / (plays_j + 1)^.15. Only pairs that occurred take memory.

    Attributes:
        starts: Where the row of each title begins, and the end, shape (titles + 1,).
        columns: Title j of each entry of C, rising in its row, int32.
        counts: The entries, float32.
        plays: Plays of each title, shape (titles,), float32.
        decay: What a step of distance takes.
        window: Longest distance counted, and titles of a history read.
    """

    kind: ClassVar[str] = "following"
    starts: Array = field(default_factory=lambda: np.zeros(1, np.int64))
    columns: Array = field(default_factory=lambda: np.zeros(0, np.int32))
    counts: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    plays: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    decay: float = 0.7
    window: int = 10
    _totals: Array = field(default_factory=lambda: np.zeros(0, np.float32), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._totals = self.table().sum(axis=1)

    def table(self) -> Any:
        """C as a sparse matrix by rows, shape (titles, titles)."""
        from scipy.sparse import csr_array

        return csr_array((self.counts, self.columns, self.starts), (len(self.plays), len(self.plays)))

    def fit(self, histories: Histories) -> Self:
        """Count pairs."""
        self.titles, self.learned = histories.titles, histories
        self._keep(pair_counts(histories, self._weights()))
        return self

    def update(self, newer: Histories) -> Self:
        """Count the pairs whose second title is new; exact. Events older than a member's last one are a fit again."""
        from scipy.sparse import coo_array

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
        # Of the old events, those within the window before the seam are enough.
        at = np.arange(len(every.items)) - np.repeat(every.offsets[:-1] + before, every.lengths)
        touched = np.repeat(every.lengths > before, every.lengths)
        tails = every.where(touched & (at >= -self.window))
        fresh = (at >= 0)[touched & (at >= -self.window)]
        grown, place = self.table().tocoo(), np.searchsorted(every.titles, self.titles)
        n = len(every.titles)
        kept = coo_array((grown.data, (place[grown.row], place[grown.col])), (n, n)).tocsr()
        self.titles, self.learned = every.titles, every
        self._keep(kept + pair_counts(tails, self._weights(), fresh))
        return self

    def _weights(self) -> Array:
        return np.asarray(self.decay ** np.arange(self.window, dtype=np.float64))

    def _keep(self, found: Any) -> None:
        assert self.learned is not None
        found.sort_indices()
        self.starts, self.columns = found.indptr.astype(np.int64), found.indices.astype(np.int32)
        self.counts = found.data.astype(np.float32)
        self.plays = np.bincount(self.learned.items, minlength=len(self.titles)).astype(np.float32)
        self._totals = self.table().sum(axis=1)

    def scores(self, history: Sequence[int] | Array) -> Array:
        """Decayed sum over the last titles."""
        made = np.zeros(len(self.titles), np.float32)
        for title, strength in zip(*self._last(history), strict=True):
            row = slice(self.starts[title], self.starts[title + 1])
            made[self.columns[row]] += strength * self.counts[row]
        return made * self._lift()

    def scores_of(self, histories: Histories, rows: Array | None = None) -> Array:
        """One sparse product."""
        from scipy.sparse import csr_array

        known = (histories if rows is None else histories.rows(rows)).against(self.titles)
        age = np.repeat(known.offsets[1:], known.lengths) - 1 - np.arange(len(known.items))
        recent = known.where(age < self.window)
        strength = self.decay ** age[age < self.window] / (self._totals[recent.items] + SHRINK)
        read = csr_array((strength.astype(np.float32), recent.items, recent.offsets), (len(known), len(self.titles)))
        return np.asarray((read @ self.table()).toarray() * self._lift(), np.float32)

    def explain(self, history: Sequence[int] | Array, title: int) -> list[tuple[int, float]]:
        """The terms of the score, by title of the history."""
        at, known = self._positions(np.array([title]))
        found: list[tuple[int, float]] = []
        for back, strength in zip(*self._last(history), strict=True) if known[0] else ():
            row = slice(self.starts[back], self.starts[back + 1])
            place = int(np.searchsorted(self.columns[row], at[0]))
            if place < len(self.columns[row]) and self.columns[row][place] == at[0]:
                term = strength * self.counts[row][place] * self._lift()[at[0]]
                found.append((int(self.titles[back]), float(term)))
        return largest_first(found)

    def _last(self, history: Sequence[int] | Array) -> tuple[Array, Array]:
        """The last titles, newest first, and what each counts."""
        last = self._known(history)[-self.window :][::-1]
        return last, self.decay ** np.arange(len(last), dtype=np.float32) / (self._totals[last] + np.float32(SHRINK))

    def _lift(self) -> Array:
        return np.asarray((self.plays + 1.0) ** -POPULARITY, np.float32)
