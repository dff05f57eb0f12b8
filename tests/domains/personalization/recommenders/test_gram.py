"""The Gram matrix against sums written out, and its inverse against NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import matinee as mt
from matinee.domains.personalization.recommenders import Histories
from matinee.domains.personalization.recommenders.gram import REACH, ROWS, distinct, gram_matrix, invert

sequences_ = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=8), min_size=1, max_size=6)


def written_out(histories: Histories, power: float, near: float, span: float) -> np.ndarray:
    """The same by two loops over a member's events."""
    n = len(histories.titles)
    whole, windowed = np.zeros((n, n)), np.zeros((n, n))
    total = 0
    for row in range(len(histories)):
        events = histories.items[histories.offsets[row] : histories.offsets[row + 1]].tolist()
        total += len(set(events))
        w = len(set(events)) ** -power
        for a in set(events):
            for b in set(events):
                whole[a, b] += w
        for x, a in enumerate(events):
            for y, b in enumerate(events[: x + 1]):
                if x - y <= REACH * span:
                    windowed[a, b] += w * np.exp(-(x - y) / span)
                    if x != y:
                        windowed[b, a] += w * np.exp(-(x - y) / span)
    found = (1 - near) * whole * total / np.trace(whole) + near * windowed * total / np.trace(windowed)
    return np.asarray(found)


@settings(max_examples=60, deadline=None)
@given(
    sequences_, st.sampled_from([0.0, 0.6, 1.0]), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.5, 2.0, 30.0])
)
def test_every_pair_is_counted_once(sequences: list[list[int]], power: float, near: float, span: float) -> None:
    histories = Histories.of_sequences(sequences)
    found = gram_matrix(histories, length_power=power, near=near, span=span)
    assert found.dtype == np.float32
    assert found == pytest.approx(written_out(histories, power, near, span), abs=1e-4)


@given(sequences_)
def test_without_weights_it_is_the_product_of_zeros_and_ones(sequences: list[list[int]]) -> None:
    histories = Histories.of_sequences(sequences)
    x = np.zeros((len(sequences), len(histories.titles)))
    for row in range(len(sequences)):
        x[row, histories.items[histories.offsets[row] : histories.offsets[row + 1]]] = 1
    assert gram_matrix(histories) == pytest.approx(x.T @ x, abs=1e-4)
    items, offsets = distinct(histories)
    assert [items[a:b].tolist() for a, b in itertools.pairwise(offsets)] == [np.flatnonzero(r).tolist() for r in x]


def test_no_plays_give_zeros() -> None:
    assert gram_matrix(Histories.of_sequences([[], []]), near=0.5).shape == (0, 0)
    none = Histories.of_sequences([[1, 2]]).without_last(2)
    assert gram_matrix(none, near=0.5).tolist() == [[0, 0], [0, 0]]


def test_titles_played_over_and_over_leave_it_positive_semidefinite() -> None:
    rng = np.random.default_rng(0)
    for near in (0.5, 1.0):
        histories = Histories.of_sequences([rng.integers(0, 3, 200), rng.integers(2, 9, 50)])
        found = gram_matrix(histories, length_power=0.6, near=near, span=30.0).astype(np.float64)
        assert np.linalg.eigvalsh(found).min() > -1e-3 * np.trace(found)


@pytest.mark.parametrize("n", [1, 7, ROWS + 3])
def test_the_inverse_is_numpys_in_the_same_memory(n: int) -> None:
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, n)).astype(np.float32) / np.float32(np.sqrt(n))
    matrix = np.ascontiguousarray(x @ x.T + np.eye(n, dtype=np.float32))
    want = np.linalg.inv(matrix.astype(np.float64))
    found = invert(matrix)
    assert np.shares_memory(found, matrix)
    assert found == pytest.approx(want, abs=2e-4)
    assert np.array_equal(found, found.T)


def test_what_cannot_be_inverted_is_refused() -> None:
    with pytest.raises(mt.MatineeError, match="ridge is too small, must be larger"):
        invert(np.array([[1, 2], [2, 1]], np.float32))
