"""What is played near what: pairs in a window of a history, forwards and backwards, newer ones counting more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from matinee.checks import must
from matinee.domains.personalization.recommenders.base import Recommender, largest_first
from matinee.domains.personalization.recommenders.histories import Histories
from matinee.scorers import register

Array = np.ndarray[Any, Any]


@register
@dataclass(repr=False)
class Nearby(Recommender):
    """Pairs of titles near each other in histories, counted sparsely: no limit to the catalogue.

    C[i, j] = sum over pairs, j k steps after i, of age decay^(k - 1), and `back` times as much for j before i; k up to
    `reach`; age = 2^(-days to the newest event / half_life), scaled to a mean of 1.
    Q[i, j] = C[i, j] / (n_i + shrink) / (n_j^popularity + floor), n = plays, aged alike. Scores add over the last `read`
    titles: sum_r strength^(r - 1) Q[i_r, j].

    With the defaults it is a Markov chain over a window. Where many events share a moment (a batch of ratings, an import
    by the day) their order says little, and pairs counted backwards as well say more.

    Memory: 8 bytes a pair that occurs, at most `reach` (2 with `back`) pairs an event.

    Attributes:
        pairs, columns, rows: Q as a sparse matrix: values float32, titles, and where each title's values begin.
        reach, decay: Longest distance counted, and what a step takes.
        back: Weight of pairs counted backwards.
        half_life: Days after which a pair counts half.
        popularity, floor: How much of the popularity of what is predicted is taken out.
        shrink: Plays of a title that counts half.
        read, strength: Titles of a history read, and what a step back takes.
    """

    kind: ClassVar[str] = "nearby"
    pairs: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    columns: Array = field(default_factory=lambda: np.zeros(0, np.int32))
    rows: Array = field(default_factory=lambda: np.zeros(1, np.int64))
    reach: int = 10
    decay: float = 0.8
    back: float = 0.0
    half_life: float = float("inf")
    popularity: float = 0.3
    floor: float = 5.0
    shrink: float = 20.0
    read: int = 10
    strength: float = 0.7

    def __post_init__(self) -> None:
        for name in ("reach", "read"):
            must(getattr(self, name), name, typ=int, ge=1)
        for name in ("decay", "half_life", "strength"):
            must(getattr(self, name), name, gt=0)
        for name in ("back", "popularity", "floor", "shrink"):
            must(getattr(self, name), name, ge=0)

    def fit(self, histories: Histories) -> Self:
        """Count pairs, distance by distance."""
        from scipy.sparse import csr_array, diags_array

        self.learned, self.titles = histories, histories.titles
        n, who = len(histories.titles), np.repeat(np.arange(len(histories)), histories.lengths)
        age = np.ones(len(histories.items))
        if np.isfinite(self.half_life) and len(age):
            age = np.exp2((histories.day - histories.day.max()) / self.half_life)
            age /= age.mean()
        found = csr_array((n, n), dtype=np.float64)
        for k in range(1, self.reach + 1):
            same = np.flatnonzero(who[k:] == who[:-k])
            first, second = histories.items[same], histories.items[same + k]
            weight = age[same + k] * self.decay ** (k - 1)
            found = found + csr_array((weight, (first, second)), (n, n))
            if self.back:
                found = found + csr_array((self.back * weight, (second, first)), (n, n))
        plays = np.bincount(histories.items, weights=age, minlength=n)
        left = diags_array(1 / np.maximum(plays + self.shrink, 1e-9))
        right = diags_array(1 / np.maximum(plays**self.popularity + self.floor, 1e-9))
        scaled = csr_array(left @ found @ right)
        self.pairs, self.columns = scaled.data.astype(np.float32), scaled.indices.astype(np.int32)
        self.rows = scaled.indptr.astype(np.int64)
        return self

    def scores(self, history: Sequence[int] | Array) -> Array:
        """Decayed sum over the last titles."""
        return np.asarray(self.scores_of(Histories.of_sequences([np.asarray(history, np.int64)]))[0])

    def scores_of(self, histories: Histories, rows: Array | None = None) -> Array:
        """One sparse product."""
        from scipy.sparse import csr_array

        known = (histories if rows is None else histories.rows(rows)).against(self.titles)
        n = len(self.titles)
        back = np.repeat(known.offsets[1:], known.lengths) - 1 - np.arange(len(known.items))
        near = back < self.read
        who = np.repeat(np.arange(len(known)), known.lengths)[near]
        weight = np.float32(self.strength) ** back[near].astype(np.float32)
        given = csr_array((weight, (who, known.items[near])), (len(known), n), dtype=np.float32)
        made = (given @ csr_array((self.pairs, self.columns, self.rows), (n, n))).toarray()
        return np.asarray(made, np.float32)

    def explain(self, history: Sequence[int] | Array, title: int) -> list[tuple[int, float]]:
        """The terms of the score, by title of the history."""
        from scipy.sparse import csr_array

        at, known = self._positions(np.array([title]))
        last = self._known(history)[-self.read :][::-1]
        if not known[0] or not len(last):
            return []
        n = len(self.titles)
        column = csr_array((self.pairs, self.columns, self.rows), (n, n))[last][:, [int(at[0])]].toarray()[:, 0]
        terms = self.strength ** np.arange(len(last)) * column
        return largest_first(zip(self.titles[last].tolist(), terms.tolist(), strict=True))
