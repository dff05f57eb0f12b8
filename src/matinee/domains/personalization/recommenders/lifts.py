"""How much likelier a title becomes so many events after another: log lifts by lag, as sparse rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np

from matinee.domains.personalization.recommenders.histories import Histories
from matinee.domains.personalization.recommenders.pairs import pair_counts

Array = np.ndarray[Any, Any]
SHRINK = 30.0
Bands = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Lifts:
    """Log lifts of pairs of titles, a band of lags after the other.

    For a band of w lags, C[i, j] counts how often j comes one of these lags after i, and with q the share of title j in
    all events, smoothed, and K = 30 sqrt(w), the log lift is

        log( (C[i, j] + K q_j) / ((C[i, .] + K) q_j) ) = log(1 + C[i, j] / (K q_j)) + log(K / (C[i, .] + K)).

    The first term is kept where it is not zero, the second by row: what never happened needs no memory.

    Attributes:
        bands: First and last lag of each.
        starts: Where the row of (band b, title i), number b n + i, begins; one more for the end.
        columns: Title j of each entry, rising in its row, int32.
        values: First term of each entry, float32.
        base: Second term of each row, float32.
        plays: Log of q, shape (titles,), float32.
    """

    bands: Bands
    starts: Array
    columns: Array
    values: Array
    base: Array
    plays: Array

    @classmethod
    def of(cls, histories: Histories, bands: Bands) -> Self:
        """Count the pairs of every band."""
        n = len(histories.titles)
        counts = np.bincount(histories.items, minlength=n) + 1.0
        q = (counts / counts.sum()).astype(np.float32)
        starts, columns, values, base, total = [np.zeros(1, np.int64)], [], [], [], 0
        for first, last in bands:
            weights = np.zeros(last)
            weights[first - 1 :] = 1.0
            found = pair_counts(histories, weights)
            K = SHRINK * np.sqrt(last - first + 1)
            starts.append(total + found.indptr[1:].astype(np.int64))
            columns.append(found.indices.astype(np.int32))
            values.append(np.log1p(found.data / (K * q[found.indices])).astype(np.float32))
            base.append(np.log(K / (found.sum(axis=1) + K)).astype(np.float32))
            total += found.nnz
        return cls(
            bands, np.concatenate(starts), np.concatenate(columns), np.concatenate(values), np.concatenate(base),
            np.log(q),
        )  # fmt: skip

    def table(self) -> Any:
        """First terms as a sparse matrix of bands x titles rows."""
        from scipy.sparse import csr_array

        return csr_array((self.values, self.columns, self.starts), (len(self.base), len(self.plays)))

    def of_pairs(self, rows: Array, columns: Array) -> Array:
        """Log lifts of pairs: rows (b n + i) and titles j, both of one shape, -1 where there is no row (lift 0).

        Returns:
            The same shape, float32.
        """
        found = _kernel()(
            self.starts, self.columns, self.values, self.base, np.ascontiguousarray(rows).ravel(),
            np.ascontiguousarray(columns).ravel(),
        )  # fmt: skip
        return np.asarray(found.reshape(rows.shape))


@cache
def _kernel() -> Any:
    import numba

    @numba.njit(cache=True, nogil=True)
    def look_up(starts, columns, values, base, rows, wanted):  # type: ignore[no-untyped-def]
        found = np.zeros(len(rows), np.float32)
        for e in range(len(rows)):
            if rows[e] < 0:
                continue
            low, high = starts[rows[e]], starts[rows[e] + 1]
            end = high
            while low < high:
                middle = (low + high) // 2
                if columns[middle] < wanted[e]:
                    low = middle + 1
                else:
                    high = middle
            found[e] = base[rows[e]]
            if low < end and columns[low] == wanted[e]:
                found[e] += values[low]
        return found

    return look_up
