"""Which recommender is chosen, with which words, and that the choice can be overridden."""

from __future__ import annotations

import numpy as np
import pytest

import matinee as mt
from matinee.domains.personalization.recommenders import Blend, Histories, Staged, Successor, Transformer
from matinee.domains.personalization.recommenders.choosing import KINDS, choose, closed_forms, cost_of, share_tied
from matinee.domains.personalization.recommenders.sequence import LONG, SHORT


def histories(members: int = 300, titles: int = 50, longest: int = 40) -> Histories:
    rng = np.random.default_rng(0)
    return Histories.of_sequences([rng.integers(0, titles, longest).tolist() for _ in range(members)])


def timeless(some: Histories) -> Histories:
    """The same events, each member's all at one moment."""
    return Histories(some.titles, some.items, some.offsets, some.members, np.zeros(len(some.items)))


def parts(one: object) -> dict[str, object]:
    assert isinstance(one, Staged)
    return dict(one.first.parts)


def test_few_events_are_left_to_popularity() -> None:
    found = choose(histories(members=5))
    assert found.kind == "popular"
    assert str(found) == "popular: 200 events, fewer than 500: nothing but popularity can be told from chance"


def test_without_an_order_it_is_a_closed_form_or_factors() -> None:
    found = choose(timeless(histories()))
    assert found.kind == "together"
    assert "100% of the events share their moment" in found.reasons[0]
    wide = Histories(np.arange(40_000), np.arange(40_000), np.arange(0, 40_001, 100), np.arange(400), np.zeros(40_000))
    assert choose(wide).kind == "factors"
    assert "40,000 titles, more than 30,000" in str(choose(wide))


def test_few_members_are_left_to_plain_counts() -> None:
    found = choose(histories(members=100))
    assert found.kind == "following"
    assert "100 members with two events, fewer than 200" in str(found)


def test_with_an_order_it_is_staged_and_the_time_decides_what_goes_in() -> None:
    some = histories()
    short = choose(some, seconds=180.0, torch=True)
    assert short.kind == "staged"
    assert {"following", "chain", "long", "short", "together"} == set(parts(short.recommender))
    assert "no transformer: " in str(short)
    assert short.seconds <= 180
    long = choose(some, seconds=1500.0, torch=True)
    transformer = parts(long.recommender)["transformer"]
    assert isinstance(transformer, Transformer)
    assert 0.5 * 1500 < transformer.seconds < 1500
    assert long.seconds <= 1500
    without = choose(some, seconds=1500.0, torch=False)
    assert "transformer" not in parts(without.recommender)
    assert "torch is not installed" in str(without)


def test_a_model_that_would_take_too_long_is_left_out_with_its_price() -> None:
    # 8,000 titles: four blocks are 32,000 unknowns, three minutes of arithmetic and more.
    rng = np.random.default_rng(1)
    some = Histories.of_sequences([rng.integers(0, 8000, 500).tolist() for _ in range(600)])
    found = choose(some, seconds=120.0, torch=False)
    assert "long" not in parts(found.recommender)
    assert "no long with 4 blocks" in str(found)


def test_what_costs_more_is_said_to_cost_more() -> None:
    some = histories()
    assert cost_of(Successor(blocks=LONG), some) > cost_of(Successor(blocks=SHORT), some)
    wide = Histories(np.arange(30_000), np.array([0, 1]), np.array([0, 2]), np.array([0]), np.array([0.0, 1.0]))
    assert cost_of(Successor(blocks=SHORT), wide) == float("inf")


def test_sparse_histories_take_another_recipe() -> None:
    assert set(closed_forms(histories())) == {"long", "short"}
    sparse = histories(titles=2000)
    assert closed_forms(sparse) == {}
    assert set(parts(choose(sparse, torch=False).recommender)) == {"following", "chain", "together"}


def test_short_histories_are_fitted_again_with_the_newest_events() -> None:
    for longest, again in ((40, False), (10, True)):
        one = choose(histories(longest=longest), torch=False).recommender
        assert isinstance(one, Staged)
        assert one.refit == again


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_can_be_asked_for(kind: str) -> None:
    found = choose(histories(members=5), kind=kind, torch=False)
    assert found.kind == kind
    assert found.reasons[0] == "asked for"
    assert found.recommender.kind == kind


def test_what_is_asked_for_must_exist() -> None:
    with pytest.raises(mt.MatineeError, match="kind == 'magic', must be one of"):
        choose(histories(), kind="magic")
    with pytest.raises(mt.MatineeError, match="seconds == 0, must be > 0"):
        choose(histories(), seconds=0)


def test_a_blend_learns_its_weights_and_is_fitted_on_everything() -> None:
    one = choose(histories(), kind="blend").recommender
    assert isinstance(one, Blend)
    assert one.refit


def test_ties_are_events_at_the_moment_of_a_neighbour() -> None:
    some = Histories.of_sequences([[1, 2, 3, 4], [1, 2]])
    tied = Histories(some.titles, some.items, some.offsets, some.members, np.array([0.0, 5.0, 5.0, 7.0, 7.0, 9.0]))
    assert share_tied(tied) == pytest.approx(2 / 6)
    assert share_tied(Histories.of_sequences([])) == 0.0
