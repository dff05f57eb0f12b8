"""Continue watching: returns counted by hand, and what is offered first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import matinee as mt
from matinee.domains.personalization.recommenders import Histories
from matinee.domains.personalization.recommenders.conformance import check_recommender
from matinee.domains.personalization.recommenders.continuing import AGES, TIMES, Continuing


def test_returns_are_counted_by_age_and_by_times_played() -> None:
    model = Continuing().fit(Histories.of_sequences([[1, 2, 1, 2, 1], [3, 4, 5]]))
    # 1 2 | 1: one other back after one play; 2 1 | 2: the same; 1 2 | 1: after two plays. 3 4 | 5: two moments, no return.
    assert model.returns[0].tolist() == [2, 1, 0]
    assert model.moments[0].tolist() == [3, 1, 0]
    assert model.moments.sum() == 4


def written_out(sequences: list[list[int]], most: int) -> tuple[np.ndarray, np.ndarray]:
    returns, moments = np.zeros((len(AGES), len(TIMES))), np.zeros((len(AGES), len(TIMES)))
    for events in sequences:
        for x in range(1, len(events)):
            before = events[:x]
            newest_first = list(dict.fromkeys(reversed(before)))[:most]
            for age, title in enumerate(newest_first[1:], 1):
                i = max(k for k, a in enumerate(AGES) if a <= age)
                j = max(k for k, t in enumerate(TIMES) if t <= before.count(title))
                moments[i, j] += 1
                returns[i, j] += events[x] == title
    return returns, moments


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 7), max_size=20), min_size=1, max_size=4), st.integers(8, 60))
def test_the_kernel_counts_what_is_written_out(sequences: list[list[int]], most: int) -> None:
    model = Continuing(most=most).fit(Histories.of_sequences(sequences))
    returns, moments = written_out(sequences, most)
    assert np.array_equal(model.returns, returns)
    assert np.array_equal(model.moments, moments)


def test_what_is_further_back_than_it_looks_is_not_counted() -> None:
    model = Continuing(most=2).fit(Histories.of_sequences([[1, 2, 3, 1]]))
    assert model.returns.sum() == 0
    assert model.moments.sum() == 2  # 1 2 | 3 looks back on 1; 2 3 | 1 looks back on 2


def test_a_title_come_back_to_more_often_is_offered_first() -> None:
    # Everybody alternates between a series and films: the series is come back to, a film never.
    sequences = [[100, *(x for f in range(12) for x in (m * 50 + 200 + f, 100))] for m in range(20)]
    model = Continuing().fit(Histories.of_sequences(sequences))
    film, other = 200, 201
    titles, chances = model.begun([100, film, 100, other], 3)
    assert titles[0] == 100
    assert chances[0] > 0.5 > chances[1:].max(initial=0.0)
    assert set(titles.tolist()) <= {100, film, other}
    assert model.scores([100, film])[np.searchsorted(model.titles, 999_999) - 1] == 0.0


def test_chances_are_rates() -> None:
    model = Continuing().fit(Histories.of_sequences([[1, 2, 1, 3, 1, 2, 3, 4, 1]]))
    assert ((model.rates >= 0) & (model.rates <= 1)).all()
    assert Continuing().fit(Histories.of_sequences([[1], [2]])).scores([1, 2]).tolist() == [0.0, 0.0]


def test_it_keeps_the_promises_of_a_recommender() -> None:
    check_recommender(Continuing)


def test_it_must_look_back_at_all() -> None:
    with pytest.raises(mt.MatineeError, match="most == 0, must be >= 1"):
        Continuing(most=0)
