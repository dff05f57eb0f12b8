"""Weights of a log: against what it chose to show, and against what stood too far down to be looked at."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.exceptions import BadInputError, MatineeError
from matinee.log_weights import LogWeights, examination


def test_attention_that_falls_is_found_again() -> None:
    rng = np.random.default_rng(0)
    slot = np.tile(np.arange(10), 20_000)
    reward = (rng.random(len(slot)) < 0.2 * np.exp(-0.15 * slot)).astype(float)
    assert examination(slot, reward, np.ones(len(slot))) == pytest.approx(0.15, abs=0.01)


def test_better_titles_on_top_are_not_taken_for_attention() -> None:
    """The log shows the better half more often on top; attention does not fall. Weighing the rows alike says so."""
    rng = np.random.default_rng(1)
    slot = rng.integers(0, 2, 200_000)
    chance = np.where(slot == 0, 0.8, 0.2)  # of showing the better one
    better = rng.random(len(slot)) < chance
    reward = (rng.random(len(slot)) < np.where(better, 0.3, 0.1)).astype(float)
    propensity = np.where(better, chance, 1 - chance)
    assert examination(slot, reward, np.ones(len(slot))) > 0.3
    assert examination(slot, reward, 1 / propensity) < 0.03


def test_rewards_that_grow_down_the_page_or_none_at_all_mean_no_fall() -> None:
    assert examination([0, 1], [1.0, 2.0], [1.0, 1.0]) == 0.0
    assert examination([0, 1], [0.0, 0.0], [1.0, 1.0]) == 0.0
    assert examination([0, 0], [1.0, 2.0], [1.0, 1.0]) == 0.0
    assert examination([0, 9], [1.0, 0.0], [1.0, 1.0]) == pytest.approx(2.0)  # as steep as it may be


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from([0.0, 0.0, 1.0]), st.floats(0.001, 1.0)), min_size=1, max_size=40
    ),
    clip=st.floats(1.0, 20.0),
    position=st.booleans(),
)
def test_weights_are_bounded_and_of_mean_one(rows: list[tuple[int, float, float]], clip: float, position: bool) -> None:
    slot, reward, propensity = (np.array(c) for c in zip(*rows, strict=True))
    found = LogWeights(clip=clip, position=position, most=4.0).of(slot, reward, propensity)
    assert found.mean() == pytest.approx(1.0)
    assert found.max() / found.min() <= clip * clip * (4.0 if position else 1.0) * (1 + 1e-9)
    rarer = np.argsort(-propensity)
    if not position:
        assert (np.diff(found[rarer]) >= -1e-12).all()


def test_a_reward_far_down_weighs_more_and_nothing_else_does() -> None:
    slot, reward = np.tile([0, 1, 2], 100), np.tile([1.0, 0.0, 0.0], 100)
    reward[[1, 2]] = 1.0
    found = LogWeights(most=1e9).of(slot, reward, np.full(300, 0.5))
    assert found[2] > found[1] > found[0]
    assert found[4] == found[0] == found[5]
    flat = LogWeights(position=False).of(slot, reward, np.full(300, 0.5))
    assert (flat == 1).all()


def test_what_is_no_log_is_refused() -> None:
    with pytest.raises(MatineeError, match="clip == 0.5, must be >= 1"):
        LogWeights(clip=0.5)
    with pytest.raises(BadInputError, match=r"propensity\[1\] == 0.0, must be > 0 and <= 1"):
        LogWeights().of([0, 1], [0.0, 1.0], [0.5, 0.0])
    with pytest.raises(BadInputError, match="must be one a row"):
        LogWeights().of([0, 1], [0.0], [0.5, 0.5])
