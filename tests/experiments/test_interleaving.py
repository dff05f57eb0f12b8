"""Team draft: its probabilities by enumeration, credit that places cannot bend, readouts that stay quiet without a difference."""

from __future__ import annotations

import itertools
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.exceptions import BadInputError, MatineeError
from matinee.experiments import Design, Draft, draft, interleaved, replay, sign_power, sign_test


class Coins:
    """A generator whose tosses are given: heads below one half."""

    def __init__(self, tosses: tuple[int, ...]) -> None:
        self.tosses = list(tosses)

    def random(self) -> float:
        return 0.25 if self.tosses.pop(0) else 0.75


def every_draft(first: list[int], second: list[int], slots: int) -> list[Draft]:
    """One draft for each way the coins may fall, all equally likely."""
    rounds = (slots + 1) // 2
    return [draft(first, second, slots, Coins(t)) for t in itertools.product((1, 0), repeat=rounds)]  # type: ignore[arg-type]


@st.composite
def rankings(draw: st.DrawFn) -> tuple[list[int], list[int], int]:
    slots = draw(st.integers(1, 7))
    titles = st.lists(st.integers(0, 12), min_size=slots, max_size=12, unique=True)
    return draw(titles), draw(titles), slots


def test_a_draft_by_hand() -> None:
    first, second = [1, 2, 3, 4], [1, 4, 3, 2]
    heads = draft(first, second, 3, Coins((1, 1)))  # type: ignore[arg-type]
    # The first goes first and takes 1; the second's best left is 4. Then 2 for the first.
    assert (heads.page, heads.sides, heads.propensities) == ((1, 4, 2), (1, -1, 1), (1.0, 0.5, 0.5))
    # Ranks count down to 6. Between 2 and 4 the rankers differ by (5/6 - 3/6) - (3/6 - 5/6) over 2 = 1/3.
    assert heads.credit[:2] == pytest.approx((0.0, -1 / 3))
    # Left are 2 for the first and 3 for the second: (5/6 - 3/6) - (4/6 - 4/6) over 2 = 1/6.
    assert heads.credit[2] == pytest.approx(1 / 6)


@settings(max_examples=80, deadline=None)
@given(rankings())
def test_probabilities_are_those_of_the_coins(case: tuple[list[int], list[int], int]) -> None:
    first, second, slots = case
    drafts = every_draft(first, second, slots)
    pages = Counter(d.page for d in drafts)
    for d in drafts:
        assert len(set(d.page)) == slots == len(d.page)
        assert np.prod(d.propensities) == pytest.approx(pages[d.page] / len(drafts))
        for k in range(slots):  # and each slot given those before it
            like = [e for e in drafts if e.page[:k] == d.page[:k]]
            assert d.propensities[k] == pytest.approx(sum(e.page[k] == d.page[k] for e in like) / len(like))
        assert sorted(d.sides[: slots // 2 * 2]) == [-1] * (slots // 2) + [1] * (slots // 2)


@settings(max_examples=80, deadline=None)
@given(rankings(), st.lists(st.integers(0, 100), min_size=7, max_size=7))
def test_places_alone_earn_no_credit(case: tuple[list[int], list[int], int], attention: list[int]) -> None:
    """Members who like all titles alike click by place; whatever the places are worth, the credit is zero on average."""
    first, second, slots = case
    drafts = every_draft(first, second, slots)
    total = sum(
        Fraction(a) * Fraction(c).limit_denominator(10_000)
        for d in drafts
        for a, c in zip(attention, d.credit, strict=False)
    )
    assert total == 0


@settings(max_examples=80, deadline=None)
@given(rankings())
def test_swapping_the_rankers_flips_the_credit(case: tuple[list[int], list[int], int]) -> None:
    first, second, slots = case
    for d in every_draft(first, second, slots):
        again = replay(first, second, d.page)
        assert again.credit == d.credit
        assert again.propensities == d.propensities
        assert replay(second, first, d.page).credit == tuple(-c for c in d.credit)


@settings(max_examples=60, deadline=None)
@given(st.permutations(range(8)), st.integers(0, 7), st.integers(0, 7), st.integers(1, 7))
def test_a_liked_title_earns_credit_for_who_ranks_it_higher(first: list[int], up: int, down: int, slots: int) -> None:
    """One title is liked and all others not, and the rankers differ about that one: credit goes to who puts it higher."""
    liked = first[up]
    second = [title for title in first if title != liked]
    second.insert(down, liked)
    total = sum(
        credit
        for d in every_draft(first, second, slots)
        for title, credit in zip(d.page, d.credit, strict=True)
        if title == liked
    )
    assert total * (down - up) >= -1e-9
    if up != down and min(up, down) < slots:
        assert abs(total) > 1e-9


def test_the_same_ranker_twice_says_nothing() -> None:
    for d in every_draft([3, 1, 2, 5], [3, 1, 2, 5], 4):
        assert d.page == (3, 1, 2, 5)
        assert d.credit == (0.0,) * 4
        assert d.propensities == (1.0,) * 4


def test_what_is_no_draft_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(BadInputError, match=r"second ranks 2 titles, must rank at least as many as slots \(3\)"):
        draft([1, 2, 3], [1, 2], 3, rng)
    with pytest.raises(BadInputError, match="first holds 1 twice"):
        draft([1, 1, 3], [1, 2, 3], 3, rng)
    with pytest.raises(MatineeError, match="slots == 0, must be >= 1"):
        draft([1], [1], 0, rng)
    with pytest.raises(BadInputError, match=r"page\[0\] == 3, must be a draft of the two rankings"):
        replay([1, 2, 3], [2, 1, 3], [3, 1])
    with pytest.raises(BadInputError, match=r"page\[2\] == 4"):
        replay([1, 2, 3, 4], [2, 1, 3, 4], [1, 2, 4])


def experiment(
    rng: np.random.Generator, members: int, noise: tuple[float, float], liking: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Members with one or two visits, rankers that know the titles' worth up to noise; who visits, and the credit."""
    who, credits = [], []
    for m in range(members):
        worth = rng.normal(size=20)
        lists = [np.argsort(-worth - n * rng.normal(size=20)).tolist() for n in noise]
        for _ in range(int(rng.integers(1, 3))):
            found = draft(lists[0], lists[1], 6, rng)
            clicked = rng.random(6) < 0.5 / (1 + np.exp(-liking * worth[list(found.page)])) / np.arange(1, 7)
            who.append(m)
            credits.append(float(np.dot(clicked, found.credit)))
    return np.array(who), np.array(credits)


@pytest.mark.parametrize("liking", [1.0, 0.0])
def test_false_alarms_without_a_difference_are_as_many_as_promised(liking: float) -> None:
    """Rankers that are alike, and rankers that differ where members do not care: 15 of 300 experiments, give or take 12."""
    rng = np.random.default_rng(20)
    noise = (0.7, 0.7) if liking else (0.0, 3.0)
    readouts = [interleaved(*experiment(rng, 40, noise, liking)) for _ in range(300)]
    assert 3 <= sum(r.better is not None for r in readouts) <= 27
    assert sum(r.sign_p < 0.05 for r in readouts) <= 27


def test_the_better_ranker_is_found() -> None:
    rng = np.random.default_rng(3)
    found = interleaved(*experiment(rng, 1500, (0.2, 1.5)))
    assert found.better == "first"
    assert found.sign_p < 0.01
    swapped = interleaved(*experiment(rng, 1500, (1.5, 0.2)))
    assert swapped.better == "second"
    assert "members prefer the second ranker" in swapped.notes()[0]


def test_a_readout_by_hand() -> None:
    found = interleaved([1, 1, 2, 3, 4], [1.0, 1.0, 2.0, 0.0, -1.0])
    assert (found.members, found.first, found.second, found.ties) == (4, 2, 1, 1)
    assert found.preference == pytest.approx(0.75)  # members 2, 2, 0, -1
    error = np.std([2, 2, 0, -1], ddof=1) / 2
    assert (found.low, found.high) == (pytest.approx(0.75 - 1.959964 * error), pytest.approx(0.75 + 1.959964 * error))
    assert found.better is None
    with pytest.raises(BadInputError, match=r"credit.shape == \(1,\), must be \(2,\) as member"):
        interleaved([1, 2], [1.0])
    with pytest.raises(BadInputError, match="members == 1, must be at least 2"):
        interleaved([1, 1], [1.0, 0.0])
    with pytest.raises(BadInputError, match="is not finite"):
        interleaved([1, 2], [1.0, float("nan")])


def test_a_design_holds_at_any_look_and_is_wider() -> None:
    who, credit = np.arange(400), np.random.default_rng(0).normal(0.2, 1.0, 400)
    once, always = interleaved(who, credit), interleaved(who, credit, design=Design(400))
    assert always.high - always.low == pytest.approx(Design(400).ratio(400) * (once.high - once.low))
    assert always.p > once.p
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(200):
        nothing = rng.normal(size=1000)
        looks = [interleaved(np.arange(n), nothing[:n], design=Design(1000)) for n in range(50, 1001, 50)]
        alarms += any(look.better is not None for look in looks)
    assert alarms <= 18  # 5% of 200, and two standard errors and a half


def test_no_clicks_at_all_are_no_verdict() -> None:
    for design in (None, Design(10)):
        found = interleaved([1, 2, 3], [0.0, 0.0, 0.0], design=design)
        assert (found.better, found.p, found.sign_p, found.ties) == (None, 1.0, 1.0, 3)


def test_the_sign_test_is_exact() -> None:
    assert sign_test(9, 1) == pytest.approx(2 * 11 / 1024)
    assert sign_test(1, 9) == sign_test(9, 1)
    assert sign_test(5, 5) == sign_test(0, 0) == 1.0


@pytest.mark.parametrize(("members", "share", "ties"), [(60, 0.7, 0.0), (60, 0.7, 0.4), (25, 0.5, 0.0)])
def test_its_power_is_what_simulation_finds(members: int, share: float, ties: float) -> None:
    rng = np.random.default_rng(1)
    n = rng.binomial(members, 1 - ties, 20_000)
    first = rng.binomial(n, share)
    found = np.mean([sign_test(int(a), int(b)) <= 0.05 for a, b in zip(first, n - first, strict=True)])
    assert sign_power(members, share, ties=ties) == pytest.approx(found, abs=0.012)
