"""The cut in time: prefixes, ranks and means by hand, in batches as one by one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import numpy as np
import polars as pl
import pytest
from tests.domains.personalization.test_backtest import rows

import matinee as mt
from matinee.domains.personalization import time_split
from matinee.domains.personalization.recommenders import Following, Histories, Popular, Recommender
from matinee.domains.personalization.time_split import Answers, TimeCut

START = datetime(2026, 1, 1, tzinfo=UTC)


def events(listed: Sequence[tuple[int, int, int]]) -> pl.DataFrame:
    """Member, title, day."""
    return pl.DataFrame(
        {
            "member": [m for m, _, _ in listed],
            "title": [t for _, t, _ in listed],
            "at": pl.Series([START + timedelta(days=d) for *_, d in listed], dtype=pl.Datetime("us", "UTC")),
        }
    )


WORLD = events(
    [(1, 10, 0), (1, 20, 1), (2, 10, 2), (2, 30, 3), (3, 10, 4), (1, 30, 6), (1, 40, 7), (4, 20, 8), (2, 20, 9)]
)


def test_each_event_after_the_cut_has_the_prefix_before_it() -> None:
    cut = TimeCut.of(WORLD, 0.5, fewest=3)
    assert cut.at == START + timedelta(days=4)
    assert cut.histories.titles.tolist() == [10, 20, 30]
    assert cut.members.tolist() == [1, 2, 4]
    found = [(cut.titles[t], p.history(r).tolist()) for s, p in cut.prefixes() for r, t in enumerate(cut.targets[s])]
    assert found == [(30, [10, 20]), (40, [10, 20, 30]), (20, [10, 30]), (20, [])]
    assert cut.plays_before().tolist() == [1, 0, 1, 1]
    assert cut.warm_members().tolist() == [True, True, True, False]
    short = [p.history(r).tolist() for _, p in cut.prefixes(1) for r in range(len(p))]
    assert short == [[20], [30], [30], []]
    few = TimeCut.of(WORLD, 0.5, fewest=3, most_targets=1)
    assert few.titles[few.targets].tolist() == [30, 20, 20]


def test_prefixes_come_in_batches_and_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = TimeCut.of(rows())
    whole = [p.history(r).tolist() for _, p in cut.prefixes() for r in range(len(p))]
    model = Following().fit(cut.histories)
    answers = Answers.of(model, cut)
    monkeypatch.setattr(time_split, "BLOCK", 7)
    parts = [p.history(r).tolist() for _, p in cut.prefixes() for r in range(len(p))]
    assert parts == whole
    again = Answers.of(model, cut)
    assert np.array_equal(again.rank, answers.rank)
    assert again.shown.tolist() == answers.shown.tolist()


class Fixed(Recommender):
    """The same scores for everybody."""

    def __init__(self, titles: list[int], scores: list[float]) -> None:
        super().__init__(titles=np.array(titles))
        self.fixed = np.array(scores, np.float32)

    def fit(self, histories: Histories) -> Self:
        return self

    def scores(self, history: Any) -> Any:
        return self.fixed.copy()


def test_ranks_leave_out_the_prefix_and_stand_in_the_middle_of_ties() -> None:
    cut = TimeCut.of(WORLD, 0.5, fewest=3)
    answers = Answers.of(Fixed([10, 20, 30], [3.0, 1.0, 2.0]), cut)
    # 30 after 10 and 20 is alone; 40 is not known; 20 after 10 and 30 is alone; 20 after nothing is last of three.
    assert answers.rank.tolist() == [1, 4, 1, 3]
    assert answers.known.tolist() == [True, False, True, True]
    tied = Answers.of(Fixed([10, 20, 30, 40, 50], [1.0, 1.0, 1.0, 1.0, 1.0]), cut)
    assert tied.rank.tolist() == [2, 1, 2, 3]  # half of the 2, 1, 2 and 4 others


def test_means_are_over_members_of_means_over_events() -> None:
    cut = TimeCut.of(WORLD, 0.5, fewest=3)
    answers = Answers.of(Fixed([10, 20, 30], [3.0, 1.0, 2.0]), cut)
    assert answers.mean(answers.hit(1)) == pytest.approx((1 + 1 + 0) / 3)
    assert answers.mean(answers.hit(1), np.ones(4, np.bool_)) == pytest.approx((0.5 + 1 + 0) / 3)
    assert answers.mean(answers.gain(), cut.warm_members() & answers.known) == pytest.approx(1.0)
    assert np.isnan(answers.mean(answers.gain(), np.zeros(4, np.bool_)))
    low, high = answers.interval(answers.hit(1))
    assert 0 <= low <= 2 / 3 <= high <= 1


def test_the_title_itself_may_be_played_again() -> None:
    world = events([(1, 10, 0), (2, 20, 1), (1, 20, 2), (1, 10, 5)])
    cut = TimeCut.of(world, 0.6, fewest=1)
    assert Answers.of(Fixed([10, 20], [1.0, 2.0]), cut).rank.tolist() == [1]  # 20 was seen, 10 is what came again


def test_popularity_covers_little() -> None:
    cut = TimeCut.of(rows())
    assert Answers.of(Popular().fit(cut.histories), cut).coverage < 0.5
    assert Answers.of(Following().fit(cut.histories), cut).coverage > 0.8


def test_nothing_to_test_on_is_refused() -> None:
    with pytest.raises(mt.MatineeError, match=r"3 members have events after 2026-01-05, must be at least 20"):
        TimeCut.of(WORLD, 0.5)
    with pytest.raises(mt.MatineeError, match="no plays or ratings yet"):
        TimeCut.of(WORLD.head(0))
