"""What follows what, counted by hand."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domains.personalization.recommenders.worlds import START, frame

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


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=9), min_size=1, max_size=5), st.integers(0, 9))
def test_an_update_counts_the_pairs_across_the_seam(sequences: list[list[int]], cut: int) -> None:
    rows = frame([(m, t, k) for m, s in enumerate(sequences) for k, t in enumerate(s)])
    early, late = (
        rows.filter(c) for c in (pl.col("at") < START + timedelta(cut), pl.col("at") >= START + timedelta(cut))
    )
    if not len(early) or not len(late):
        return
    model, whole = Following().fit(Histories.of(early)).update(Histories.of(late)), Following().fit(Histories.of(rows))
    assert model.titles.tolist() == whole.titles.tolist()
    assert model.counts == pytest.approx(whole.counts, abs=1e-5)
    assert model.plays.tolist() == whole.plays.tolist()


def test_late_events_are_a_fit_again() -> None:
    early, late = frame([(1, 10, 5), (1, 30, 9)]), frame([(1, 20, 7)])
    model = Following().fit(Histories.of(early)).update(Histories.of(late))
    assert model.counts[0].tolist() == pytest.approx([0, 1, 0.7])  # 10, 20, 30
    assert model.counts[1].tolist() == pytest.approx([0, 0, 1])


def test_the_terms_of_an_explanation_add_up() -> None:
    rows = frame([(m, 100 + (m + k) % 7, k) for m in range(30) for k in range(5)])
    model = Following().fit(Histories.of(rows))
    history = [101, 103, 101, 999]
    for at, title in enumerate(model.titles.tolist()):
        found = model.explain(history, title)
        assert sum(v for _, v in found) == pytest.approx(float(model.scores(history)[at]), rel=1e-5)
        assert len({t for t, _ in found}) == len(found)
