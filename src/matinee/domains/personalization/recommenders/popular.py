"""Popularity: how often each title is played, all of time or with a half-life."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from matinee.domains.personalization.recommenders.base import Recommender
from matinee.domains.personalization.recommenders.histories import Histories
from matinee.scorers import register

Array = np.ndarray[Any, Any]


@register
@dataclass(repr=False)
class Popular(Recommender):
    """How often a title is played, each play counting half as much after every half-life. No history is read.

    Attributes:
        counts: Decayed plays of each title as of `newest`, shape (titles,), float64.
        half_life: Days after which a play counts half; infinite: all of time counts alike.
        newest: Day of the newest play it has seen.
    """

    kind: ClassVar[str] = "popular"
    logarithmic: ClassVar[bool] = True
    counts: Array = field(default_factory=lambda: np.array([], np.float64))
    half_life: float = float("inf")
    newest: float = 0.0

    def fit(self, histories: Histories) -> Self:
        """Count plays up to the last one."""
        self.titles, self.learned = histories.titles, None
        self.newest = float(histories.day.max(initial=0.0))
        self.counts = self._decayed(histories)
        return self

    def update(self, newer: Histories) -> Self:
        """Add the new plays; the old ones fade to the newest day. Exact, and no history is needed.

        A play that repeats the member's last title at once, across the seam, counts again here.
        """
        titles = np.union1d(self.titles, newer.titles)
        counts = np.zeros(len(titles))
        before, self.newest = self.newest, max(self.newest, float(newer.day.max(initial=0.0)))
        counts[np.searchsorted(titles, self.titles)] = self.counts * self._faded(self.newest - before)
        self.titles = titles
        self.counts = counts + self._decayed(newer.against(titles))
        return self

    def scores(self, history: Sequence[int] | Array) -> Array:
        """log(1 + decayed plays)."""
        return np.log1p(self.counts).astype(np.float32)

    def scores_of(self, histories: Histories, rows: Array | None = None) -> Array:
        """The same row for everybody."""
        return np.tile(self.scores([]), (len(histories) if rows is None else len(rows), 1))

    def explain(self, history: Sequence[int] | Array, title: int) -> list[tuple[int, float]]:
        """Nothing of the history drives popularity."""
        return []

    def similar(self, title: int, k: int = 10) -> tuple[Array, Array]:
        """Nothing: popularity knows no likeness."""
        found = super().similar(title, k)
        return found[0][:0], found[1][:0]

    def _decayed(self, histories: Histories) -> Array:
        weight = self._faded(self.newest - histories.day)
        return np.bincount(histories.items, weights=weight, minlength=len(histories.titles))

    def _faded(self, days: Any) -> Any:
        return np.exp2(-days / self.half_life) if np.isfinite(self.half_life) else np.ones_like(days)
