"""Log lifts against their formula, and looked up pair by pair."""

from __future__ import annotations

import numpy as np
import pytest

from matinee.domains.personalization.recommenders import Histories
from matinee.domains.personalization.recommenders.lifts import SHRINK, Lifts

BANDS = ((1, 1), (2, 4))


def written_out(histories: Histories) -> np.ndarray:
    """Log lifts of every band and pair, shape (bands, titles, titles)."""
    n = len(histories.titles)
    counts = np.zeros((len(BANDS), n, n))
    for row in range(len(histories)):
        own = histories.items[histories.offsets[row] : histories.offsets[row + 1]].tolist()
        for x, a in enumerate(own):
            for y in range(x + 1, len(own)):
                for b, (first, last) in enumerate(BANDS):
                    if first <= y - x <= last and own[y] != a:
                        counts[b, a, own[y]] += 1
    q = np.bincount(histories.items, minlength=n) + 1.0
    q /= q.sum()
    K = SHRINK * np.sqrt([last - first + 1 for first, last in BANDS])[:, None, None]
    return np.log((counts + K * q) / ((counts.sum(axis=2, keepdims=True) + K) * q))


def test_every_pair_has_the_lift_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    histories = Histories.of_sequences([rng.integers(0, 9, rng.integers(1, 12)).tolist() for _ in range(30)])
    n, lifts = len(histories.titles), Lifts.of(histories, BANDS)
    rows, columns = np.broadcast_arrays(np.arange(2 * n)[:, None], np.arange(n))
    assert lifts.of_pairs(rows, columns).reshape(2, n, n) == pytest.approx(written_out(histories), abs=1e-5)
    assert lifts.plays == pytest.approx(
        np.log((np.bincount(histories.items) + 1) / (len(histories.items) + n)), abs=1e-6
    )
    # What is stored is the first term alone.
    assert lifts.table().toarray().min() >= 0


def test_a_pair_without_a_row_has_no_lift() -> None:
    lifts = Lifts.of(Histories.of_sequences([[1, 2], [1, 2]]), BANDS)
    assert lifts.of_pairs(np.array([[-1, 0]]), np.array([[1, 1]])).tolist()[0][0] == 0.0
