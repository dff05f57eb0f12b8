"""Rewards of slots, worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

import matinee as mt
from matinee.exceptions import DeclarationError
from matinee.rewards import Reward, slot_rewards

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
US = timedelta(microseconds=1)


class Played(mt.Fact, key="member"):
    member: int
    title: int
    seconds: float


class Paid(mt.Fact, key="member"):
    member: int
    amount_minor: int


CHOICES = pl.DataFrame({
    "choice": ["a", "a", "b"], "unit": ["1", "1", "2"], "at": [NOW, NOW, NOW + HOUR], "slot": [0, 1, 0],
    "action": ["10", "20", "10"],
}).with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))  # fmt: skip
COLUMNS = {"at": pl.Datetime("us", "UTC"), "choice": pl.String, "member": pl.Int64, "title": pl.Int64, "seconds": pl.Float64}
PAID = {"at": pl.Datetime("us", "UTC"), "choice": pl.String, "member": pl.Int64, "amount_minor": pl.Int64}


def rewards(reward: Reward, *rows: tuple[Any, ...], among: str | None = "title", paid: bool = False) -> list[float]:
    frame = pl.DataFrame(list(rows), schema=PAID if paid else COLUMNS, orient="row").lazy()
    found = slot_rewards(reward, CHOICES, lambda _fact: frame, unit="member", among=among, columns=lambda _n: {})
    assert found.drop("reward").equals(CHOICES)
    return found["reward"].to_list()


def test_an_outcome_rewards_the_slot_whose_action_it_names() -> None:
    assert rewards(mt.did(Played, within="2h"), (NOW + HOUR, "a", 1, 20, 9.0)) == [0.0, 1.0, 0.0]
    assert rewards(mt.did(Played, within="2h"), (NOW + HOUR, "a", 1, 99, 9.0)) == [0.0, 0.0, 0.0]


def test_did_counts_once_count_counts_all_and_sum_adds() -> None:
    rows = [(NOW + HOUR, "a", 1, 10, 2.0), (NOW + HOUR, "a", 1, 10, 5.0), (NOW + 2 * HOUR, "b", 2, 10, 7.0)]
    assert rewards(mt.did(Played, within="9h"), *rows) == [1.0, 0.0, 1.0]
    assert rewards(mt.count(Played, within="9h"), *rows) == [2.0, 0.0, 1.0]
    assert rewards(mt.sum(Played.seconds, within="9h"), *rows) == [7.0, 0.0, 7.0]
    assert rewards(mt.sum(Played.seconds, within="9h", where=Played.seconds > 2), *rows) == [5.0, 0.0, 7.0]


@pytest.mark.parametrize(("after", "counts"), [(-US, 0.0), (0 * US, 0.0), (US, 1.0), (2 * HOUR, 1.0), (2 * HOUR + US, 0.0)])
def test_the_window_begins_after_the_choice_and_its_end_is_within(after: timedelta, counts: float) -> None:
    assert rewards(mt.did(Played, within="2h"), (NOW + after, "a", 1, 10, 1.0))[0] == counts
    assert rewards(mt.did(Played, within="2h"), (NOW + after, None, 1, 10, 1.0))[0] == counts


def test_a_loose_fact_is_tied_by_its_unit_and_a_tied_one_only_by_its_choice() -> None:
    loose, tied = (NOW + HOUR + US, None, 2, 10, 1.0), (NOW + HOUR + US, "a", 2, 10, 1.0)
    assert rewards(mt.count(Played, within="9h"), loose) == [0.0, 0.0, 1.0]
    assert rewards(mt.count(Played, within="9h"), tied) == [1.0, 0.0, 0.0]
    assert rewards(mt.count(Played, within="9h"), (NOW + HOUR, "unknown", 1, 10, 1.0)) == [0.0, 0.0, 0.0]


def test_a_fact_without_the_action_rewards_the_whole_choice_on_its_first_slot() -> None:
    paid = [(NOW + HOUR, "a", 1, 500), (NOW + 2 * HOUR, None, 2, 70)]
    assert rewards(mt.sum(Paid.amount_minor, within="9h"), *paid, paid=True) == [500.0, 0.0, 70.0]


def test_terms_add_subtract_and_scale_and_costs_are_of_the_action() -> None:
    reward = 2 * mt.did(Played, within="2h") / 4 - mt.cost({10: 0.1, 20: 0.2})
    assert rewards(reward, (NOW + HOUR, "a", 1, 20, 9.0)) == pytest.approx([-0.1, 0.3, -0.1])
    assert repr(reward).endswith("− cost of the action")
    assert "within 10 min" in repr(mt.did(Played, within="10m"))
    columns: list[str] = []
    found = slot_rewards(
        mt.cost("fee"), CHOICES, lambda _f: pl.LazyFrame(), unit="member", among="title",
        columns=lambda name: columns.append(name) or {10: 3.0, "20": 4.0},
    )  # fmt: skip
    assert (columns, found["reward"].to_list()) == (["fee"], [3.0, 4.0, 3.0])


def test_the_horizon_is_the_longest_window_of_a_fact() -> None:
    assert (mt.did(Played, within="2h") + mt.sum(Paid.amount_minor, within="3d") - mt.cost("x")).horizon == timedelta(days=3)
    assert mt.cost("x").horizon == timedelta(0)
    assert (mt.did(Played, within="2h") + mt.sum(Paid.amount_minor, within="3d")).facts == {Played, Paid}


def test_a_function_of_one_s_own_gives_one_reward_a_row() -> None:
    assert rewards(mt.own(lambda frame: frame["slot"] * 2.0)) == [0.0, 2.0, 0.0]
    with pytest.raises(DeclarationError, match="gave 1 rewards, must give 3"):
        rewards(mt.own(lambda _frame: [1.0]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mt.sum(Played.seconds, "7d", within="1d"), "has a window and within, must have one"),
        (lambda: mt.count(Played, "7d", within="1d"), "has a window and within, must have one"),
        (lambda: mt.did(Played, within="1d") + 1, "must add another reward term"),
        (lambda: mt.did(Played, within="1d") - 1, "must subtract another reward term"),
        (lambda: mt.did(Played, within="soon"), "must be a number and a unit"),
        (lambda: rewards(mt.cost({10: 1.0})), "no value for action '20', must have one each"),
    ],
)
def test_bad_rewards_say_what_would_be_right(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(mt.MatineeError, match=words):
        make()
