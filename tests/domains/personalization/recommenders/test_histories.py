"""Histories, by hand and by property."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domains.personalization.recommenders.worlds import frame

import matinee as mt
from matinee.domains.personalization.recommenders import Histories

histories_ = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=8), min_size=1, max_size=6)


def test_histories_by_hand() -> None:
    rows = frame([(2, 30, 1), (1, 10, 3), (1, 20, 2), (2, 30, 2), (2, 10, 3), (1, 10, 4), (1, 20, 4)])
    found = Histories.of(rows)
    assert found.titles.tolist() == [10, 20, 30]
    assert found.members.tolist() == [1, 2]
    assert found.offsets.tolist() == [0, 3, 5]
    # Member 1: 20, then 10 twice at once (counted once), then 20; equal times keep the order of the rows.
    assert found.titles[found.items].tolist() == [20, 10, 20, 30, 10]
    assert np.diff(found.day)[:2].tolist() == [1.0, 1.0]


def test_the_least_played_titles_are_left_out_of_a_large_catalogue() -> None:
    rows = frame([(m, t, m) for m in range(5) for t in range(10) if m >= t - 5])
    assert Histories.of(rows, most_titles=3).titles.tolist() == [0, 1, 2]


def test_nothing_to_learn_from_is_said_so() -> None:
    with pytest.raises(mt.MatineeError, match="no plays or ratings yet"):
        Histories.of(frame([]))


@settings(max_examples=40, deadline=None)
@given(histories_, st.integers(1, 4))
def test_leaving_out_rare_titles_keeps_the_others_in_order(sequences: list[list[int]], fewest: int) -> None:
    rows = frame([(m, t, k) for m, s in enumerate(sequences) for k, t in enumerate(s)])
    every = Histories.of(rows)
    some = every.without_rare(fewest)
    counts = np.bincount(every.items, minlength=len(every.titles))
    kept = set(every.titles[counts >= fewest].tolist()) or set(every.titles.tolist())
    assert set(some.titles.tolist()) == kept
    for i in range(len(every.members)):
        before = [t for t in every.titles[every.items[every.offsets[i] : every.offsets[i + 1]]].tolist() if t in kept]
        assert some.titles[some.items[some.offsets[i] : some.offsets[i + 1]]].tolist() == before
