"""Implicit matrix factorisation by alternating least squares, for catalogues too large for a closed form."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

import matinee as mt
from matinee import engine
from matinee.checks import must
from matinee.domains.personalization.recommenders.base import Recommender, largest_first, top
from matinee.domains.personalization.recommenders.gram import distinct
from matinee.domains.personalization.recommenders.histories import Histories
from matinee.scorers import register

Array = np.ndarray[Any, Any]
SHARD = 2_000_000  # plays of a shard, about; a shard's factors travel, the other side's are read from a file


class Ridge(NamedTuple):
    """How rows are held back: (plays + unobserved * other side's size) * strength is added to the diagonal.

    Attributes:
        unobserved: Weight of a title not played, against 1 of one played.
        strength: Regularisation per unit of weight that a row has: the frequency scaling of Rendle et al.
    """

    unobserved: float
    strength: float


@register
@dataclass(repr=False)
class Factors(Recommender):
    """Implicit alternating least squares: members and titles as vectors whose product is near 1 where played.

    Minimises sum over plays of (1 - u.v)^2 + a sum over all pairs of (u.v)^2 + l (sum_u (n_u + a T) |u|^2 +
    sum_i (n_i + a M) |v|^2), for M members, T titles, n plays of a row, a = `unobserved`, l = `strength` (Hu et al.
    2008, with the frequency-scaled regularisation of Rendle et al. 2022, "Revisiting the performance of iALS").

    A member seen or unseen is folded in: their vector is the exact least-squares answer for their history, the same as
    half a sweep gives with blocks of full width. Only titles' vectors are kept.

    With `block` below `width` a sweep improves so many dimensions of a vector at a time (iALS++, Rendle et al. 2021):
    width * block instead of width^2 operations a play, for nearly the same progress.

    Memory: 4 width (members + titles) bytes while fitting, 12 bytes a play, and width^2 floats a thread. Time of a
    sweep: 2 plays * width * block / 2 multiply-adds, and (members + titles) width block^2 / 6.

    Attributes:
        vectors: Of the titles, shape (titles, width), float32.
        width: Dimensions of a vector.
        sweeps: How often both sides are solved.
        unobserved, strength: a and l of the objective.
        block: Dimensions solved at a time; all of them where it is `width` or more.
        seed: Of the first vectors of the titles.
        sharding: The engine of half sweeps: "serial" in threads of this process, else as `matinee.engine.map` takes
            it. All give the same vectors, bit by bit: a row is solved by itself, in the same order of operations.
        scratch: Folder that all workers see, where vectors are laid down for them; a temporary one where empty.
    """

    kind: ClassVar[str] = "factors"
    vectors: Array = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    width: int = 128
    sweeps: int = 8
    unobserved: float = 0.1
    strength: float = 0.01
    block: int = 32
    seed: int = 0
    sharding: str = "serial"
    scratch: str = ""

    def __post_init__(self) -> None:
        for name in ("width", "sweeps", "block"):
            must(getattr(self, name), name, typ=int, ge=1)
        must(self.unobserved, "unobserved", gt=0)
        must(self.strength, "strength", gt=0)

    @property
    def ridge(self) -> Ridge:
        """The regularisation."""
        return Ridge(self.unobserved, self.strength)

    def fit(self, histories: Histories) -> Self:
        """Solve for members and titles in turn."""
        self.learned, self.titles = histories, histories.titles
        items, offsets = distinct(histories)
        members = Plays(items.astype(np.int32), offsets)
        titles = members.turned(len(self.titles))
        rng = np.random.default_rng(self.seed)
        start = rng.standard_normal((len(self.titles), self.width), np.float32)
        self.vectors = start * np.float32(0.1 / np.sqrt(self.width))
        people = np.zeros((len(histories), self.width), np.float32)
        with tempfile.TemporaryDirectory(dir=self.scratch or None) as folder:
            for _ in range(self.sweeps):
                people = self._half(members, self.vectors, people, Path(folder))
                self.vectors = self._half(titles, people, self.vectors, Path(folder))
        return self

    def _half(self, plays: Plays, other: Array, own: Array, folder: Path) -> Array:
        shards = plays.shards(SHARD)
        if self.sharding == "serial":
            solve = partial(half_sweep, other=other, gram=_gram(other), ridge=self.ridge, block=self.block)
            with ThreadPoolExecutor(max_workers=min(engine.cores(), len(shards)) or 1) as threads:
                solved = list(threads.map(lambda s: solve(plays.part(s), own=own[s]), shards))
        else:
            np.save(folder / "other.npy", other)
            sent = [(plays.part(s), own[s]) for s in shards]
            work = partial(_solve_shard, folder=str(folder), gram=_gram(other), ridge=self.ridge, block=self.block)
            solved = engine.map(work, sent, engine=self.sharding)
        return np.concatenate(solved) if solved else own

    def fold_in(self, histories: Histories) -> Array:
        """Vectors of members, seen before or not, in any catalogue; shape (members, width), float32.

        Below a millisecond a member at width 128: one matrix of the history's vectors, one Cholesky factor.
        """
        items, offsets = distinct(histories.against(self.titles))
        return self._solved(Plays(items.astype(np.int32), offsets))

    def _solved(self, plays: Plays) -> Array:
        none = np.zeros((len(plays.offsets) - 1, self.width), np.float32)
        return half_sweep(plays, self.vectors, self._squares(), self.ridge, self.width, none)

    def _squares(self) -> Array:
        """The vectors' products with themselves, made once for as long as they are the same: most of a request's time."""
        made: tuple[Array, Array] | None = self.__dict__.get("_made")
        if made is None or made[0] is not self.vectors:
            made = self.__dict__["_made"] = self.vectors, _gram(self.vectors)
        return made[1]

    def scores(self, history: Sequence[int] | Array) -> Array:
        """The member's vector against every title's; zeros for no history."""
        items = np.unique(self._known(history)).astype(np.int32)  # one member: no catalogue of their own, nothing to group
        plays = Plays(items, np.array([0, len(items)], np.int64))
        return np.asarray((self._solved(plays) @ self.vectors.T)[0])

    def scores_of(self, histories: Histories, rows: Array | None = None) -> Array:
        """One product of the folded-in vectors."""
        return np.asarray(self.fold_in(histories if rows is None else histories.rows(rows)) @ self.vectors.T)

    def explain(self, history: Sequence[int] | Array, title: int) -> list[tuple[int, float]]:
        """The terms of the score, which is v' A^-1 (sum of v_i over the history) (Hu et al. 2008, section 5)."""
        at, known = self._positions(np.array([title]))
        seen = np.unique(self._known(history))
        if not known[0] or not len(seen):
            return []
        own = self.vectors[seen].astype(np.float64)
        extra = self.strength * (len(seen) + self.unobserved * len(self.titles))
        matrix = own.T @ own + self.unobserved * self._squares() + extra * np.eye(self.width)
        terms = own @ np.linalg.solve(matrix, self.vectors[at[0]].astype(np.float64))
        return largest_first(zip(self.titles[seen].tolist(), terms.tolist(), strict=True))

    def similar(self, title: int, k: int = 10) -> tuple[Array, Array]:
        """The k titles whose vectors point the same way, and the cosines."""
        at, known = self._positions(np.array([title]))
        if not known[0]:
            raise mt.MatineeError(f"title == {title!r}, must be one of the {len(self.titles):,} titles of {self!r}")
        length = np.maximum(np.linalg.norm(self.vectors, axis=1), 1e-12)
        cosine = self.vectors @ self.vectors[at[0]] / (length * length[at[0]])
        cosine[at[0]] = -np.inf
        best = top(cosine, k)
        return self.titles[best], cosine[best]


class Plays(NamedTuple):
    """Who played what as a sparse matrix of ones: columns of each row, and where rows begin.

    Attributes:
        items: Columns, rising within a row, shape (plays,), int32.
        offsets: Where each row begins, and the end, shape (rows + 1,), int64.
    """

    items: Array
    offsets: Array

    def turned(self, columns: int) -> Plays:
        """The same with rows and columns exchanged."""
        rows = np.repeat(np.arange(len(self.offsets) - 1, dtype=np.int32), np.diff(self.offsets))
        order = np.argsort(self.items, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(self.items, minlength=columns))])
        return Plays(rows[order], starts.astype(np.int64))

    def shards(self, plays: int) -> list[slice]:
        """Slices of rows with about so many plays each; how they are cut has no influence on any row."""
        rows = len(self.offsets) - 1
        marks = np.searchsorted(self.offsets, np.arange(plays, int(self.offsets[-1]), plays)).tolist()
        cuts = sorted({0, *marks, rows})
        return [slice(a, b) for a, b in pairwise(cuts)]

    def part(self, rows: slice) -> Plays:
        """Some rows."""
        offsets = self.offsets[rows.start : rows.stop + 1]
        return Plays(self.items[offsets[0] : offsets[-1]], offsets - offsets[0])


def half_sweep(plays: Plays, other: Array, gram: Array, ridge: Ridge, block: int, own: Array) -> Array:
    """Solve for the rows of one side, the other side fixed: one step of alternating least squares.

    Args:
        plays: Which columns each row has.
        other: Vectors of the columns, shape (columns, width), float32.
        gram: other' other, shape (width, width), float32.
        ridge: The regularisation.
        block: Dimensions solved at a time; `width` or more: exactly, whatever `own` is.
        own: Vectors of the rows to start from, shape (rows, width), float32; left as they are.

    Returns:
        Vectors of the rows, shape (rows, width), float32; zeros for a row without plays.
    """
    found = np.ascontiguousarray(own, np.float32).copy()
    _kernel()(
        plays.offsets, plays.items, other, gram, np.float32(ridge.unobserved), np.float32(ridge.strength),
        min(block, other.shape[1]), found,
    )  # fmt: skip
    return found


def _solve_shard(shard: tuple[Plays, Array], *, folder: str, gram: Array, ridge: Ridge, block: int) -> Array:
    """What a worker does: the other side is read where it lies, the rows travel."""
    plays, own = shard
    other = np.load(Path(folder) / "other.npy", mmap_mode="r")
    return half_sweep(plays, np.asarray(other), gram, ridge, block, own)


def _gram(vectors: Array) -> Array:
    return np.ascontiguousarray(vectors.T @ vectors, np.float32)


@cache
def _kernel() -> Any:
    import numba

    @numba.njit(cache=True, fastmath=True)
    def squares(rows, k, b, a):  # type: ignore[no-untyped-def]
        """Adds the product of the first k rows of b columns with themselves to the lower triangle of a, four rows at a
        time: a quarter of the traffic of one. Sizes are arguments: a slice of columns would not be seen as contiguous,
        and the loops not made into vector instructions."""
        whole = k - k % 4
        for x in range(0, whole, 4):
            p, q, r, s = rows[x], rows[x + 1], rows[x + 2], rows[x + 3]
            for i in range(b):
                pi, qi, ri, si = p[i], q[i], r[i], s[i]
                to = a[i]
                for j in range(i + 1):
                    to[j] += pi * p[j] + qi * q[j] + ri * r[j] + si * s[j]
        for x in range(whole, k):
            p = rows[x]
            for i in range(b):
                pi = p[i]
                to = a[i]
                for j in range(i + 1):
                    to[j] += pi * p[j]

    @numba.njit(cache=True, fastmath=True)
    def solve(a, b, n):  # type: ignore[no-untyped-def]
        """Solves a x = b of size n by the Cholesky factor of the lower triangle of a, both overwritten. No BLAS: its
        threads would decide the order of sums, and a row would depend on where it is solved."""
        for i in range(n):
            ai = a[i]
            for j in range(i + 1):
                aj = a[j]
                s = np.float32(0.0)
                for k in range(j):
                    s += ai[k] * aj[k]
                if i == j:
                    ai[i] = np.sqrt(max(ai[i] - s, np.float32(1e-12)))
                else:
                    ai[j] = (ai[j] - s) / aj[j]
        for i in range(n):
            ai = a[i]
            s = np.float32(0.0)
            for k in range(i):
                s += ai[k] * b[k]
            b[i] = (b[i] - s) / ai[i]
        for i in range(n - 1, -1, -1):
            b[i] /= a[i, i]
            bi = b[i]
            ai = a[i]
            for k in range(i):
                b[k] -= bi * ai[k]

    @numba.njit(cache=True, nogil=True, fastmath=True)
    def sweep(offsets, items, other, gram, unobserved, strength, block, found):  # type: ignore[no-untyped-def]
        columns, width = other.shape
        longest = 0
        for u in range(len(offsets) - 1):
            longest = max(longest, offsets[u + 1] - offsets[u])
        rows = np.empty((longest, block), np.float32)
        error = np.empty(longest, np.float32)
        a = np.empty((block, block), np.float32)
        b = np.empty(block, np.float32)
        for u in range(len(offsets) - 1):
            begin, k = offsets[u], offsets[u + 1] - offsets[u]
            own = found[u]
            if k == 0:
                own[:] = 0.0
                continue
            extra = strength * (np.float32(k) + unobserved * np.float32(columns))
            if block >= width:
                own[:] = 0.0  # one exact step: where it starts is of no matter
            for x in range(k):
                v = other[items[begin + x]]
                s = np.float32(1.0)
                for d in range(width):
                    s -= own[d] * v[d]
                error[x] = s  # what is left of 1
            for first in range(0, width, block):
                n = min(block, width - first)
                for x in range(k):
                    v = other[items[begin + x]]
                    for d in range(n):
                        rows[x, d] = v[first + d]
                for i in range(n):
                    g = gram[first + i]
                    for j in range(i + 1):
                        a[i, j] = unobserved * g[first + j]
                    a[i, i] += extra
                    s = np.float32(0.0)
                    for d in range(width):
                        s += g[d] * own[d]
                    b[i] = -unobserved * s - extra * own[first + i]
                for x in range(k):
                    e = error[x]
                    for d in range(n):
                        b[d] += e * rows[x, d]
                squares(rows, k, n, a)
                solve(a, b, n)
                for d in range(n):
                    own[first + d] += b[d]
                if first + n < width:
                    for x in range(k):
                        s = np.float32(0.0)
                        for d in range(n):
                            s += rows[x, d] * b[d]
                        error[x] -= s

    return sweep
