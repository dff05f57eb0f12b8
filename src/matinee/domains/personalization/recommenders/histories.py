"""Members' histories as flat arrays: what every recommender learns from and is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

import matinee as mt

if TYPE_CHECKING:
    import polars as pl

Array = np.ndarray[Any, Any]
MOST_TITLES = 12_000  # a closed form of n titles takes n^3 / 3 operations and two n x n float32 matrices


@dataclass(frozen=True)
class Histories:
    """Members' histories, oldest first, as flat arrays.

    Attributes:
        titles: Ids of the titles, sorted; everything else speaks of their positions.
        items: Positions, one an event, member by member, oldest first, shape (events,).
        offsets: Where each member's events begin; one more for the end, shape (members + 1,).
        members: Ids, sorted, shape (members,).
        day: Days since 1970 of each event, shape (events,).
    """

    titles: Array
    items: Array
    offsets: Array
    members: Array
    day: Array

    @classmethod
    def of(cls, events: pl.DataFrame, *, most_titles: int = MOST_TITLES) -> Self:
        """From rows `member`, `title`, `at`; at most so many titles are kept, the most played ones.

        A title repeated at once counts once. Equal times keep the order of the rows, which is the order of appending.

        Raises:
            MatineeError: If there are no rows.
        """
        import polars as pl

        if not len(events):
            raise mt.MatineeError(
                "there are no plays or ratings yet, must have some to learn from: import or append them"
            )
        counts = events.group_by("title").len().sort("len", "title", descending=[True, False])
        kept = counts.head(most_titles)["title"]
        events = events.filter(pl.col("title").is_in(kept.implode())).sort("member", "at", maintain_order=True)
        repeated = (pl.col("title") == pl.col("title").shift(1)) & (pl.col("member") == pl.col("member").shift(1))
        events = events.filter(~repeated.fill_null(value=False))
        titles = np.sort(kept.to_numpy())
        members, starts = np.unique(events["member"].to_numpy(), return_index=True)
        items = np.searchsorted(titles, events["title"].to_numpy())
        days = events["at"].cast(pl.Int64).to_numpy() / 86_400e6
        return cls(titles, items.astype(np.int64), np.append(starts, len(items)).astype(np.int64), members, days)

    @classmethod
    def of_sequences(cls, sequences: Sequence[Sequence[int] | Array], members: Sequence[int] | None = None) -> Self:
        """From title ids alone, oldest first, a sequence a member; the place in the sequence stands for the day.

        Args:
            sequences: Title ids of each member.
            members: Ids of the members, rising; 0, 1, 2, ... where none are given.

        Example:
            >>> Histories.of_sequences([[30, 10], [20]]).items.tolist()
            [2, 0, 1]
        """
        lengths = np.array([len(s) for s in sequences], np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        flat = [np.asarray(s, np.int64) for s in sequences]
        titles, items = np.unique(np.concatenate([np.array([], np.int64), *flat]), return_inverse=True)
        day = (np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)).astype(np.float64)
        who = np.arange(len(sequences)) if members is None else np.asarray(members, np.int64)
        return cls(titles, items.reshape(-1).astype(np.int64), offsets, who, day)

    @property
    def lengths(self) -> Array:
        """Events of each member, shape (members,)."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        """Number of members."""
        return len(self.members)

    def history(self, row: int) -> Array:
        """Title ids of one member, by its place among `members`, oldest first."""
        return np.asarray(self.titles[self.items[self.offsets[row] : self.offsets[row + 1]]])

    def rows(self, rows: Array) -> Histories:
        """The same for some members only, by their places among `members`; rising places keep the members sorted."""
        rows = np.asarray(rows, np.int64)
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        at = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths) + np.repeat(self.offsets[rows], lengths)
        return Histories(self.titles, self.items[at], offsets, self.members[rows], self.day[at])

    def without_last(self, events: int) -> Histories:
        """The same without the newest so many events of each member."""
        return self.where(np.arange(len(self.items)) < np.repeat(self.offsets[1:] - events, self.lengths))

    def without_rare(self, fewest: int) -> Histories:
        """The same without titles of fewer events than that: what is hardly played says nothing about company."""
        counts = np.bincount(self.items, minlength=len(self.titles))
        kept = counts >= fewest
        if kept.all() or not kept.any():
            return self
        return self.against(self.titles[kept])

    def against(self, titles: Array) -> Histories:
        """The same in positions of another catalogue, `titles` sorted; events of titles it does not have are left out."""
        if titles is self.titles or np.array_equal(titles, self.titles):
            return self
        if not len(titles):
            return self.where(np.zeros(len(self.items), np.bool_))
        at = np.minimum(np.searchsorted(titles, self.titles), len(titles) - 1)
        known = titles[at] == self.titles
        some = self.where(known[self.items])
        return Histories(titles, at[some.items], some.offsets, some.members, some.day)

    def joined(self, newer: Histories) -> Histories:
        """These and newer events: titles and members of both, each member's events by day, these first at equal days.

        A title played again at once counts once across the seam, as it does in `of`.
        """
        titles = np.union1d(self.titles, newer.titles)
        a, b = self.against(titles), newer.against(titles)
        who = np.concatenate([np.repeat(a.members, a.lengths), np.repeat(b.members, b.lengths)])
        items, day = np.concatenate([a.items, b.items]), np.concatenate([a.day, b.day])
        order = np.lexsort((day, who))  # stable: at equal days the older log comes first
        who, items, day = who[order], items[order], day[order]
        repeated = np.zeros(len(who), np.bool_)
        repeated[1:] = (who[1:] == who[:-1]) & (items[1:] == items[:-1])
        who, items, day = who[~repeated], items[~repeated], day[~repeated]
        members = np.union1d(a.members, b.members)
        offsets = np.searchsorted(who, members).astype(np.int64)
        return Histories(titles, items, np.append(offsets, len(who)), members, day)

    def where(self, kept: Array) -> Histories:
        """The same with some events only; `kept` is one bool an event."""
        offsets = np.concatenate([[0], np.cumsum(kept)])[self.offsets]
        return Histories(self.titles, self.items[kept], offsets, self.members, self.day[kept])
