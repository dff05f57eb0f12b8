"""Scores as chances: a planted truth is found again, and nothing depends on what is allowed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import matinee as mt
from matinee.domains.personalization.page import Relevance
from matinee.domains.personalization.page.relevance import descending
from matinee.domains.personalization.recommenders import Histories, Popular

TRUE = Relevance(np.array([-0.5, -0.9, 0.4, 0.2]))


def planted(members: int, rng: np.random.Generator) -> list[tuple[np.ndarray, int, np.ndarray]]:
    cases = []
    for _ in range(members):
        scores, history = rng.normal(size=300), int(rng.integers(1, 200))
        scores[rng.choice(300, 20, replace=False)] = -np.inf
        hits = rng.random(300) < TRUE.of(scores, history)
        cases.append((scores, history, np.flatnonzero(hits & np.isfinite(scores))))
    return cases


def test_a_planted_truth_is_found_again() -> None:
    rng = np.random.default_rng(0)
    found = Relevance.fit(planted(1500, rng))
    scores = rng.normal(size=300)
    for history in (5, 100):
        best = np.argsort(-scores)[:50]
        a, b = found.of(scores, history)[best], TRUE.of(scores, history)[best]
        assert np.abs(a - b).max() < 0.03
        assert a.mean() == pytest.approx(b.mean(), rel=0.1)


def test_better_ranked_is_more_likely_and_what_is_out_is_least() -> None:
    scores = np.array([0.3, 0.9, -np.inf, 0.5])
    found = Relevance().of(scores, 10)
    assert np.argsort(-found).tolist() == [1, 3, 0, 2]
    assert ((found > 0) & (found < 1)).all()
    assert np.isfinite(Relevance().of(np.full(3, 0.7), 0)).all()
    assert np.isfinite(Relevance().of(np.full(3, -np.inf), 0)).all()


def test_too_little_is_refused_and_the_default_serves() -> None:
    with pytest.raises(mt.MatineeError, match="0 later titles are among the best 200, must be at least 20"):
        Relevance.fit([])
    few = Histories.of_sequences([[1, 2], [2, 3]])
    assert Relevance.learn(Popular().fit(few), few, few).weights.tolist() == Relevance().weights.tolist()


def test_it_learns_from_what_came_after() -> None:
    rng = np.random.default_rng(1)
    own = [rng.choice(60, 12, replace=False) for _ in range(200)]
    earlier, everything = Histories.of_sequences([o[:8] for o in own]), Histories.of_sequences(own)
    found = Relevance.learn(Popular().fit(earlier), earlier, everything)
    assert found.weights.tolist() != Relevance().weights.tolist()
    # Later titles are any of the 52 that are left, 4 of them: that is how likely each is, whatever its rank.
    scores = np.log1p(np.arange(60.0))
    assert found.of(scores, 8).mean() == pytest.approx(4 / 52, rel=0.35)


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32) | st.just(float("-inf")), max_size=60))
def test_descending_is_a_stable_sort_in_float32(values: list[float]) -> None:
    array = np.array(values, np.float32)
    assert descending(array).tolist() == np.argsort(-array, kind="stable").tolist()
