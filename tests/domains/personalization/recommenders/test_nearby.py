"""Pairs in a window, against the formula written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import matinee as mt
from matinee.domains.personalization.recommenders import Histories
from matinee.domains.personalization.recommenders.conformance import check_recommender
from matinee.domains.personalization.recommenders.nearby import Nearby

sequences_ = st.lists(st.lists(st.integers(0, 6), max_size=10), min_size=1, max_size=5).filter(any)


def written_out(model: Nearby, histories: Histories) -> np.ndarray:
    n = len(histories.titles)
    age = np.ones(len(histories.items))
    if np.isfinite(model.half_life):
        age = 0.5 ** ((histories.day.max() - histories.day) / model.half_life)
        age = age / age.mean()
    counts, plays = np.zeros((n, n)), np.zeros(n)
    for m in range(len(histories)):
        for y in range(histories.offsets[m], histories.offsets[m + 1]):
            plays[histories.items[y]] += age[y]
            for x in range(histories.offsets[m], y):
                if y - x <= model.reach:
                    weight = age[y] * model.decay ** (y - x - 1)
                    counts[histories.items[x], histories.items[y]] += weight
                    counts[histories.items[y], histories.items[x]] += model.back * weight
    return np.asarray(counts / (plays[:, None] + model.shrink) / (plays[None] ** model.popularity + model.floor))


@settings(max_examples=50, deadline=None)
@given(sequences_, st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([2.0, float("inf")]), st.integers(1, 4))
def test_scores_are_those_of_the_formula(sequences: list[list[int]], back: float, half_life: float, reach: int) -> None:
    histories = Histories.of_sequences(sequences)
    model = Nearby(back=back, half_life=half_life, reach=reach, read=3, strength=0.5).fit(histories)
    q = written_out(model, histories)
    for history in ([0], [3, 1, 2, 0], [99, 1], []):
        last = [np.searchsorted(histories.titles, t) for t in history if t in histories.titles][-3:][::-1]
        want = sum((0.5**r * q[i] for r, i in enumerate(last)), np.zeros(len(histories.titles)))
        assert model.scores(history) == pytest.approx(want, abs=1e-5)


def test_contributions_add_up_to_the_score() -> None:
    model = Nearby(back=0.5).fit(Histories.of_sequences([[1, 2, 3, 4], [2, 3, 1], [4, 3, 2]]))
    found = model.explain([1, 2, 4], 3)
    assert sum(v for _, v in found) == pytest.approx(float(model.scores([1, 2, 4])[2]), abs=1e-6)


def test_new_pairs_outweigh_old_ones() -> None:
    old, new = [[1, 2]] * 3, [[1, 3]] * 2
    histories = Histories.of_sequences([*old, *new])
    days = np.concatenate([np.zeros(6), np.full(4, 100.0)])
    aged = Histories(histories.titles, histories.items, histories.offsets, histories.members, days)
    assert Nearby().fit(aged).recommend([1], 1)[0].tolist() == [2]
    assert Nearby(half_life=20.0).fit(aged).recommend([1], 1)[0].tolist() == [3]


def test_it_keeps_the_promises_of_a_recommender() -> None:
    check_recommender(Nearby)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(mt.MatineeError, match="half_life == 0.0, must be > 0"):
        Nearby(half_life=0.0)
    with pytest.raises(mt.MatineeError, match="reach == 0, must be >= 1"):
        Nearby(reach=0)
