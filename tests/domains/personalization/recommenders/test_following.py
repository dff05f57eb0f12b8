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


def counted(sequences: list[list[int]], decay: float, window: int) -> list[list[float]]:
    found = Following(decay=decay, window=window).fit(Histories.of_sequences(sequences)).table().toarray()
    return [[float(x) for x in row] for row in found]


def test_pairs_are_counted_in_their_order_with_decay() -> None:
    assert counted([[0, 1, 2]], 0.5, 10) == [[0, 1, 0.5], [0, 0, 1], [0, 0, 0]]
    assert counted([[0, 1, 2]], 0.5, 1) == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert counted([[0], [1, 2]], 0.5, 10) == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]  # nothing across members


def test_scores_are_the_shrunken_decayed_rows() -> None:
    rng = np.random.default_rng(0)
    histories = Histories.of_sequences([rng.integers(0, 6, 9).tolist() for _ in range(10)])
    model = Following(decay=0.5, window=3).fit(histories)
    C, plays = model.table().toarray(), np.bincount(histories.items)
    Q = C / (C.sum(axis=1, keepdims=True) + 5) / (plays + 1) ** 0.15
    # The window reads three titles, though a fourth is known.
    assert model.scores([5, 1, 4, 2]) == pytest.approx(Q[2] + 0.5 * Q[4] + 0.25 * Q[1], rel=1e-5)


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
    assert model.table().toarray() == pytest.approx(whole.table().toarray(), abs=1e-5)
    assert model.plays.tolist() == whole.plays.tolist()


def test_late_events_are_a_fit_again() -> None:
    early, late = frame([(1, 10, 5), (1, 30, 9)]), frame([(1, 20, 7)])
    model = Following().fit(Histories.of(early)).update(Histories.of(late))
    assert model.table().toarray()[0].tolist() == pytest.approx([0, 1, 0.7])  # 10, 20, 30
    assert model.table().toarray()[1].tolist() == pytest.approx([0, 0, 1])


def test_the_terms_of_an_explanation_add_up() -> None:
    rows = frame([(m, 100 + (m + k) % 7, k) for m in range(30) for k in range(5)])
    model = Following().fit(Histories.of(rows))
    history = [101, 103, 101, 999]
    for at, title in enumerate(model.titles.tolist()):
        found = model.explain(history, title)
        assert sum(v for _, v in found) == pytest.approx(float(model.scores(history)[at]), rel=1e-5)
        assert len({t for t, _ in found}) == len(found)
