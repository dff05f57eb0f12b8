"""Histories, by hand and by property."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domains.personalization.recommenders.worlds import START, frame

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


def told(histories: Histories) -> dict[int, list[int]]:
    """Title ids by member."""
    return {int(m): histories.history(i).tolist() for i, m in enumerate(histories.members)}


def test_sequences_are_histories_with_places_for_days() -> None:
    found = Histories.of_sequences([[30, 10], [], [20, 30]], members=[4, 7, 9])
    assert found.titles.tolist() == [10, 20, 30]
    assert told(found) == {4: [30, 10], 7: [], 9: [20, 30]}
    assert found.day.tolist() == [0, 1, 0, 1]
    assert len(Histories.of_sequences([])) == 0


@settings(max_examples=40, deadline=None)
@given(histories_, st.integers(0, 3), st.data())
def test_members_and_newest_events_are_left_out(sequences: list[list[int]], events: int, data: st.DataObject) -> None:
    every = Histories.of_sequences(sequences)
    rows = data.draw(st.lists(st.integers(0, len(sequences) - 1), max_size=5))
    some = every.rows(np.array(rows, np.int64)).without_last(events)
    assert [some.history(i).tolist() for i in range(len(rows))] == [
        sequences[r][: max(0, len(sequences[r]) - events)] for r in rows
    ]


def test_another_catalogue_leaves_out_what_it_does_not_have() -> None:
    every = Histories.of_sequences([[5, 1, 3], [3]])
    found = every.against(np.array([1, 2, 5]))
    assert found.titles.tolist() == [1, 2, 5]
    assert [found.history(i).tolist() for i in range(2)] == [[5, 1], []]
    assert every.against(np.array([], np.int64)).offsets.tolist() == [0, 0, 0]


@settings(max_examples=40, deadline=None)
@given(histories_, st.integers(0, 8))
def test_a_log_cut_in_time_and_joined_again_is_the_log(sequences: list[list[int]], cut: int) -> None:
    rows = frame([(m, t, k) for m, s in enumerate(sequences) for k, t in enumerate(s)])
    early, late = (
        rows.filter(c) for c in (pl.col("at") < START + timedelta(cut), pl.col("at") >= START + timedelta(cut))
    )
    if not len(early) or not len(late):
        return
    joined, whole = Histories.of(early).joined(Histories.of(late)), Histories.of(rows)
    assert told(joined) == told(whole)
    assert joined.day.tolist() == whole.day.tolist()


def test_at_equal_days_the_older_log_comes_first() -> None:
    old, new = frame([(1, 10, 5), (2, 10, 1)]), frame([(1, 20, 5), (1, 30, 4), (3, 10, 0)])
    assert told(Histories.of(old).joined(Histories.of(new))) == {1: [30, 10, 20], 2: [10], 3: [10]}
