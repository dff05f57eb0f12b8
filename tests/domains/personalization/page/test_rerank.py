"""Calibrated lists: known answers, against every possible list, and what the lottery promises."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.domains.personalization.page import Lottery, divergence, exchange, greedy, lottery, mix
from matinee.domains.personalization.page.rerank import discounts

TWO = np.array([[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 4)  # six dramas, four wars
FALLING = np.linspace(0.9, 0.2, 10)


def value(chosen: np.ndarray, r: np.ndarray, g: np.ndarray, p: np.ndarray, weight: float) -> float:
    gain = float(np.sort(r[chosen])[::-1] @ discounts(len(chosen)))
    return gain - weight * divergence(p, mix(g, chosen))


def world(seed: int, n: int = 9, genres: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    r, g = rng.random(n), rng.random((n, genres)) * (rng.random((n, genres)) < 0.5)
    g[g.sum(axis=1) == 0, 0] = 1
    p = rng.dirichlet(np.ones(genres))
    return r, g / g.sum(axis=1, keepdims=True), p


@pytest.mark.parametrize("method", [greedy, exchange])
def test_without_weight_the_most_relevant_and_with_all_of_it_the_mix(method) -> None:  # type: ignore[no-untyped-def]
    assert method(FALLING, TWO, np.array([0.5, 0.5]), 0, 4).tolist() == [0, 1, 2, 3]
    most = method(FALLING, TWO, np.array([0.5, 0.5]), 1 if method is greedy else 100, 4)
    assert most.tolist() == [0, 1, 6, 7]  # two of each, the most relevant first
    assert method(FALLING, TWO, np.array([0.0, 1.0]), 0.99 if method is greedy else 100, 4).tolist() == [6, 7, 8, 9]


@pytest.mark.parametrize("method", [greedy, exchange])
def test_more_asked_than_there_is_and_nothing_at_all(method) -> None:  # type: ignore[no-untyped-def]
    p = np.array([0.5, 0.5])
    assert sorted(method(FALLING[:3], TWO[:3], p, 0.5, 10).tolist()) == [0, 1, 2]
    assert method(FALLING[:0], TWO[:0], p, 0.5, 10).tolist() == []
    assert lottery(FALLING[:0], TWO[:0], p, 0.5, 10).lists.shape == (1, 0)
    assert sorted(lottery(FALLING[:3], TWO[:3], p, 0.5, 10).lists[0].tolist()) == [0, 1, 2]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.3, 1.0, 3.0]))
def test_no_exchange_of_one_title_helps_and_the_best_list_is_near(seed: int, weight: float) -> None:
    r, g, p = world(seed)
    found = exchange(r, g, p, weight, 4)
    own = value(found, r, g, p, weight)
    for out in range(4):
        for into in set(range(9)) - set(found.tolist()):
            other = found.copy()
            other[out] = into
            assert value(other, r, g, p, weight) <= own + 1e-9
    best = max(value(np.array(c), r, g, p, weight) for c in combinations(range(9), 4))
    assert own <= best + 1e-9
    assert value(greedy(r, g, p, 0.0, 4), r, g, p, weight) <= own + 1e-9
    assert best - own <= 0.25 * max(weight, 0.3)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.3, 1.0, 3.0]))
def test_the_lottery_is_at_least_as_good_as_any_list(seed: int, weight: float) -> None:
    r, g, p = world(seed)
    made = lottery(r, g, p, weight, 4, rounds=400)
    assert made.chances.sum() == pytest.approx(1)
    assert all(len(set(one)) == 4 for one in made.lists.tolist())
    each = list(zip(made.chances, made.lists, strict=True))
    expected = sum(c * float(np.sort(r[one])[::-1] @ discounts(4)) for c, one in each)
    shown = sum(c * mix(g, one) for c, one in each)
    own = expected - weight * divergence(p, shown)
    best = max(value(np.array(c), r, g, p, weight) for c in combinations(range(9), 4))
    assert own >= best - 0.01  # the price of stopping when little is left to gain


def test_the_lottery_reaches_on_average_what_no_list_can() -> None:
    p = np.array([0.95, 0.05])  # one war in twenty: a list of four has none or a quarter
    equal = np.full(10, 0.5)
    single = divergence(p, mix(TWO, exchange(equal, TWO, p, 10.0, 4)))
    made = lottery(equal, TWO, p, 10.0, 4, rounds=500)
    shown = sum(c * mix(TWO, one) for c, one in zip(made.chances, made.lists, strict=True))
    assert divergence(p, shown) < 0.01 < 0.09 < single


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_chances_of_the_lottery_are_exact(seed: int) -> None:
    r, g, p = world(seed)
    made = lottery(r, g, p, 1.0, 3)
    matrix = made.marginals(9)
    assert matrix.sum(axis=0) == pytest.approx(np.ones(3))
    distinct: dict[tuple[int, ...], float] = {}
    for one, chance in zip(made.lists.tolist(), made.chances.tolist(), strict=True):
        distinct[tuple(one)] = distinct.get(tuple(one), 0.0) + chance
    seen: dict[tuple[int, ...], int] = {}
    for u in (np.arange(2000) + 0.5) / 2000:
        drawn, chance = made.draw(float(u))
        seen[tuple(drawn.tolist())] = seen.get(tuple(drawn.tolist()), 0) + 1
        assert np.prod(chance) == pytest.approx(distinct[tuple(drawn.tolist())])
    assert all(abs(seen.get(k, 0) / 2000 - v) < 2e-3 * len(made.lists) for k, v in distinct.items())


def test_chances_along_a_list_that_is_never_drawn() -> None:
    made = Lottery(np.array([[0, 1, 2], [0, 2, 1]]), np.array([0.25, 0.75]))
    assert made.chances_along(np.array([0, 1, 2])).tolist() == [1.0, 0.25, 1.0]
    assert made.chances_along(np.array([0, 5, 2])).tolist() == [1.0, 0.0, 0.0]
    assert made.chances_along(np.array([0, 1, 2, 3])).tolist() == [1.0, 0.25, 1.0, 0.0]
