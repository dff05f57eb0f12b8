from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from matinee.exceptions import MatineeError
from matinee.worlds import Settings, StreamingService

Small = Callable[..., StreamingService]


def test_settings_say_what_is_wrong() -> None:
    with pytest.raises(MatineeError, match=r"patience == 1.4, must be <= 1"):
        Settings(patience=1.4)
    with pytest.raises(MatineeError, match="titles == 5, must be >= 20"):
        Settings(titles=5)
    assert Settings(start=datetime(2026, 3, 2, 17, 30, tzinfo=UTC)).start == datetime(2026, 3, 2, tzinfo=UTC)


def test_the_moments_are_those_assumed(world: StreamingService) -> None:
    moments = world.describe()
    assert 0.06 <= moments["first charges declined"] <= 0.18  # published range
    assert 0.2 < moments["pages with a play"] < 0.6
    assert 0.01 < moments["plays known over an hour late"] < 0.1
    visits = moments["pages"] / world.settings.days / world.members.count
    assert visits == pytest.approx(world.settings.visits_per_day, rel=0.25)


def test_taste_is_worth_learning_because_plays_follow_it(world: StreamingService) -> None:
    played = world.history.plays
    member = world.history.member[played.row]
    assert world.viewing.match[member, played.title].mean() > 0.5
    assert abs(world.viewing.match.mean()) < 1e-9


def test_answers_of_one_page(small: Small) -> None:
    world = small()
    rng, plays = np.random.default_rng(0), []
    at = world.now + timedelta(hours=20)
    slate = [int(t) for t in world.titles.ids[world.titles.open[20] & world.viewing.suitable[6]][:10]]
    for _ in range(60):
        plays += world.respond_home(7, slate, at, rng, device="phone")
    assert plays
    assert all(p.title == slate[p.slot] for p in plays)
    assert all(at <= p.at <= p.known for p in plays)
    assert all(0 < p.seconds <= world.titles.runtime.max() for p in plays)
    assert world.respond_home(7, [], at, rng) == []


def test_what_is_asked_must_be_of_this_world(small: Small) -> None:
    world = small()
    rng = np.random.default_rng(0)
    with pytest.raises(MatineeError, match="member == 401, must be 1 to 400"):
        world.respond_home(401, [1], world.now, rng)
    with pytest.raises(MatineeError, match="must hold titles 1 to 120"):
        world.respond_home(1, [121], world.now, rng)
    with pytest.raises(MatineeError, match="did you mean 'phone'"):
        world.respond_home(1, [1], world.now, rng, device="phon")
    with pytest.raises(MatineeError, match="must lie in the world's calendar"):
        world.respond_home(1, [1], world.end + timedelta(days=1), rng)
    with pytest.raises(MatineeError, match="no time zone"):
        world.respond_home(1, [1], datetime(2026, 3, 5), rng)


def test_live_traffic(small: Small) -> None:
    world = small()
    rng = np.random.default_rng(4)
    visits = world.visits(world.now + timedelta(days=1), rng)
    assert visits["at"].is_sorted()
    assert visits["at"].min() >= world.now + timedelta(days=1)
    assert visits["at"].max() < world.now + timedelta(days=2)
    slates = np.tile(world.titles.ids[world.titles.open[21]][:8], (visits.height, 1))
    plays = world.respond_homes(
        visits["member"].to_numpy(), slates, visits["at"].to_list(), rng, devices=visits["device"].to_list()
    )
    assert 0 < plays.height < visits.height
    assert (plays["known"] >= plays["at"]).all()
    due = world.renewals(world.now, world.now + timedelta(days=7), rng)
    weekly = (world.members.plan == 0).sum()
    assert weekly <= due.height <= world.members.count
    history = set(world.frames()["invoice"]["invoice"])
    assert not history & set(due["invoice"])
    assert set(world.open_invoices()) <= history


def test_retry_waits_stops_and_gives_up(small: Small) -> None:
    world = small()
    rng = np.random.default_rng(0)
    invoice = world.open_invoices()[0]
    assert world.respond_retry(invoice, "stop", rng) is None
    before = world.billing.last_attempt[int(invoice[4:]) - 1]
    answer = world.respond_retry(invoice, ("6h", "birch"), rng)
    assert answer is not None
    assert world.day_of(answer.at) == pytest.approx(before + 0.25)
    other = world.open_invoices()[1]
    assert world.respond_retry(other, "40d birch", rng) is None


@pytest.mark.slow
def test_the_demo_size_is_built_in_two_seconds() -> None:
    begin = time.process_time()
    world = StreamingService(7)
    made = world.frames()
    assert time.process_time() - begin < 3.0  # under 1.3 on an idle core; the suite's machines are busy
    assert made["shown"].height > 400_000
