"""Factors: half sweeps against plain linear algebra, fold-in, blocks, shards."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domains.personalization.recommenders.worlds import checkerboard

import matinee as mt
from matinee.domains.personalization.recommenders import Histories
from matinee.domains.personalization.recommenders import factors as module
from matinee.domains.personalization.recommenders.conformance import check_recommender, example_histories
from matinee.domains.personalization.recommenders.factors import Factors, Plays, Ridge, half_sweep
from matinee.domains.personalization.recommenders.gram import distinct

sequences_ = st.lists(st.lists(st.integers(0, 9), max_size=12), min_size=1, max_size=6).filter(any)
RIDGE = Ridge(0.2, 0.03)


def plays_of(histories: Histories) -> Plays:
    items, offsets = distinct(histories)
    return Plays(items.astype(np.int32), offsets)


def written_out(plays: Plays, other: np.ndarray, ridge: Ridge) -> np.ndarray:
    """The normal equations of each row, solved by NumPy in double precision."""
    v = other.astype(np.float64)
    rows = []
    for begin, end in itertools.pairwise(plays.offsets):
        own = v[plays.items[begin:end]]
        extra = ridge.strength * (len(own) + ridge.unobserved * len(v))
        rows.append(
            np.linalg.solve(own.T @ own + ridge.unobserved * v.T @ v + extra * np.eye(v.shape[1]), own.sum(axis=0))
        )
    return np.array(rows)


@settings(max_examples=50, deadline=None)
@given(sequences_, st.integers(1, 9), st.integers(0, 100))
def test_a_half_sweep_of_full_width_is_exact(sequences: list[list[int]], width: int, seed: int) -> None:
    histories = Histories.of_sequences(sequences)
    rng = np.random.default_rng(seed)
    other = rng.normal(size=(len(histories.titles), width)).astype(np.float32)
    plays, start = plays_of(histories), rng.normal(size=(len(histories), width)).astype(np.float32)
    before = start.copy()
    found = half_sweep(plays, other, other.T @ other, RIDGE, width, start)
    assert found.dtype == np.float32
    assert found == pytest.approx(written_out(plays, other, RIDGE), abs=2e-3)
    assert np.array_equal(start, before)


@pytest.mark.parametrize("block", [1, 3, 4, 7])
def test_half_sweeps_in_blocks_come_to_the_same(block: int) -> None:
    histories = example_histories(np.random.default_rng(1))
    other = np.random.default_rng(2).normal(size=(len(histories.titles), 8)).astype(np.float32)
    plays, rows = plays_of(histories), np.zeros((len(histories), 8), np.float32)
    want = written_out(plays, other, RIDGE)
    first = half_sweep(plays, other, other.T @ other, RIDGE, block, rows)
    rows = first
    for _ in range(300):
        rows = half_sweep(plays, other, other.T @ other, RIDGE, block, rows)
    assert np.abs(first - want).max() > 0.01  # one sweep in blocks is not yet there
    assert rows == pytest.approx(want, abs=5e-3)


def objective(model: Factors, histories: Histories, people: np.ndarray) -> float:
    """What is minimised, over all pairs."""
    plays = plays_of(histories)
    x = np.zeros((len(people), len(model.titles)))
    for row in range(len(people)):
        x[row, plays.items[plays.offsets[row] : plays.offsets[row + 1]]] = 1
    product = people.astype(np.float64) @ model.vectors.T
    a, strength = model.unobserved, model.strength
    held = (x.sum(1) + a * x.shape[1]) @ (people**2).sum(1) + (x.sum(0) + a * x.shape[0]) @ (model.vectors**2).sum(1)
    return float((x * (1 - product) ** 2).sum() + a * (product**2).sum() + strength * held)


@pytest.mark.parametrize("block", [3, 12])
def test_every_sweep_lowers_the_objective(block: int) -> None:
    histories = example_histories(np.random.default_rng(3))
    found = []
    for sweeps in (1, 2, 4, 8):
        model = Factors(width=12, sweeps=sweeps, block=block, strength=0.02).fit(histories)
        found.append(objective(model, histories, model.fold_in(histories)))
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.99 * found[0]


def test_folding_in_is_half_a_sweep() -> None:
    histories = example_histories(np.random.default_rng(4))
    model = Factors(width=6, sweeps=3).fit(histories)
    want = written_out(plays_of(histories), model.vectors, model.ridge)
    assert model.fold_in(histories) == pytest.approx(want, abs=1e-3)
    assert model.scores(histories.history(5)) == pytest.approx(model.vectors @ want[5], abs=1e-3)
    assert model.fold_in(Histories.of_sequences([[10**9]])).tolist() == [[0.0] * 6]


def test_shards_in_processes_give_the_same_bits_as_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    histories = example_histories(np.random.default_rng(5))
    monkeypatch.setattr(module, "SHARD", len(histories.items) // 6)
    assert len(plays_of(histories).shards(module.SHARD)) >= 3
    here = Factors(width=10, sweeps=1, block=4)
    apart = dataclasses.replace(here, sharding="local", scratch=str(tmp_path))
    assert np.array_equal(here.fit(histories).vectors, apart.fit(histories).vectors)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(module, "SHARD", 10**9)
    whole = Factors(width=10, sweeps=1, block=4).fit(histories)
    assert np.array_equal(here.vectors, whole.vectors)


@given(sequences_, st.integers(1, 20))
def test_shards_cover_every_row_once(sequences: list[list[int]], most: int) -> None:
    plays = plays_of(Histories.of_sequences(sequences))
    shards = plays.shards(most)
    rows = [r for s in shards for r in range(s.start, s.stop)]
    assert rows == list(range(len(sequences)))
    back = [plays.part(s).items.tolist() for s in shards]
    assert [i for part in back for i in part] == plays.items.tolist()


@given(sequences_)
def test_turned_twice_is_the_same(sequences: list[list[int]]) -> None:
    histories = Histories.of_sequences(sequences)
    plays = plays_of(histories)
    turned = plays.turned(len(histories.titles))
    assert turned.turned(len(histories)).items.tolist() == plays.items.tolist()
    assert np.diff(turned.offsets).tolist() == np.bincount(plays.items, minlength=len(histories.titles)).tolist()


def test_on_a_checkerboard_the_withheld_title_comes_first() -> None:
    histories = Histories.of(checkerboard())
    model = Factors(width=4, sweeps=10).fit(histories)
    for row, member in enumerate(histories.members.tolist()):
        seen = histories.history(row)
        lacking = [t for t in range(12) if t % 2 == member % 2 and t not in seen]
        assert model.recommend(seen, 1)[0].tolist() == lacking


def test_contributions_add_up_to_the_score() -> None:
    histories = example_histories(np.random.default_rng(6))
    model = Factors(width=6, sweeps=3).fit(histories)
    history = histories.history(2)
    found = model.explain(history, int(model.titles[7]))
    assert sum(v for _, v in found) == pytest.approx(float(model.scores(history)[7]), abs=1e-4)


def test_similar_titles_are_those_of_the_same_half() -> None:
    model = Factors(width=4, sweeps=10).fit(Histories.of(checkerboard()))
    titles, cosine = model.similar(4, 5)
    assert {t % 2 for t in titles.tolist()} == {0}
    assert (cosine <= 1 + 1e-6).all()
    assert float(cosine[-1]) > 0.3


def test_it_keeps_the_promises_of_a_recommender() -> None:
    check_recommender(lambda: Factors(width=8, sweeps=3))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"width": 0}, "width == 0, must be >= 1"),
        ({"sweeps": 0}, "sweeps == 0, must be >= 1"),
        ({"unobserved": 0.0}, "unobserved == 0.0, must be > 0"),
        ({"strength": -1.0}, "strength == -1.0, must be > 0"),
    ],
)
def test_settings_out_of_range_are_refused(bad: dict[str, float], said: str) -> None:
    with pytest.raises(mt.MatineeError, match=said):
        Factors(**bad)  # type: ignore[arg-type]
