"""What follows what, counted by hand."""

from __future__ import annotations

import numpy as np
from tests.domains.personalization.recommenders.worlds import frame

from matinee.domains.personalization.recommenders import Following, Histories
from matinee.domains.personalization.recommenders.following import count_pairs


def test_pairs_are_counted_in_their_order_with_decay() -> None:
    counts = np.zeros((3, 3), np.float32)
    count_pairs(np.array([0, 1, 2]), np.array([0, 3]), counts, 0.5, 10)
    assert counts.tolist() == [[0, 1, 0.5], [0, 0, 1], [0, 0, 0]]
    counts[:] = 0
    count_pairs(np.array([0, 1, 2]), np.array([0, 3]), counts, 0.5, 1)
    assert counts.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    counts[:] = 0
    count_pairs(np.array([0, 1, 2]), np.array([0, 1, 3]), counts, 0.5, 10)  # two members: nothing across them
    assert counts.tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_what_always_follows_comes_first() -> None:
    rows = frame([(m, 100 + (m + k) % 7, k) for m in range(30) for k in range(5)])
    model = Following().fit(Histories.of(rows))
    for last in range(100, 107):
        assert model.titles[model.scores([last]).argmax()] == 100 + (last - 100 + 1) % 7
    # The newest title says most.
    assert model.titles[model.scores([103, 100]).argmax()] == 101
    assert model.scores([]).tolist() == [0.0] * 7
    assert model.scores([999]).tolist() == [0.0] * 7
