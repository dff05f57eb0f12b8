"""Pair counts against a double loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.domains.personalization.recommenders import Histories
from matinee.domains.personalization.recommenders.pairs import cores, pair_counts


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=9), min_size=1, max_size=6),
    st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=4),
)
def test_pairs_are_counted_at_their_distance(sequences: list[list[int]], weights: list[float]) -> None:
    histories = Histories.of_sequences(sequences)
    n = len(histories.titles)
    want = np.zeros((n, n))
    for row in range(len(histories)):
        own = histories.items[histories.offsets[row] : histories.offsets[row + 1]].tolist()
        for x, a in enumerate(own):
            for d, w in enumerate(weights, start=1):
                if x + d < len(own) and own[x + d] != a:
                    want[a, own[x + d]] += w
    found = pair_counts(histories, np.array(weights))
    assert found.toarray() == pytest.approx(want)
    assert found.has_sorted_indices or found.nnz == 0
    assert (found.data > 0).all()


def test_the_threads_asked_for_are_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cores() == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert cores() >= 1


def test_one_thread_and_several_count_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    histories = Histories.of_sequences([rng.integers(0, 40, 30).tolist() for _ in range(20)])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    one = pair_counts(histories, np.ones(5)).toarray()
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert np.array_equal(pair_counts(histories, np.ones(5)).toarray(), one)
