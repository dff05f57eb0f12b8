from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from matinee.worlds import StreamingService
from matinee.worlds.history import draw_slates

Small = Callable[..., StreamingService]


def pages(world: StreamingService, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Random pages of allowed titles: member, slate, day, device."""
    contexts = world.contexts("home", n, seed=seed)
    slates = draw_slates(np.ones(world.titles.count), contexts.allowed, 10, np.random.default_rng(seed))
    hidden = contexts.hidden
    return hidden["member"], slates, hidden["day"], hidden["device"]


def test_expectation_of_two_slots_by_hand(world: StreamingService) -> None:
    member, slates, day, device = pages(world, 5)
    slates = slates[:, :2]
    p = world.viewing.chances(member, slates, day, device)
    s = world.settings
    second = (p[:, 0] * (1 - s.stop_after_play) + (1 - p[:, 0]) * s.patience) * p[:, 1]
    found = world.viewing.expected(member, slates, day, device)
    assert found.plays == pytest.approx(np.column_stack([p[:, 0], second]))
    k = world.viewing.stay[member, slates[:, 0]]
    runtime = world.titles.runtime[slates[:, 0]]
    assert found.qualified[:, 0] == pytest.approx(p[:, 0] * (1 - (1200 / runtime) ** k))
    assert found.hours[:, 0] == pytest.approx(p[:, 0] * k / (k + 1) * runtime / 3600)


def test_expectation_agrees_with_long_simulation(world: StreamingService) -> None:
    member, slates, day, device = pages(world, 3_000)
    expected = world.viewing.expected(member, slates, day, device)
    totals = []
    for seed in range(8):
        played = world.viewing.respond(member, slates, day, device, np.random.default_rng(seed), remember=False)
        long = played.seconds > world.settings.qualified_seconds
        totals.append([len(played.row), long.sum(), played.seconds.sum() / 3600])
    mean, error = np.mean(totals, axis=0), np.std(totals, axis=0, ddof=1) / np.sqrt(len(totals))
    truth = np.array([expected.plays.sum(), expected.qualified.sum(), expected.hours.sum()])
    assert np.all(np.abs(mean - truth) < 4 * error + 1e-9)
    assert np.all(error / truth < 0.02)  # the test must be able to see a few percent


def test_one_page_and_many_draw_the_same_numbers(small: Small) -> None:
    one, many = small(), small()
    member, slates, day, device = pages(one, 300, seed=3)
    rng, other = np.random.default_rng(5), np.random.default_rng(5)
    first, at = np.unique(member, return_index=True)  # a member's second page would meet the first's memory
    got = []
    for i in at.tolist():
        for play in one.viewing.respond_one(
            int(member[i]), slates[i].tolist(), float(day[i]), int(device[i]), rng, remember=True
        ):
            got.append((int(member[i]), *play))
    batch = many.viewing.respond(first, slates[at], day[at], device[at], other)
    wanted = list(
        zip(first[batch.row].tolist(), batch.slot.tolist(), batch.title.tolist(), batch.seconds.tolist(),
            batch.share.tolist(), batch.day.tolist(), batch.known_day.tolist())
    )  # fmt: skip
    assert len(wanted) > 20
    assert [w[:3] for w in wanted] == [g[:3] for g in got]
    assert np.allclose([w[3:] for w in wanted], [g[3:] for g in got])
    assert np.allclose(one.viewing.seen, many.viewing.seen)
    assert np.allclose(one.viewing.watched, many.viewing.watched, atol=1e-4)


def test_impressions_tire_and_plays_and_time_refresh(small: Small) -> None:
    world = small()
    v, day = world.viewing, np.array([30.2])
    member, device = np.array([4]), np.array([0])
    title = np.flatnonzero(world.titles.open[30] & v.suitable[4])[0]
    slate = np.array([[title]])
    fresh = v.utility(member, slate, day, device).item()
    for _ in range(3):
        v.respond(member, slate, day, device, np.random.default_rng(1))
    seen = v.seen[4, title] * np.exp(-v._growth * 30.2)
    tired = v.utility(member, slate, day, device).item()
    assert fresh - tired == pytest.approx(0.5 * (np.log1p(seen) - np.log1p(max(seen - 3, 0))), abs=1e-6)
    later = v.seen[4, title] * np.exp(-v._growth * 37.2)
    assert later == pytest.approx(seen / 2)
    v.remember_plays(member, np.array([title]), np.array([0.9]))
    assert v.seen[4, title] == 0
    watched = v.utility(member, slate, day, device).item()
    assert fresh - watched > 0.8 * world.settings.watched_aversion * 0.9 - 1


def test_first_slots_are_played_most(world: StreamingService) -> None:
    member, slates, day, device = pages(world, 2_000)
    by_slot = world.viewing.expected(member, slates, day, device).plays.mean(axis=0)
    assert by_slot[0] > 1.3 * by_slot[5] > 0


def test_nothing_plays_outside_its_licence_or_above_the_limit(world: StreamingService) -> None:
    everything = np.tile(np.arange(world.titles.count), (world.members.count, 1))
    member = np.arange(world.members.count)
    p = world.viewing.chances(member, everything, np.full(len(member), 25.5), np.zeros(len(member), np.int64))
    allowed = world.titles.open[25] & world.viewing.suitable
    assert (p[~allowed] == 0).all()
    assert (p[allowed] > 0).all()
    assert 0 < allowed.mean() < 1


def test_draw_is_in_proportion_to_the_weights() -> None:
    weights, rng = np.array([1.0, 2.0, 5.0, 9.0]), np.random.default_rng(0)
    allowed = np.ones((40_000, 4), bool)
    allowed[:, 3] = False
    slates = draw_slates(weights, allowed, 2, rng)
    assert (slates != 3).all()
    assert (slates[:, 0] != slates[:, 1]).all()
    assert np.bincount(slates[:, 0], minlength=3)[:3] / 40_000 == pytest.approx(np.array([1, 2, 5]) / 8, abs=0.01)
    after_two = slates[slates[:, 0] == 2, 1]
    assert np.mean(after_two == 1) == pytest.approx(2 / 3, abs=0.01)
