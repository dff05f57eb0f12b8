"""Genre mixes and how far apart they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import matinee as mt
from matinee.domains.personalization.page import divergence, mix, shares


def test_a_title_splits_its_weight_over_its_genres() -> None:
    names, found = shares([["War", "Drama"], ["Drama", "Drama"], None, []])
    assert names == ["Drama", "War"]
    assert found.tolist() == [[0.5, 0.5], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]


def test_the_mix_of_a_history_leaves_out_what_has_no_genre() -> None:
    _, found = shares([["War", "Drama"], ["Drama"], None])
    assert mix(found, np.array([0, 1, 2])).tolist() == [0.75, 0.25]
    assert mix(found, np.array([1, 1, 0])).tolist() == pytest.approx([2.5 / 3, 0.5 / 3])
    assert mix(found, np.array([2])).tolist() == [0.0, 0.0]
    assert mix(found, np.array([], np.int64)).tolist() == [0.0, 0.0]


def test_divergence_by_hand() -> None:
    p = np.array([0.5, 0.5])
    assert divergence(p, np.array([1.0, 0.0])) == pytest.approx(0.5 * np.log(0.5 / 0.995) + 0.5 * np.log(0.5 / 0.005))
    assert divergence(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(np.log(100))
    with pytest.raises(mt.MatineeError, match=r"smoothing == 1, must be > 0 and < 1"):
        divergence(p, p, 1)


weights = arrays(np.float64, 5, elements=st.floats(0, 1)).filter(lambda w: w.sum() > 0.1)


@settings(deadline=None)
@given(weights, weights)
def test_divergence_is_positive_and_zero_only_at_home(p: np.ndarray, q: np.ndarray) -> None:
    p, q = p / p.sum(), q / q.sum()
    assert -1e-12 <= divergence(p, q) <= np.log(100) + 1e-9
    assert divergence(p, p) == pytest.approx(0, abs=1e-12)
    if np.abs(p - q).max() > 0.05:
        assert divergence(p, q) > 1e-4
