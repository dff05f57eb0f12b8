"""The Markov window: a plain peer that counts what comes soon after what, in the two settings of the field notes."""

from __future__ import annotations

from typing import Any

import numpy as np

from matinee.domains.personalization.recommenders import Histories
from matinee.domains.personalization.recommenders.pairs import pair_counts

Array = np.ndarray[Any, Any]


class MarkovWindow:
    """Decayed counts of pairs in a window, shrunk by row, with a part of popularity taken out.

    Dense: C[i, j] = sum of .8^(d - 1) over pairs at distances d of 1 to 10, Q = C / (n_i + 20) / (n_j^.3 + 5), and the
    last 10 events of a history count .7^age. Sparse: sources are the last 20 events and targets the next 5, each step
    .8; Q = C / (s_i + 5) / (n_j + 3)^.3 with s_i the sum of squares of the source rows, and the last 20 events count.
    """

    def __init__(self, *, sparse: bool = False) -> None:
        self.sparse, self.last = sparse, 20 if sparse else 10

    def fit(self, histories: Histories) -> MarkovWindow:
        """Count."""
        plays = np.bincount(histories.items, minlength=len(histories.titles)).astype(np.float64)
        if self.sparse:
            counts = pair_counts(histories, np.convolve(0.8 ** np.arange(20), 0.8 ** np.arange(5)))
            to_come = np.repeat(histories.offsets[1:], histories.lengths) - 1 - np.arange(len(histories.items))
            squares = np.concatenate([[0.0], np.cumsum(0.64 ** np.arange(20))])[np.minimum(to_come, 20)]
            rows = np.bincount(histories.items, weights=squares, minlength=len(plays)) + 5
            columns = (plays + 3) ** 0.3
        else:
            counts = pair_counts(histories, 0.8 ** np.arange(10))
            rows, columns = plays + 20, plays**0.3 + 5
        scaled = counts.tocoo()
        scaled.data = (scaled.data / rows[scaled.row] / columns[scaled.col]).astype(np.float32)
        self.titles, self.table = histories.titles, scaled.tocsr()
        return self

    def scores_of(self, histories: Histories, rows: Array) -> Array:
        """Scores of every title, shape (members, titles)."""
        from scipy.sparse import csr_array

        known = histories.rows(rows).against(self.titles)
        age = np.repeat(known.offsets[1:], known.lengths) - 1 - np.arange(len(known.items))
        strength = np.where(age < self.last, 0.7**age, 0.0).astype(np.float32)
        read = csr_array((strength, known.items, known.offsets), (len(known), len(self.titles)))
        return np.asarray((read @ self.table).toarray())
