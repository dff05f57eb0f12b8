"""The closed-form sequence model against its rows written out, and on a cycle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import matinee as mt
from matinee.domains.personalization.recommenders import Histories
from matinee.domains.personalization.recommenders.sequence import Block, Successor, normal_equations

BLOCKS = (Block(1, 1, 1.0), Block(2, 5, 0.6), Block(1, 9, 0.9))
sequences_ = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=14), min_size=1, max_size=5)


def written_out(
    histories: Histories, blocks: tuple[Block, ...], ahead: float, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """S and T, a row for every position of every member."""
    n, S, T = len(histories.titles), [], []
    for row in range(len(histories)):
        own = histories.items[histories.offsets[row] : histories.offsets[row + 1]].tolist()
        for p in range(1, len(own)):
            s, t = np.zeros((len(blocks), n)), np.zeros(n)
            for k, block in enumerate(blocks):
                for x in range(p):
                    if block.first <= p - x <= block.last:
                        s[k, own[x]] += block.decay ** (p - x - block.first)
            for y in range(p, min(len(own), p + reach)):
                t[own[y]] += ahead ** (y - p)
            S.append(s.ravel())
            T.append(t)
    return np.array(S).reshape(-1, len(blocks) * n), np.array(T).reshape(-1, n)


@settings(max_examples=40, deadline=None)
@given(sequences_)
def test_pairs_give_the_normal_equations_of_the_rows(sequences: list[list[int]]) -> None:
    histories = Histories.of_sequences(sequences)
    S, T = written_out(histories, BLOCKS, 0.5, 3)
    gram, cross = normal_equations(histories, BLOCKS, 0.5, 3)
    assert np.tril(gram) == pytest.approx(np.tril(S.T @ S), abs=1e-3)
    assert pytest.approx(S.T @ T, abs=1e-3) == cross.T


def test_the_weights_are_those_of_the_ridge_regression() -> None:
    rng = np.random.default_rng(0)
    histories = Histories.of_sequences([rng.integers(0, 7, rng.integers(1, 15)).tolist() for _ in range(20)])
    S, T = written_out(histories, BLOCKS, 0.5, 3)
    G = S.T @ S
    want = np.linalg.solve(G + 2.0 * np.eye(len(G)) + 0.5 * np.diag(np.diag(G)), S.T @ T)
    model = Successor(blocks=BLOCKS, reach=3, ridge=2.0).fit(histories)
    assert model.weights == pytest.approx(want, abs=1e-5)


def test_a_cycle_is_followed_and_its_terms_add_up() -> None:
    histories = Histories.of_sequences([[100 + (m + k) % 7 for k in range(5)] for m in range(30)])
    model = Successor(ridge=1.0).fit(histories)
    for last in range(100, 107):
        before = 100 + (last - 101) % 7
        assert model.recommend([before, last], 1)[0].tolist() == [100 + (last - 99) % 7]
    terms = model.explain([100, 101], 102)
    assert sum(v for _, v in terms) == pytest.approx(float(model.scores([100, 101])[2]), rel=1e-5)
    assert terms[0][0] == 101  # the newest says most


def test_too_many_unknowns_are_refused_before_memory_is_taken() -> None:
    wide = Histories(np.arange(30_000), np.array([0, 1]), np.array([0, 2]), np.array([0]), np.array([0.0, 1.0]))
    with pytest.raises(mt.MatineeError, match=r"2 blocks x 30,000 titles == 60,000, must be <= 45,000"):
        Successor().fit(wide)


@pytest.mark.parametrize("block", [(0, 5, 0.5), (3, 2, 0.5), (1, 5, 0.0), (1, 5, 1.5)])
def test_a_block_that_cannot_be_is_refused(block: tuple[int, int, float]) -> None:
    with pytest.raises(mt.MatineeError, match="must be"):
        Successor(blocks=(Block(*block),))


def test_one_thread_and_several_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    histories = Histories.of_sequences([rng.integers(0, 30, 25).tolist() for _ in range(30)])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    one = normal_equations(histories, BLOCKS, 0.5, 3)
    monkeypatch.delenv("OMP_NUM_THREADS")
    several = normal_equations(histories, BLOCKS, 0.5, 3)
    assert all(np.array_equal(a, b) for a, b in zip(one, several, strict=True))
