"""Ids that are text as numbers, and numbers seen before: a hundred million of them in a few gigabytes less than a set.

A number depends on nothing but the word: the same in every import, on every machine. The word is kept beside it, in
`external` of the member or the title, so that the way back is a look-up.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

import matinee as mt

if TYPE_CHECKING:
    import polars as pl

Ints = np.ndarray[Any, np.dtype[np.int64]]


def number_of(word: str) -> int:
    """The number of an id that is text: the same in every import, on every machine; positive, below 2^63.

    Example:
        >>> number_of("tt0111161")
        7729376858144582943
    """
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest()) >> 1


class Known:
    """Numbers seen before, sixteen bytes each, in sorted runs that are merged when they come to like sizes."""

    def __init__(self) -> None:
        self._runs: list[tuple[Ints, Ints]] = []  # sorted numbers, and the check of each; longest first

    def __len__(self) -> int:
        return sum(len(n) for n, _ in self._runs)

    def fresh(self, numbers: Ints, checks: Ints | None = None) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which of the numbers, none of them twice, were not seen before; they are from now on.

        Args:
            numbers: Shape (n,).
            checks: A second hash of what each stands for, shape (n,): two things of one number are an error.

        Raises:
            MatineeError: If a number was seen with another check.
        """
        checks = np.zeros(len(numbers), np.int64) if checks is None else checks
        new = np.ones(len(numbers), np.bool_)
        for have, check in self._runs:
            at = np.minimum(np.searchsorted(have, numbers), len(have) - 1)
            same = have[at] == numbers
            other = same & (check[at] != checks)
            if other.any():
                raise mt.MatineeError(
                    f"number {int(numbers[other][0])} stands for two ids, must stand for one: give them numbers of your own"
                )
            new &= ~same
        if new.any():
            order = np.argsort(numbers[new], kind="stable")
            self._runs.append((numbers[new][order], checks[new][order]))
            while len(self._runs) > 1 and 2 * len(self._runs[-1][0]) >= len(self._runs[-2][0]):
                (a, x), (b, y) = self._runs.pop(), self._runs.pop()
                both = np.concatenate([b, a])
                order = np.argsort(both, kind="stable")
                self._runs.append((both[order], np.concatenate([y, x])[order]))
        return new

    def sorted(self) -> Ints:
        """All of them, in order."""
        return np.sort(np.concatenate([n for n, _ in self._runs])) if self._runs else np.zeros(0, np.int64)


class Words:
    """Text ids of one kind in one import: a number for each, and which are met for the first time."""

    def __init__(self) -> None:
        self._known = Known()

    def number(self, words: pl.Series) -> tuple[pl.Series, pl.DataFrame]:
        """The numbers of the words, null where there is none, and those met first as `number`, `word`.

        Raises:
            MatineeError: If two words have one number.
        """
        import polars as pl

        unique = words.drop_nulls().unique(maintain_order=True)
        some = [w for w in unique.to_list() if w]
        pairs = pl.DataFrame(
            {"word": some, "number": [number_of(w) for w in some]}, schema={"word": pl.String, "number": pl.Int64}
        )
        numbers = pairs["number"].to_numpy()
        if len(np.unique(numbers)) < len(numbers):
            twice = pairs.filter(pl.col("number").is_duplicated()).sort("number")["word"].to_list()
            raise mt.MatineeError(
                f"ids {twice[0]!r} and {twice[1]!r} have one number, must differ: number them yourself"
            )
        checks = np.array([zlib.crc32(w.encode()) for w in some], np.int64)
        fresh = pairs.filter(pl.Series(self._known.fresh(numbers, checks), dtype=pl.Boolean))
        joined = words.to_frame("word").join(pairs, on="word", how="left", maintain_order="left")
        return joined["number"], fresh.select("number", "word")
