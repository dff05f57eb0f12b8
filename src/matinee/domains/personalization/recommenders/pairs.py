"""How often one title comes so many events after another: weighted pair counts as sparse rows.

A row at a time, so that the working memory is one row and the result holds only pairs that occurred.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np

from matinee.domains.personalization.recommenders.histories import Histories

Array = np.ndarray[Any, Any]


def cores() -> int:
    """Threads to compute with: the processors this process may use, at most OMP_NUM_THREADS where that is set."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    said = os.environ.get("OMP_NUM_THREADS", "")
    return min(mine, int(said)) if said.isdigit() and int(said) > 0 else mine


def on_threads(work: Callable[[Any], Any], pieces: Sequence[Any]) -> list[Any]:
    """The work done on every piece, by as many threads as there are cores; for kernels that let go of the lock."""
    if cores() == 1 or len(pieces) == 1:
        return [work(piece) for piece in pieces]
    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(work, pieces))


def pair_counts(histories: Histories, weights: Array, fresh: Array | None = None) -> Any:
    """C[i, j] = sum over events of j that come d events after one of i of weights[d - 1]; pairs of a title with itself do
    not count.

    Args:
        histories: Of the members.
        weights: What a pair at distance 1, 2, ... counts; its length is the longest distance, shape (distances,).
        fresh: Which events are new, shape (events,): only pairs whose second event is new count. None: all are.

    Returns:
        A sparse matrix by rows, shape (titles, titles), float32, the columns of each row sorted.

    Example:
        >>> pair_counts(Histories.of_sequences([[10, 20, 30]]), np.array([1.0, 0.5])).toarray().tolist()
        [[0.0, 1.0, 0.5], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    from scipy.sparse import csr_array

    n = len(histories.titles)
    weights = np.asarray(weights, np.float32)
    near = np.flatnonzero(weights)
    if not len(near) or not n:
        return csr_array((n, n), dtype=np.float32)
    # Where each title occurs, and where the member of each event ends.
    places = np.argsort(histories.items, kind="stable")
    starts = np.searchsorted(histories.items[places], np.arange(n + 1))
    ends = np.repeat(histories.offsets[1:], histories.lengths)
    new = np.ones(len(histories.items), np.bool_) if fresh is None else np.asarray(fresh, np.bool_)
    pieces = [(int(p[0]), int(p[-1]) + 1) for p in np.array_split(np.arange(n), cores() * 4) if len(p)]
    first = int(near[0]) + 1
    rows = on_threads(
        lambda p: _kernel()(histories.items, places, starts, ends, weights, new, first, p[0], p[1], n), pieces
    )
    lengths, columns, values = (np.concatenate(part) for part in zip(*rows, strict=True))
    made = csr_array((values, columns, np.concatenate([[0], np.cumsum(lengths)])), (n, n))
    made.sort_indices()
    return made


@cache
def _kernel() -> Any:
    import numba

    @numba.njit(cache=True, nogil=True)
    def count(items, places, starts, ends, weights, new, first, begin, stop, n):  # type: ignore[no-untyped-def]
        row = np.zeros(n, np.float32)
        touched = np.empty(n, np.int32)
        lengths = np.zeros(stop - begin, np.int64)
        room = 1024
        columns, values = np.empty(room, np.int32), np.empty(room, np.float32)
        used = 0
        for i in range(begin, stop):
            some = 0
            for o in range(starts[i], starts[i + 1]):
                x = places[o]
                for y in range(x + first, min(x + len(weights) + 1, ends[x])):
                    w, j = weights[y - x - 1], items[y]
                    if w > 0 and j != i and new[y]:
                        if row[j] == 0:
                            touched[some] = j
                            some += 1
                        row[j] += w
            if used + some > room:
                room = max(2 * room, used + some)
                # Loops, and no sorting: what NumPy says in a line here takes seconds to compile.
                wider, more = np.empty(room, np.int32), np.empty(room, np.float32)
                for k in range(used):
                    wider[k], more[k] = columns[k], values[k]
                columns, values = wider, more
            for k in range(some):
                j = touched[k]
                columns[used], values[used] = j, row[j]
                row[j] = 0
                used += 1
            lengths[i - begin] = some
        return lengths, columns[:used], values[:used]

    return count
