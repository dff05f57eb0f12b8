"""The drift filter: by hand, against its own one-by-one form, and on a processor that changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.domains.payments.drift import Drift


def observe(drift: Drift, processor: int, segment: int, logit: float, approved: bool) -> None:
    """One answer, as the module's words have it."""
    expected, fade = 1 / (1 + np.exp(-logit)), np.exp(-1 / drift.memory)
    drift.surplus[processor, segment] = drift.surplus[processor, segment] * fade + approved - expected
    drift.spread[processor, segment] = drift.spread[processor, segment] * fade + expected * (1 - expected)


def test_one_answer_by_hand() -> None:
    drift = Drift.fresh(1, 1, {"memory": 1e9, "prior": 1.0, "strength": 0.5})
    shifts = drift.replay(np.zeros((2, 1)), np.zeros((2, 1), np.int64), np.array([0, 0]), np.array([1.0, 1.0]))
    assert shifts[0, 0] == 0  # nothing seen yet
    assert shifts[1, 0] == pytest.approx(0.5 * 0.5 / (0.25 + 1.0))  # strength * (1 - q) / (q (1 - q) + prior)


def test_other_processors_and_segments_are_left_alone() -> None:
    drift = Drift.fresh(2, 2)
    observe(drift, 0, 1, 0.0, approved=True)
    shifts = drift.shifts(np.array([[0, 0], [1, 1]]))
    assert shifts[1, 0] > 0
    assert shifts[0, 0] == shifts[0, 1] == shifts[1, 1] == 0


def test_a_processor_that_breaks_is_noticed_and_one_that_does_not_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    q = np.where(np.arange(600) < 300, 0.5, 0.1)  # the first processor breaks halfway; the model still says one half
    action = np.tile([0, 1], 300)
    approved = (rng.random(600) < np.where(action == 0, q, 0.5)).astype(float)
    shifts = Drift.fresh(2, 1).replay(np.zeros((600, 2)), np.zeros((600, 2), np.int64), action, approved)
    assert shifts[399, 0] < -0.5
    assert shifts[500:, 0].max() < -0.65
    assert np.abs(shifts[:, 1]).max() < 0.45


events = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 1), st.floats(-3, 3), st.booleans()), min_size=1, max_size=40
)


@settings(max_examples=60, deadline=None)
@given(events)
def test_replay_is_observing_one_by_one(seen: list[tuple[int, int, float, bool]]) -> None:
    action = np.array([p for p, _, _, _ in seen])
    segments = np.array([[s] * 3 for _, s, _, _ in seen])
    logits = np.array([[x] * 3 for _, _, x, _ in seen])
    together, one = Drift.fresh(3, 2), Drift.fresh(3, 2)
    shifts = together.replay(logits, segments, action, np.array([float(y) for _, _, _, y in seen]))
    for i, (p, s, x, y) in enumerate(seen):
        assert one.shifts(segments[i : i + 1])[0] == pytest.approx(shifts[i], abs=1e-12)
        observe(one, p, s, x, approved=y)
    assert one.surplus == pytest.approx(together.surplus, abs=1e-12)
    assert one.spread == pytest.approx(together.spread, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(events, st.data())
def test_no_answer_moves_what_was_said_before_it(seen: list[tuple[int, int, float, bool]], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(seen) - 1))
    action = np.array([p for p, _, _, _ in seen])
    segments = np.array([[s] * 3 for _, s, _, _ in seen])
    logits = np.array([[x] * 3 for _, _, x, _ in seen])
    answers = np.array([float(y) for _, _, _, y in seen])
    before = Drift.fresh(3, 2).replay(logits, segments, action, answers)
    answers[at] = 1 - answers[at]
    after = Drift.fresh(3, 2).replay(logits, segments, action, answers)
    assert np.array_equal(before[: at + 1], after[: at + 1])


def test_a_copy_goes_its_own_way() -> None:
    drift = Drift.fresh(1, 1)
    other = drift.copy()
    observe(other, 0, 0, 0.0, approved=True)
    assert drift.surplus[0, 0] == 0
    assert other.emptied().surplus[0, 0] == 0
