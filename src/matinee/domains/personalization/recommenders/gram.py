"""The Gram matrix of titles played by the same members: whole histories and ordered windows, summed in one matrix."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

import matinee as mt
from matinee.domains.personalization.recommenders.histories import Histories

Array = np.ndarray[Any, Any]
REACH = 4  # spans: pairs further apart count as nothing, e^-4 and less
ROWS = 1024  # of a matrix that are worked on at a time where a whole copy would cost its memory again


def distinct(histories: Histories) -> tuple[Array, Array]:
    """Each member's titles once, by position: (items, offsets), rising within a member."""
    n = max(len(histories.titles), 1)
    owner = np.repeat(np.arange(len(histories)), histories.lengths)
    keys = np.unique(owner * n + histories.items)
    return keys % n, np.searchsorted(keys, np.arange(len(histories) + 1) * n).astype(np.int64)


def gram_matrix(histories: Histories, *, length_power: float = 0.0, near: float = 0.0, span: float = 30.0) -> Array:
    """How often titles are played by the same member: X' diag(w) X, partly from ordered windows.

    A member of m distinct titles weighs w = m^-length_power. The windowed part counts a pair of events at places x and
    y of one history as w exp(-|x - y| / span), in both orders, up to four spans apart: but for that end, X' K X of a
    positive definite K, so that the matrix is positive semidefinite however often a title comes. Each part is scaled to
    a trace of as many as there are distinct plays, so that ridges mean the same for all.

    Args:
        histories: Of the members.
        length_power: By how much long histories are weighed down.
        near: Share of the windowed part, 0 to 1.
        span: Events over which a pair in the windowed part loses a factor e.

    Returns:
        Symmetric, shape (titles, titles), float32: 4 titles^2 bytes, which is all the memory it takes beside the
        histories.
    """
    n = len(histories.titles)
    items, offsets = distinct(histories)
    lengths = np.diff(offsets)
    weight = np.maximum(lengths, 1).astype(np.float64) ** -length_power
    total, reach = float(len(items)), int(REACH * span)
    found = np.zeros((n, n), np.float32)
    if not total:
        return found
    kernels = _kernels()
    if near < 1:
        kernels["whole"](items, offsets, weight * (1 - near) * total / float(weight @ lengths), found)
    if near > 0:
        decay = np.exp(-np.arange(reach + 1) / span)
        trace = kernels["windowed_trace"](histories.items, histories.offsets, weight, decay)
        kernels["windowed"](histories.items, histories.offsets, weight * near * total / trace, decay, found)
    _mirror(found)
    return found


def invert(matrix: Array) -> Array:
    """Inverse of a symmetric positive definite matrix in its own memory, from its Cholesky factor.

    About 2 n^3 / 3 multiplications: 3 s of one core at 3,500 titles, half an hour at 30,000.

    Args:
        matrix: Shape (n, n), float32, C order; overwritten.

    Raises:
        MatineeError: If the matrix is not positive definite.
    """
    from scipy.linalg.lapack import spotrf, spotri

    # LAPACK counts columns first: the upper triangle there is the lower one here, and nothing is copied.
    factor, info = spotrf(matrix.T, lower=0, overwrite_a=1, clean=0)
    if info == 0:
        factor, info = spotri(factor, lower=0, overwrite_c=1)
    if info != 0:
        raise mt.MatineeError(
            "ridge is too small, must be larger: the matrix of what is played together cannot be inverted"
        )
    found = np.asarray(factor.T)
    _mirror(found, lower=True)
    return found


def _mirror(matrix: Array, *, lower: bool = False) -> None:
    """Copy one triangle onto the other, some rows at a time."""
    n = len(matrix)
    for a in range(0, n, ROWS):
        b = min(a + ROWS, n)
        square = matrix[a:b, a:b]
        if lower:
            matrix[a:b, b:] = matrix[b:, a:b].T
            square[:] = np.tril(square) + np.tril(square, -1).T
        else:
            matrix[b:, a:b] = matrix[a:b, b:].T
            square[:] = np.triu(square) + np.triu(square, 1).T


@cache
def _kernels() -> dict[str, Any]:
    import numba

    @numba.njit(cache=True, nogil=True)
    def whole(items, offsets, weight, found):  # type: ignore[no-untyped-def]
        """Adds w at [a, b] for each pair a <= b of a member's distinct titles, which rise."""
        for m in range(len(offsets) - 1):
            w = weight[m]
            for x in range(offsets[m], offsets[m + 1]):
                row = found[items[x]]
                for y in range(x, offsets[m + 1]):
                    row[items[y]] += w

    @numba.njit(cache=True, nogil=True)
    def windowed(items, offsets, weight, decay, found):  # type: ignore[no-untyped-def]
        """Adds w decay[gap] above or on the diagonal for each pair of events at most so many apart."""
        for m in range(len(offsets) - 1):
            w = weight[m]
            for x in range(offsets[m], offsets[m + 1]):
                a = items[x]
                for y in range(max(offsets[m], x - len(decay) + 1), x + 1):
                    b = items[y]
                    # A title played twice meets itself in both orders, as two titles do in both cells.
                    twice = 2.0 if a == b and x != y else 1.0
                    found[min(a, b), max(a, b)] += twice * w * decay[x - y]

    @numba.njit(cache=True, nogil=True)
    def windowed_trace(items, offsets, weight, decay):  # type: ignore[no-untyped-def]
        """The trace of what `windowed` adds."""
        trace = 0.0
        for m in range(len(offsets) - 1):
            for x in range(offsets[m], offsets[m + 1]):
                for y in range(max(offsets[m], x - len(decay) + 1), x + 1):
                    if items[x] == items[y]:
                        trace += (1.0 if x == y else 2.0) * weight[m] * decay[x - y]
        return trace

    return {"whole": whole, "windowed": windowed, "windowed_trace": windowed_trace}
