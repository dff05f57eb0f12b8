"""The catalogue as a page sees it: what each title is, as arrays; and the rows that follow from that alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

import matinee as mt
from matinee.domains.personalization.page.construct import sparse
from matinee.domains.personalization.page.mix import shares

if TYPE_CHECKING:
    import polars as pl

Array = np.ndarray[Any, Any]
LEAST = 8  # titles without which a standing row is not worth keeping
MOST_ROWS = 320  # standing rows, the largest ones
DENSE = 100_000  # ids up to here, and up to 64 times the number of titles, are looked up in one array


@dataclass(frozen=True)
class Titles:
    """Titles by position, and standing rows: genre, two genres, genre and mood, genre and decade, provider.

    Attributes:
        ids: Sorted, shape (titles,).
        genres: Names, sorted.
        mixes: Each title's share of each genre, shape (titles, genres).
        kinds, keys: Of each standing row: "era", "Horror|1980".
        offsets, members: Positions of the titles of standing row r are `members[offsets[r]:offsets[r + 1]]`, ascending.
    """

    ids: Array
    genres: tuple[str, ...]
    mixes: Array
    kinds: tuple[str, ...]
    keys: tuple[str, ...]
    offsets: Array
    members: Array

    @classmethod
    def of(cls, frame: pl.DataFrame, moods: Mapping[int, Sequence[str]] | None = None) -> Titles:
        """From rows `title` and, where known, `genres` (lists), `year`, `provider`.

        Args:
            frame: One row a title.
            moods: Moods of some titles, such as frequent tags.

        Raises:
            MatineeError: If a title comes twice or there is none.
        """
        if not len(frame):
            raise mt.MatineeError("there are no titles yet, must have some to make a page of: append or import them")
        frame = frame.sort("title")
        ids = frame["title"].to_numpy()
        if (ids[1:] == ids[:-1]).any():
            raise mt.MatineeError(f"title == {int(ids[1:][ids[1:] == ids[:-1]][0])} comes twice, must come once")
        genres = [list(dict.fromkeys(g or ())) for g in _column(frame, "genres")]
        names, mixes = shares(genres)
        found: dict[tuple[str, str], list[int]] = {}
        for at, (title, own, year, provider) in enumerate(
            zip(ids.tolist(), genres, _column(frame, "year"), _column(frame, "provider"), strict=True)
        ):
            for row in _standing(own, year, provider, (moods or {}).get(title, ())):
                found.setdefault(row, []).append(at)
        kept = sorted((r for r in found if len(found[r]) >= LEAST), key=lambda r: (-len(found[r]), r))[:MOST_ROWS]
        lengths = [len(found[r]) for r in kept]
        return cls(
            ids.astype(np.int64), tuple(names), mixes, tuple(k for k, _ in kept), tuple(k for _, k in kept),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            np.array([at for r in kept for at in found[r]], np.int64),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def by_title(self) -> tuple[Array, Array]:
        """Standing rows of each title: row numbers of title t are `rows[begin[t]:begin[t + 1]]`."""
        row = np.repeat(np.arange(len(self.kinds)), np.diff(self.offsets))
        order = np.argsort(self.members, kind="stable")
        begin = np.concatenate([[0], np.cumsum(np.bincount(self.members, minlength=len(self.ids)))])
        return begin.astype(np.int32), row[order].astype(np.int16)

    @cached_property
    def standing(self) -> tuple[tuple[str, str, tuple[str, ...], str], ...]:
        """Of each standing row: kind, key, the genres it stands for, and whose it is."""
        return tuple(_meant(kind, key) for kind, key in zip(self.kinds, self.keys, strict=True))

    @cached_property
    def rows_of_kind(self) -> dict[str, Array]:
        """Standing rows of each kind."""
        return {kind: np.flatnonzero([k == kind for k in self.kinds]) for kind in dict.fromkeys(self.kinds)}

    @cached_property
    def rows_of_provider(self) -> dict[str, Array]:
        """Standing rows of each provider, "" for those of nobody."""
        owners = [owner for *_, owner in self.standing]
        return {owner: np.flatnonzero([o == owner for o in owners]) for owner in dict.fromkeys(owners)}

    @cached_property
    def sparse_mixes(self) -> tuple[Array, Array, Array]:
        """The mixes as begin, genre, share, with one more title at the end that has no genre; see `construct.sparse`."""
        return sparse(np.concatenate([self.mixes, np.zeros((1, self.mixes.shape[1]))]))

    @cached_property
    def _table(self) -> Array | None:
        if not len(self.ids) or self.ids[0] < 0 or self.ids[-1] > max(DENSE, 64 * len(self.ids)):
            return None
        table = np.full(int(self.ids[-1]) + 2, -1, np.int64)
        table[self.ids] = np.arange(len(self.ids))
        return table

    def positions(self, ids: Array | Sequence[int]) -> Array:
        """The position of each title; -1 where it is not one of these."""
        wanted = np.asarray(ids)
        if wanted.dtype.kind not in "iu" or not len(wanted) or not len(self.ids):
            return np.full(len(wanted), -1, np.int64)
        if self._table is not None:
            last = len(self._table) - 1  # holds -1: where every other number leads
            return np.asarray(self._table[np.where((wanted < 0) | (wanted > last), last, wanted)])
        at = np.minimum(np.searchsorted(self.ids, wanted), len(self.ids) - 1)
        return np.asarray(np.where(self.ids[at] == wanted, at, -1))


def _column(frame: pl.DataFrame, name: str) -> list[Any]:
    return frame[name].to_list() if name in frame.columns else [None] * len(frame)


def _meant(kind: str, key: str) -> tuple[str, str, tuple[str, ...], str]:
    """Kind, key, genres and provider of a standing row."""
    first, _, second = key.partition("|")
    if kind == "provider":
        return kind, key, (second,) if second else (), first
    return kind, key, (first, second) if kind == "pair" else (first,), ""


def _standing(
    genres: Sequence[str], year: int | None, provider: str | None, moods: Sequence[str]
) -> list[tuple[str, str]]:
    """The standing rows that one title belongs to."""
    rows = [("genre", g) for g in genres]
    rows += [("pair", f"{a}|{b}") for i, a in enumerate(sorted(genres)) for b in sorted(genres)[i + 1 :]]
    rows += [("mood", f"{g}|{m}") for g in genres for m in dict.fromkeys(moods)]
    if year is not None:
        rows += [("era", f"{g}|{year // 10 * 10}") for g in genres]
    if provider:
        rows += [("provider", provider), *(("provider", f"{provider}|{g}") for g in genres)]
    return rows
