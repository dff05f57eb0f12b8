"""The back-test in time: known ranks, no look ahead, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import numpy as np
import polars as pl
import pytest

import matinee as mt
from matinee.domains.personalization.backtest import MOST_TARGETS, split
from matinee.domains.personalization.recommenders import Following, Histories, Popular, Recommender, Together

START = datetime(2026, 1, 1, tzinfo=UTC)


def rows(members: int = 40, length: int = 20, titles: int = 90) -> pl.DataFrame:
    """Everybody walks up the catalogue, each from another place; all at the same pace."""
    events = [(m, (m * 7 + k) % titles, k) for m in range(members) for k in range(length)]
    return pl.DataFrame(
        {
            "member": [m for m, _, _ in events],
            "title": [t for _, t, _ in events],
            "at": pl.Series(
                [START + timedelta(days=k, seconds=m) for m, _, k in events], dtype=pl.Datetime("us", "UTC")
            ),
        }
    )


@dataclass(repr=False)
class Oracle(Recommender):
    """Says what comes next, or nothing at all, or the worst."""

    step: int = 1
    asked: int = 0

    def fit(self, histories: Histories) -> Self:
        self.titles, self.seen = histories.titles, histories
        return self

    def scores(self, history: Sequence[int]) -> Any:
        self.asked += 1
        found = np.zeros(len(self.titles), np.float32)
        if self.step and len(history):
            found[np.searchsorted(self.titles, (history[-1] + self.step) % 90)] = 1.0
        return found


def test_who_knows_what_comes_next_is_always_right_and_who_says_nothing_never() -> None:
    found = split(rows(), {"oracle": Oracle(), "mute": Oracle(step=0), "wrong": Oracle(step=2)})
    by = {r["system"]: r for r in found.rows()}
    assert by["oracle"]["hr10"] == by["oracle"]["ndcg10"] == 1.0
    assert by["oracle"]["interval"] == (1.0, 1.0)
    assert by["oracle"]["debiased ndcg10"] == 1.0
    assert by["mute"]["hr10"] == 0.0  # all alike: the target stands in the middle
    assert by["wrong"]["ndcg10"] == 0.0


def test_what_follows_what_is_learned_and_popularity_is_no_help() -> None:
    systems: dict[str, Recommender] = {"popular": Popular(), "following": Following(), "together": Together()}
    by = {r["system"]: r for r in split(rows(), systems).rows()}
    assert by["following"]["hr10"] > 0.9
    assert by["following"]["ndcg10"] > by["popular"]["ndcg10"] + 0.4
    assert by["following"]["coverage10"] > by["popular"]["coverage10"]
    assert by["together"]["ndcg10"] > by["popular"]["ndcg10"]
    for row in by.values():
        low, high = row["interval"]
        assert low <= row["ndcg10"] <= high


def test_nothing_after_the_cut_is_learned_from() -> None:
    oracle = Oracle()
    every = rows()
    found = split(every, {"oracle": oracle})
    assert START + timedelta(days=float(oracle.seen.day.max() - oracle.seen.day.min())) <= found.cut
    assert len(oracle.seen.items) == len(every.filter(pl.col("at") <= found.cut))
    assert found.targets == len(every.filter(pl.col("at") > found.cut))


def test_events_of_unknown_titles_are_counted_not_guessed() -> None:
    every = rows()
    new = every.filter(pl.col("at") == pl.col("at").max()).with_columns(title=pl.lit(5_000, pl.Int64))
    found = split(pl.concat([every.filter(pl.col("at") < every["at"].max()), new]), {"oracle": Oracle()})
    assert found.unknown == 1
    assert any("1 events left out" in note for note in found.notes())


def test_a_marathon_is_cut_short() -> None:
    long = rows(members=1, length=80).with_columns(member=pl.lit(999, pl.Int64), at=pl.col("at") + pl.duration(days=40))
    oracle = Oracle()
    found = split(pl.concat([rows(), long]), {"oracle": oracle}, cut=0.8)
    assert oracle.asked <= found.targets
    marathon = min(MOST_TARGETS, 80)
    assert found.targets - marathon == len(rows().filter(pl.col("at") > found.cut))


def test_too_few_members_are_refused() -> None:
    with pytest.raises(mt.MatineeError, match=r"19 members have events after .*, must be at least 20"):
        split(rows(members=19), {"oracle": Oracle()})
    with pytest.raises(mt.MatineeError, match="no plays or ratings yet"):
        split(rows(members=0), {"oracle": Oracle()})
