"""The draw is exact: what is logged is the probability with which it happened."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.draw import FUNCTION, GREEDY, SOFTMAX, Component, Limit, average_chances, distribution, fill_slots


def uniform(n: int) -> list[Component]:
    return [Component(1.0, SOFTMAX, np.zeros(n))]


def test_uniform_slate_of_k_from_n_has_the_known_probability() -> None:
    picked, chance, _ = fill_slots(uniform(6), np.ones(6, bool), 3, uniforms=np.array([0.1, 0.5, 0.99]))
    assert len(set(picked.tolist())) == 3
    assert np.prod(chance) == pytest.approx(1 / (6 * 5 * 4))


def test_masked_candidates_are_never_drawn_even_by_the_largest_uniform() -> None:
    allowed = np.array([True, True, False, False])
    components = [Component(1.0, SOFTMAX, np.array([0.1, 0.2, 50.0, 50.0]))]
    for u in (0.0, 0.5, np.nextafter(1, 0)):
        picked, _, matrix = fill_slots(components, allowed, 2, uniforms=np.array([u, u]), full=True)
        assert set(picked.tolist()) == {0, 1}
        assert (matrix[:, 2:] == 0).all()
        assert matrix.sum(axis=1) == pytest.approx(1.0)


def test_probabilities_of_all_slates_sum_to_one_under_a_limit_between_slots() -> None:
    values, codes = np.array([0.3, 1.2, -0.4, 0.9]), np.array([0, 0, 1, 1])
    total = 0.0
    for slate in permutations(range(4), 3):
        forced = np.array(slate)
        picked, chance, _ = fill_slots(
            [Component(1.0, SOFTMAX, values)], np.ones(4, bool), 3, limits=[Limit(codes, 1)], forced=forced
        )
        # With one of each group, only two slots can be filled; walking a forbidden slate has no meaning.
        if len(picked) == 2 and codes[slate[0]] != codes[slate[1]]:
            total += float(np.prod(chance)) / 2  # each slate of two is met once for each third
    assert total == pytest.approx(1.0)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 12),
    slots=st.integers(1, 6),
    seed=st.integers(0, 10_000),
    epsilon=st.floats(0, 1),
)
def test_the_kernel_and_the_general_walk_agree(n: int, slots: int, seed: int, epsilon: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=n) * 3
    allowed = rng.random(n) < 0.7
    codes = rng.integers(-1, 3, n)
    fast = [Component(1 - epsilon, GREEDY, values), Component(epsilon, SOFTMAX, values)]
    slow = [
        Component(c.weight, FUNCTION, c.values, lambda a, c=c: distribution(c, a))  # type: ignore[misc]
        for c in fast
    ]
    uniforms = rng.random(slots)
    a = fill_slots(fast, allowed, slots, limits=[Limit(codes, 1)], uniforms=uniforms, full=True)
    b = fill_slots(slow, allowed, slots, limits=[Limit(codes, 1)], uniforms=uniforms, full=True)
    assert a[0].tolist() == b[0].tolist()
    assert np.allclose(a[1], b[1])
    assert np.allclose(a[2], b[2])
    assert np.allclose(a[2].sum(axis=1), 1.0)
    assert allowed[a[0]].all()


def test_logged_chances_are_the_frequencies_of_the_draw() -> None:
    rng = np.random.default_rng(3)
    values = np.array([0.0, 1.0, 2.0])
    components = [Component(0.8, SOFTMAX, values), Component(0.2, GREEDY, values)]
    _, _, matrix = fill_slots(components, np.ones(3, bool), 1, uniforms=np.zeros(1), full=True)
    draws = [int(fill_slots(components, np.ones(3, bool), 1, uniforms=rng.random(1))[0][0]) for _ in range(20_000)]
    seen = np.bincount(draws, minlength=3) / len(draws)
    assert np.abs(seen - matrix[0]).max() < 4 * np.sqrt(0.25 / len(draws))


def test_scores_far_below_what_is_taken_still_sum_to_one() -> None:
    values = np.array([2000.0, 0.0, -1.0])
    picked, chance, matrix = fill_slots(
        [Component(1.0, SOFTMAX, values)], np.ones(3, bool), 3, uniforms=np.array([0.5, 0.1, 0.5]), full=True
    )
    assert picked.tolist() == [0, 1, 2]
    assert chance[1] == pytest.approx(1 / (1 + np.exp(-1)))
    assert matrix.sum(axis=1) == pytest.approx(1.0)


def test_fewer_allowed_than_slots_fills_what_there_is() -> None:
    picked, chance, _ = fill_slots(uniform(5), np.array([True, False, False, True, False]), 4, uniforms=np.zeros(4))
    assert len(picked) == 2
    assert np.prod(chance) == pytest.approx(0.5)


def test_the_mask_given_is_not_written_to() -> None:
    allowed = np.ones(4, bool)
    fill_slots(uniform(4), allowed, 2, uniforms=np.zeros(2))
    assert allowed.all()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=100, deadline=None)
def test_one_softmax_draws_the_same_bits_whether_or_not_the_distribution_is_asked_for(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    # Scores 900 apart have powers that vanish: the road through the top of what is left.
    components = [Component(1.0, SOFTMAX, rng.normal(size=n) * rng.choice([1, 50, 900]))]
    limits = [Limit(rng.integers(-1, min(5, n), n), 2)]
    allowed, uniforms = rng.random(n) < 0.8, rng.random(10)
    short = fill_slots(components, allowed, 10, limits=limits, uniforms=uniforms)
    full = fill_slots(components, allowed, 10, limits=limits, uniforms=uniforms, full=True)
    assert short[0].tolist() == full[0].tolist()
    assert short[1].tolist() == full[1].tolist()
    walked = fill_slots(components, allowed, 10, limits=limits, forced=short[0])
    assert walked[1].tolist() == short[1].tolist()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), limited=st.booleans())
def test_average_chances_are_those_of_all_slates(seed: int, limited: bool) -> None:
    """Against every slate of three out of five, each with its probability."""
    rng = np.random.default_rng(seed)
    parts = [Component(0.7, SOFTMAX, rng.normal(size=5)), Component(0.3, GREEDY, rng.normal(size=5))]
    codes = np.array([0, 0, 1, 1, -1])
    limits, slots = ([Limit(codes, 1)], 2) if limited else ([], 3)
    allowed = np.array([True, True, True, True, seed % 2 == 0])
    exact = np.zeros((slots, 5))
    for slate in permutations(np.flatnonzero(allowed).tolist(), slots):
        if limited and codes[slate[0]] == codes[slate[1]]:
            continue
        chance = fill_slots(parts, allowed, slots, limits=limits, forced=np.array(slate))[1]
        for k, i in enumerate(slate):
            exact[k, i] += chance.prod()
    found = average_chances(parts, allowed, slots, limits=limits, draws=4000, rng=rng)
    assert exact.sum(axis=1) == pytest.approx(1.0)
    assert found == pytest.approx(exact, abs=0.02)
    assert found[0] == pytest.approx(exact[0])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), scale=st.sampled_from([1.0, 30.0, 2000.0]), greedy=st.booleans())
def test_one_average_slate_is_the_walk_by_its_numbers(seed: int, scale: float, greedy: bool) -> None:
    """Through limits that close groups, and scores so far apart that what is left is nothing beside what was taken."""
    rng = np.random.default_rng(seed)
    parts = [Component(0.7, SOFTMAX, scale * rng.normal(size=12)), Component(0.3, SOFTMAX, rng.normal(size=12))]
    if greedy:
        parts.append(Component(0.0, GREEDY, rng.normal(size=12)))
    limits = [Limit(rng.integers(-1, 3, 12), 2), Limit(rng.integers(-1, 2, 12), 3)]
    allowed = rng.random(12) < 0.9
    found = average_chances(parts, allowed, 8, limits=limits, draws=1, rng=rng)
    walked = fill_slots(parts, allowed, 8, limits=limits, uniforms=np.full(8, 0.5), full=True)[2]
    assert found[: len(walked)] == pytest.approx(walked, abs=1e-9)
    assert not found[len(walked) :].any()
