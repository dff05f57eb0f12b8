"""What comes next, linear in the order of a history: a ridge regression over decayed blocks of it, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

import matinee as mt
from matinee.checks import must
from matinee.domains.personalization.recommenders.base import Recommender, largest_first
from matinee.domains.personalization.recommenders.histories import Histories
from matinee.domains.personalization.recommenders.pairs import on_threads
from matinee.scorers import register

Array = np.ndarray[Any, Any]
MOST_UNKNOWNS = 45_000  # blocks x titles; the matrix of that many takes 8 GB


class Block(NamedTuple):
    """A part of a history: the events `first` to `last` steps back, each step counting `decay` times the one before."""

    first: int
    last: int
    decay: float

    def at(self, lags: Array) -> Array:
        """What an event so many steps back counts."""
        inside = (lags >= self.first) & (lags <= self.last)
        return np.where(inside, self.decay ** (lags - self.first).clip(0), 0.0)


SHORT = (Block(1, 6, 0.5), Block(1, 50, 0.92))
LONG = (Block(1, 1, 1.0), Block(1, 5, 0.6), Block(1, 25, 0.85), Block(1, 200, 0.98))


@register
@dataclass(repr=False)
class Successor(Recommender):
    """What comes next, as a linear function of several decayed blocks of the history (closed form).

    At every position p of every history, block k gives a row s_k(p)[i] = sum of f_k(p - x) over the events x < p of
    title i, and the next events a target t(p)[j] = ahead^(y - p) over the events y >= p of title j, y - p < reach. With
    S = [s_1 .. s_K], G = S'S and H = S'T, the weights are B = (G + ridge I + share diag(G))^-1 H, and a history scores
    sum_k s_k B_k. G and H are summed over pairs of events near each other; S, with its rows for every event, is never
    built. A ridge regression on one decayed block is the Markov window with what its titles share accounted for.

    Memory of a fit: 4 (K n)^2 bytes for n titles and K blocks; operations (K n)^3 / 3 + 2 (K n)^2 n.

    Attributes:
        weights: B, shape (K titles, titles), float32.
        blocks: The blocks f_k.
        ahead: What the next event but one counts beside the next.
        reach: How many next events count.
        ridge, share: Penalty of every weight, and share of the diagonal added to it.

    Example:
        >>> model = Successor(ridge=0.1).fit(Histories.of_sequences([[1, 2, 3, 4]] * 9))
        >>> model.recommend([1, 2], 1)[0].tolist()
        [3]
    """

    kind: ClassVar[str] = "successor"
    weights: Array = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    blocks: tuple[Block, ...] = SHORT
    ahead: float = 0.5
    reach: int = 5
    ridge: float = 100.0
    share: float = 0.5

    def __post_init__(self) -> None:
        self.blocks = tuple(Block(*one) for one in self.blocks)
        for one in self.blocks:
            must(one.first, "first", ge=1)
            must(one.last, "last", ge=one.first)
            must(one.decay, "decay", gt=0, le=1)

    def fit(self, histories: Histories) -> Self:
        """Sum over pairs of events, then one Cholesky factor.

        Raises:
            MatineeError: If blocks x titles are more than 45,000 (give fewer blocks, or fewer titles).
        """
        n, K = len(histories.titles), len(self.blocks)
        if n * K > MOST_UNKNOWNS:
            raise mt.MatineeError(
                f"{K} blocks x {n:,} titles == {n * K:,}, must be <= {MOST_UNKNOWNS:,}; give fewer blocks or keep "
                f"fewer titles"
            )
        self.titles, self.learned = histories.titles, histories
        gram, cross = normal_equations(histories, self.blocks, self.ahead, self.reach)
        diagonal = np.einsum("ii->i", gram)
        diagonal += self.ridge + self.share * diagonal
        self.weights = solve(gram, cross)
        return self

    def scores(self, history: Sequence[int] | Array) -> Array:
        """Sum over blocks and the events in them."""
        rows, strength = self._rows(self._known(history))
        if not len(rows):
            return np.zeros(len(self.titles), np.float32)
        return np.asarray(strength @ self.weights[rows], np.float32)

    def scores_of(self, histories: Histories, rows: Array | None = None) -> Array:
        """One sparse product."""
        from scipy.sparse import csr_array

        known = (histories if rows is None else histories.rows(rows)).against(self.titles)
        n, made = len(self.titles), []
        lags = np.repeat(known.offsets[1:], known.lengths) - np.arange(len(known.items))
        who = np.repeat(np.arange(len(known)), known.lengths)
        for k, block in enumerate(self.blocks):
            inside = (lags >= block.first) & (lags <= block.last)
            made.append((block.at(lags[inside]).astype(np.float32), who[inside], known.items[inside] + k * n))
        value, row, column = (np.concatenate(part) for part in zip(*made, strict=True))
        table = csr_array((value, (row, column)), (len(known), n * len(self.blocks)))
        return np.asarray(table @ self.weights, np.float32)

    def explain(self, history: Sequence[int] | Array, title: int) -> list[tuple[int, float]]:
        """The terms of the score, by title of the history."""
        at, known = self._positions(np.array([title]))
        rows, strength = self._rows(self._known(history))
        if not known[0] or not len(rows):
            return []
        terms = strength * self.weights[rows, at[0]]
        return largest_first(zip(self.titles[rows % len(self.titles)].tolist(), terms.tolist(), strict=True))

    def _rows(self, known: Array) -> tuple[Array, Array]:
        """Rows of the weights that a history reads, and what each counts."""
        newest, n = known[::-1], len(self.titles)
        rows, strength = [], []
        for k, block in enumerate(self.blocks):
            some = newest[block.first - 1 : block.last]
            rows.append(some + k * n)
            strength.append(block.decay ** np.arange(len(some), dtype=np.float32))
        return np.concatenate(rows), np.concatenate(strength)


def normal_equations(histories: Histories, blocks: Sequence[Block], ahead: float, reach: int) -> tuple[Array, Array]:
    """G = S'S and H = S'T of all positions of all members, from pairs of events.

    For events x <= y of a member of m events, with gap = y - x and m - 1 - y positions still to come,
    G[k, x; l, y] gains the sum over r = 1 .. m - 1 - y of f_k(gap + r) f_l(r), and H[k, x; y] gains (f_k * g)(gap).

    Returns:
        G, shape (K n, K n), only its lower triangle filled; H transposed, shape (n, K n). Both float32.
    """
    n, K = len(histories.titles), len(blocks)
    gram = np.zeros((K * n, K * n), np.float32)
    cross = np.zeros((n, K * n), np.float32)
    target = ahead ** np.arange(reach)
    longest = max(b.last for b in blocks)
    lags = np.arange(1, longest + 1)
    f = np.array([b.at(lags) for b in blocks])

    def table(k: int, o: int) -> Array:
        """Over (gap, positions to come): sum over r of f_k(gap + r) f_o(r)."""
        gaps, most = blocks[k].last, min(blocks[k].last, blocks[o].last)
        made = np.zeros((gaps, most + 1))
        for gap in range(gaps):
            terms = f[k][gap : gap + most] * f[o][: len(f[k][gap : gap + most])]
            made[gap, 1 : 1 + len(terms)] = np.cumsum(terms)
            made[gap, 1 + len(terms) :] = terms.sum()
        return made.astype(np.float32)

    def pair(ko: tuple[int, int]) -> None:
        k, o = ko
        part = gram[k * n : (k + 1) * n, o * n : (o + 1) * n]
        _kernels()[0](histories.items, histories.offsets, table(k, o), table(o, k), part, k == o)

    def column(k: int) -> None:
        part = cross[:, k * n : (k + 1) * n]
        both = np.convolve(f[k][: blocks[k].last], target).astype(np.float32)
        _kernels()[1](histories.items, histories.offsets, both, part)

    # A pair of blocks has a part of the matrix of its own, so that threads never meet in a cell.
    on_threads(pair, [(k, o) for k in range(K) for o in range(k + 1)])
    on_threads(column, list(range(K)))
    return gram, cross


def solve(gram: Array, cross: Array) -> Array:
    """gram^-1 cross' for a positive definite `gram` of which the lower triangle is given; both are overwritten.

    Raises:
        MatineeError: If `gram` is not positive definite in float32.
    """
    from scipy.linalg.lapack import spotrf, spotrs

    # What is the lower triangle by rows is the upper one by columns, as LAPACK reads it: nothing is copied.
    factor, info = spotrf(gram.T, lower=0, overwrite_a=1, clean=0)
    if info != 0:
        raise mt.MatineeError("the normal equations cannot be solved, must have a larger ridge")
    found, _ = spotrs(factor, cross.T, lower=0, overwrite_b=1)
    return np.ascontiguousarray(found, np.float32)


@cache
def _kernels() -> tuple[Any, Any]:
    import numba

    @numba.njit(cache=True, nogil=True)
    def gram(items, offsets, kl, lk, part, same):  # type: ignore[no-untyped-def]
        # part[a, b] is the cell of (block k, title a; block l, title b). An event x before y meets it twice: as the
        # one of block k (table kl, cell [x, y]) and, transposed, as the one of block l (table lk, cell [y, x]).
        for m in range(len(offsets) - 1):
            end = offsets[m + 1]
            for y in range(offsets[m], end):
                rem = end - 1 - y
                if rem == 0:
                    continue
                b = items[y]
                part[b, b] += kl[0, min(rem, kl.shape[1] - 1)]
                r = min(rem, kl.shape[1] - 1)
                for gap in range(1, min(y - offsets[m] + 1, kl.shape[0])):
                    a = items[y - gap]
                    value = kl[gap, r]
                    if same:
                        # One triangle of the block is enough; a title met again by itself counts in both.
                        if a > b:
                            part[a, b] += value
                        elif a < b:
                            part[b, a] += value
                        else:
                            part[a, a] += 2 * value
                    else:
                        part[a, b] += value
                if not same:
                    r = min(rem, lk.shape[1] - 1)
                    for gap in range(1, min(y - offsets[m] + 1, lk.shape[0])):
                        part[b, items[y - gap]] += lk[gap, r]

    @numba.njit(cache=True, nogil=True)
    def cross(items, offsets, both, part):  # type: ignore[no-untyped-def]
        for m in range(len(offsets) - 1):
            for y in range(offsets[m] + 1, offsets[m + 1]):
                for gap in range(1, min(y - offsets[m], len(both)) + 1):
                    part[items[y], items[y - gap]] += both[gap - 1]

    return gram, cross
