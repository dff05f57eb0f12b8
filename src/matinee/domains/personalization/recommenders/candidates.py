"""What is known of a candidate beside a history, for the trees of the second stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from matinee.domains.personalization.recommenders.histories import Histories
from matinee.domains.personalization.recommenders.lifts import Bands, Lifts
from matinee.domains.personalization.recommenders.pairs import pair_counts

Array = np.ndarray[Any, Any]
BANDS: Bands = ((1, 1), (2, 3), (4, 10))
EACH = 3  # newest titles whose lifts are features of their own, in all bands but the last
LAST = 10  # newest titles whose lifts of the last band are added, and whose likeness to the candidate counts
OF_A_PART = ("score", "z", "behind", "rank")
OF_A_TITLE = ("plays", "place", "company")
STORED = ("starts", "columns", "values", "base", "plays")


@dataclass(frozen=True)
class Context:
    """What is counted once of all histories, for the features of any history and candidate.

    Lag by lag log lifts carry nearly all of what the second stage adds to the scores it starts from: forward, how often
    the candidate came so soon after a title of the history, and reverse, how often it came so soon before.

    Attributes:
        lifts: Log lifts of pairs one, two to three and four to ten events apart.
        near: Likeness of titles: windowed co-occurrence over the root of both totals; as `Lifts` without a base.
        titles: Of each title its log plays, mean relative place in a history, and mean log length of its histories,
            shape (titles, 3), float32.
    """

    lifts: Lifts
    near: Lifts
    titles: Array

    @classmethod
    def of(cls, histories: Histories) -> Self:
        """Count."""
        n, items = len(histories.titles), histories.items
        plays = np.bincount(items, minlength=n)
        lengths = np.repeat(histories.lengths, histories.lengths)
        at = np.arange(len(items)) - np.repeat(histories.offsets[:-1], histories.lengths)
        some = np.maximum(plays, 1)
        place = np.bincount(items, weights=at / np.maximum(lengths - 1, 1), minlength=n) / some
        company = np.bincount(items, weights=np.log(np.maximum(lengths, 1)), minlength=n) / some
        titles = np.stack([np.log1p(plays), place, company], axis=1).astype(np.float32)
        return cls(Lifts.of(histories, BANDS), likeness(histories), titles)

    def arrays(self) -> dict[str, Array]:
        """Everything that is saved, by name."""
        made = {"titles": self.titles}
        for name, one in (("lifts", self.lifts), ("near", self.near)):
            made |= {f"{name}.{what}": np.ascontiguousarray(getattr(one, what)) for what in STORED}
        return made

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """What `arrays` gave.

        Raises:
            KeyError: If one is missing.
        """
        lifts = Lifts(BANDS, *(arrays[f"lifts.{what}"] for what in STORED))
        near = Lifts(((1, LAST),), *(arrays[f"near.{what}"] for what in STORED))
        return cls(lifts, near, arrays["titles"])

    @staticmethod
    def names(parts: Sequence[str]) -> list[str]:
        """Names of the features, in order."""
        lifts = [
            f"{way} {first}-{last} of {k + 1}"
            for way in ("after", "before")
            for first, last in BANDS[:-1]
            for k in range(EACH)
        ]
        sums = [f"{way} {BANDS[-1][0]}-{BANDS[-1][1]}" for way in ("after", "before")]
        return [
            *(f"{what} of {part}" for part in parts for what in OF_A_PART), *lifts, *sums, "most alike", "mean alike",
            *OF_A_TITLE, *(f"{what} beyond the last" for what in OF_A_TITLE), "events",
        ]  # fmt: skip

    def features(
        self, histories: Histories, candidates: Array, scores: Sequence[Array], logs: Sequence[Array]
    ) -> Array:
        """Features of each member's candidates.

        Args:
            histories: Of the members, in this catalogue.
            candidates: Positions of titles, shape (members, candidates).
            scores: Of every title by each part, shape (members, titles).
            logs: The same as logs.

        Returns:
            Shape (members, candidates, features), float32.
        """
        columns: list[Array] = []
        for raw, log in zip(scores, logs, strict=True):
            own = np.take_along_axis(log, candidates, axis=1)
            z = np.take_along_axis(raw, candidates, axis=1) - raw.mean(axis=1, keepdims=True)
            z /= np.maximum(raw.std(axis=1, keepdims=True), 1e-9)
            rank = np.argsort(np.argsort(-own, axis=1, kind="stable"), axis=1, kind="stable")
            columns += [own, z, own.max(axis=1, keepdims=True) - own, rank]
        newest = newest_of(histories, LAST)
        columns += self._lags(newest, candidates)
        there = newest[:, None, :] >= 0
        alike = self.near.of_pairs(*np.broadcast_arrays(newest[:, None, :], candidates[:, :, None]))
        columns += [alike.max(axis=2), alike.sum(axis=2) / np.maximum(there.sum(axis=2), 1)]
        mean = (self.titles[newest] * there[:, 0, :, None]).sum(axis=1) / np.maximum(there[:, 0].sum(axis=1), 1)[
            :, None
        ]
        for k in range(len(OF_A_TITLE)):
            columns.append(self.titles[candidates, k])
        for k in range(len(OF_A_TITLE)):
            columns.append(self.titles[candidates, k] - mean[:, k, None])
        columns.append(np.broadcast_to(np.log1p(histories.lengths)[:, None], candidates.shape))
        return np.stack(columns, axis=2).astype(np.float32)

    def _lags(self, newest: Array, candidates: Array) -> list[Array]:
        n, singles, sums = len(self.titles), [], []
        for reverse in (False, True):
            for b in range(len(BANDS)):
                back = newest[:, None, : EACH if b < len(BANDS) - 1 else LAST]
                one, other = np.broadcast_arrays(back, candidates[:, :, None])
                row, column = (other, one) if reverse else (one, other)
                found = self.lifts.of_pairs(np.where(one >= 0, row + b * n, -1), np.maximum(column, 0))
                if b < len(BANDS) - 1:
                    singles += [found[:, :, k] for k in range(EACH)]
                else:
                    sums.append(found.sum(axis=2))
        return [*singles, *sums]


def newest_of(histories: Histories, most: int) -> Array:
    """The newest positions of each history, newest first, -1 where there are fewer; shape (members, most)."""
    at = histories.offsets[1:, None] - 1 - np.arange(most)
    inside = at >= histories.offsets[:-1, None]
    if not len(histories.items):
        return np.full(at.shape, -1, np.int64)
    return np.asarray(np.where(inside, histories.items[np.maximum(at, 0)], -1))


def likeness(histories: Histories) -> Lifts:
    """Co-occurrence within ten events, in either order, over the root of both titles' totals."""
    counts = pair_counts(histories, np.ones(LAST))
    counts = (counts + counts.T).tocsr()
    counts.sort_indices()
    total = np.sqrt(np.maximum(counts.sum(axis=1), 1e-9))
    n = len(histories.titles)
    row = np.repeat(np.arange(n), np.diff(counts.indptr))
    values = (counts.data / (total[row] * total[counts.indices])).astype(np.float32)
    zeros = np.zeros(n, np.float32)
    return Lifts(((1, LAST),), counts.indptr.astype(np.int64), counts.indices.astype(np.int32), values, zeros, zeros)
