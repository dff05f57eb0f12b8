"""What comes next, as evidence multiplied: a log-linear chain over bands of lags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from matinee.domains.personalization.recommenders.base import Recommender, largest_first
from matinee.domains.personalization.recommenders.histories import Histories
from matinee.domains.personalization.recommenders.lifts import Lifts
from matinee.domains.personalization.recommenders.logit import learn_weights
from matinee.scorers import register

Array = np.ndarray[Any, Any]
BANDS = ((1, 1), (2, 2), (3, 3), (4, 6), (7, 12), (13, 25), (26, 60))


@register
@dataclass(repr=False)
class Chain(Recommender):
    """How much likelier each title of the history makes the next one, by how long ago it was: log lifts, added.

    log P(j | history) = w_0 log q_j + sum over bands b, over events i in b, of w_b log lift_b[i, j], up to a constant: a
    naive Bayes of which each band learns how far it may be believed, by a multinomial logit on the members' newest
    titles, counted without them; then everything is counted again. Multiplied evidence, where `Successor` adds it: weak
    alone, strong beside it. See `Lifts` for the lifts and their smoothing.

    Attributes:
        weights: w_0, then w_b of each band, shape (bands + 1,).
        bands: First and last lag of each.
        starts, columns, values: The lifts, as in `Lifts`.
        plays: log q, shape (titles,), float32.
    """

    kind: ClassVar[str] = "chain"
    logarithmic: ClassVar[bool] = True
    weights: Array = field(default_factory=lambda: np.zeros(0))
    bands: tuple[tuple[int, int], ...] = BANDS
    starts: Array = field(default_factory=lambda: np.zeros(1, np.int64))
    columns: Array = field(default_factory=lambda: np.zeros(0, np.int32))
    values: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    plays: Array = field(default_factory=lambda: np.zeros(0, np.float32))

    def __post_init__(self) -> None:
        self.bands = tuple((int(first), int(last)) for first, last in self.bands)

    def fit(self, histories: Histories) -> Self:
        """Learn the weights of the bands on each member's newest title, then count everything.

        Raises:
            MatineeError: If no member has two events.
        """
        self.titles, self.learned = histories.titles, histories
        self._count(histories.without_last(1))
        self.weights = learn_weights(self._by_band, histories, sources=len(self.bands) + 1)
        self._count(histories)
        return self

    def scores(self, history: Sequence[int] | Array) -> Array:
        """Logs of what behaves like probabilities, up to a constant of the history."""
        total = self.weights[0] * self.plays.astype(np.float64)
        for row, strength in zip(*(part.tolist() for part in self._rows(self._known(history))), strict=True):
            some = slice(self.starts[row], self.starts[row + 1])
            total[self.columns[some]] += strength * self.values[some]
        return np.asarray(total, np.float32)

    def scores_of(self, histories: Histories, rows: Array | None = None) -> Array:
        """One sparse product."""
        known = (histories if rows is None else histories.rows(rows)).against(self.titles)
        strength = np.asarray(self.weights[1:])
        total = (self._read(known, strength) @ self._table()).toarray()
        return np.asarray(total + self.weights[0] * self.plays, np.float32)

    def explain(self, history: Sequence[int] | Array, title: int) -> list[tuple[int, float]]:
        """The terms of the score, by title of the history."""
        at, known = self._positions(np.array([title]))
        if not known[0]:
            return []
        back, found = self._rows(self._known(history)), []
        for row, strength in zip(*(part.tolist() for part in back), strict=True):
            some = slice(self.starts[row], self.starts[row + 1])
            place = int(np.searchsorted(self.columns[some], at[0]))
            if place < len(self.columns[some]) and self.columns[some][place] == at[0]:
                found.append((int(self.titles[row % len(self.titles)]), strength * float(self.values[some][place])))
        return largest_first(found)

    def _count(self, histories: Histories) -> None:
        lifts = Lifts.of(histories, self.bands)
        self.starts, self.columns, self.values, self.plays = lifts.starts, lifts.columns, lifts.values, lifts.plays

    def _by_band(self, histories: Histories) -> list[Array]:
        """Log popularity, then the sum of the lifts of each band."""
        table = self._table()
        found = [np.tile(self.plays, (len(histories), 1))]
        for b in range(len(self.bands)):
            one = self._read(histories, np.eye(len(self.bands))[b])
            found.append((one @ table).toarray())
        return found

    def _table(self) -> Any:
        from scipy.sparse import csr_array

        shape = (len(self.bands) * len(self.titles), len(self.titles))
        return csr_array((self.values, self.columns, self.starts), shape)

    def _read(self, known: Histories, strength: Array) -> Any:
        """Which rows of the lifts each member reads, and how much each counts: members x (bands x titles), sparse."""
        from scipy.sparse import csr_array

        n = len(self.titles)
        lags = np.repeat(known.offsets[1:], known.lengths) - np.arange(len(known.items))
        who = np.repeat(np.arange(len(known)), known.lengths)
        value, row, column = [np.zeros(0, np.float32)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for b, (first, last) in enumerate(self.bands):
            inside = (lags >= first) & (lags <= last) & (strength[b] != 0)
            value.append(np.full(inside.sum(), strength[b], np.float32))
            row.append(who[inside])
            column.append(known.items[inside] + b * n)
        return csr_array(
            (np.concatenate(value), (np.concatenate(row), np.concatenate(column))), (len(known), n * len(self.bands))
        )

    def _rows(self, known: Array) -> tuple[Array, Array]:
        """Rows of the lifts that one history reads, and how much each counts."""
        newest, n = known[::-1], len(self.titles)
        rows = [newest[first - 1 : last] + b * n for b, (first, last) in enumerate(self.bands)]
        strength = [np.full(len(r), w) for r, w in zip(rows, self.weights[1:], strict=True)]
        return np.concatenate(rows), np.concatenate(strength)
