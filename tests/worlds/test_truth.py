from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from matinee.exceptions import MatineeError
from matinee.policies import Candidates
from matinee.worlds import StreamingService
from matinee.worlds.truth import charge_worth

N = 2_000

Small = Callable[..., StreamingService]


def popularity(world: StreamingService) -> np.ndarray:
    plays = world.frames()["played"].filter(pl.col("at") > pl.lit(world.now) - pl.duration(days=7))
    return 1.0 + np.bincount(plays["title"].to_numpy() - 1, minlength=world.titles.count)


def test_a_taste_aware_page_is_truly_better_than_popularity(world: StreamingService) -> None:
    contexts = world.contexts("home", N)
    popular = world.true_value("home", popularity(world), n=N)
    taste = world.true_value("home", np.exp(2 * world.viewing.match[contexts.hidden["member"]]), n=N)
    uniform = world.true_value("home", np.ones(world.titles.count), n=N)
    gain = taste.minus(popular)
    assert gain.value > 10 * gain.error
    assert popular.minus(uniform).value > 4 * popular.minus(uniform).error
    best = world.best_value("home", n=N)
    assert best.minus(taste).value > 0
    assert gain.error < 1.2 * np.hypot(taste.error, popular.error)


def test_true_value_of_a_page_agrees_with_what_members_do(world: StreamingService) -> None:
    contexts = world.contexts("home", N)
    truth = world.true_value("home", popularity(world), n=N, reward="plays")
    rng, counts = np.random.default_rng(1), []
    from matinee.worlds.history import draw_slates

    hidden = contexts.hidden
    for _ in range(12):
        slates = draw_slates(popularity(world), contexts.allowed, world.settings.slots, rng)
        plays = world.viewing.respond(hidden["member"], slates, hidden["day"], hidden["device"], rng, remember=False)
        counts.append(len(plays.row) / N)
    error = np.std(counts, ddof=1) / np.sqrt(len(counts))
    assert abs(np.mean(counts) - truth.value) < 4 * np.hypot(error, truth.error)


def test_truth_leaves_the_world_as_it_is(small: Small) -> None:
    world = small()
    seen, count = world.viewing.seen.copy(), world.billing.count
    for decision, width in (("home", world.titles.count), ("route", 4), ("retry", 21), ("recovery", 21)):
        world.true_value(decision, np.ones(width), n=200)
    assert (world.viewing.seen == seen).all()
    assert world.billing.count == count


def test_best_routing_differs_by_country(world: StreamingService) -> None:
    contexts = world.contexts("route", N)
    worth, country = charge_worth(contexts, "net"), contexts.frame["country"].to_numpy()
    best = {c: int(worth[country == c].mean(axis=0).argmax()) for c in np.unique(country)}
    assert len(set(best.values())) >= 2
    single = [world.true_value("route", np.eye(4)[i], n=N) for i in range(4)]
    top = max(single, key=lambda v: v.value)
    by_country = np.eye(4)[[best[c] for c in country]]
    gain = world.true_value("route", by_country, n=N).minus(top)
    assert gain.value > 4 * gain.error
    assert world.best_value("route", n=N).minus(top).value > gain.value


@pytest.mark.parametrize("decision", ["route", "retry"])
def test_net_is_the_amount_less_the_fee_of_the_answer(world: StreamingService, decision: str) -> None:
    contexts = world.contexts(decision, 300)
    p, net = charge_worth(contexts, "approved"), charge_worth(contexts, "net")
    amount = contexts.frame["amount_minor"].to_numpy()
    for action, name in enumerate(contexts.ids.tolist()):
        route = name.split(" ")[-1]
        if route == "stop":
            assert (net[:, action] == 0).all()
            continue
        success, failure = {"alder": (12, 3), "birch": (18, 5), "cedar": (26, 8), "dogwood": (40, 12)}[route]
        assert net[:, action] == pytest.approx(p[:, action] * (amount - success) - (1 - p[:, action]) * failure)


def test_route_is_exact_over_actions(world: StreamingService) -> None:
    mixed = world.true_value("route", np.array([1.0, 1.0, 2.0, 0.0]), n=N)
    parts = [world.true_value("route", np.eye(4)[i], n=N).value for i in range(3)]
    assert mixed.value == pytest.approx(0.25 * parts[0] + 0.25 * parts[1] + 0.5 * parts[2])
    assert mixed.method == "exact over the actions"


def test_true_value_of_a_route_agrees_with_charges(small: Small) -> None:
    world = small()
    truth = world.true_value("route", np.eye(4)[2], n=8_000)
    rng = np.random.default_rng(9)
    net, n = [], 8_000
    frame = world.extra_invoices(n, world.now, world.end - timedelta(days=1), rng)
    made = world.respond_charges(frame["invoice"].to_list(), ["cedar"] * n, frame["at"].to_list(), rng)
    net = (made["amount_minor"] * made["approved"].cast(pl.Int64) - made["fee_minor"]).to_numpy()
    error = net.std() / np.sqrt(n)
    assert abs(net.mean() - truth.value) < 4 * np.hypot(error, truth.error)


def test_true_value_of_a_retry_agrees_with_charges(small: Small) -> None:
    world = small()
    contexts = world.contexts("retry", 6_000)
    action = int(np.flatnonzero(contexts.ids == "3d birch")[0])
    truth = world.true_value("retry", np.eye(21)[action], n=6_000)
    billing, invoice = contexts.hidden["billing"], contexts.hidden["invoice"]
    made = billing.charge(
        invoice, np.full(len(invoice), 1), billing.last_attempt[invoice] + 3.0, np.random.default_rng(2)
    )
    net = made.approved * billing.amount_minor[invoice] - made.fee_minor
    gap = net - truth.each  # the same contexts: only the coin is left
    assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(len(gap))


def test_stopping_is_worth_nothing_and_waiting_something(world: StreamingService) -> None:
    ids = world.contexts("retry", 500).ids
    assert world.true_value("retry", (ids == "stop").astype(float), n=500).value == 0
    soon = world.true_value("retry", (ids == "1h birch").astype(float), n=500)
    late = world.true_value("retry", (ids == "3d birch").astype(float), n=500)
    assert late.minus(soon).value > 4 * late.minus(soon).error


def test_recovery_follows_an_invoice_to_its_end(world: StreamingService) -> None:
    ids = world.contexts("recovery", N).ids
    every_3_days = (ids == "3d birch").astype(float)
    share = world.true_value("recovery", every_3_days, n=N, reward="recovered")
    tries = world.true_value("recovery", every_3_days, n=N, reward="attempts")
    wait = world.true_value("recovery", every_3_days, n=N, reward="days")
    net = world.true_value("recovery", every_3_days, n=N)
    stop = world.true_value("recovery", (ids == "stop").astype(float), n=N)
    assert 0.6 < share.value < 0.9  # eight to nine tries in 28 days: .72 to .82 in section 9
    assert 1 < tries.value <= 9
    assert 3 <= wait.value <= 28
    assert set(np.unique(share.each)) == {0.0, 1.0}
    assert stop.value == pytest.approx(-20.0 * 28)
    assert net.minus(stop).value > 0


def test_a_function_and_an_array_that_mean_the_same_agree(world: StreamingService) -> None:
    def always(context: dict[str, Any], candidates: Candidates, rng: np.random.Generator) -> str:
        assert context["country"] and len(candidates) == 4
        return "cedar"

    def even(context: dict[str, Any], candidates: Candidates, rng: np.random.Generator) -> np.ndarray:
        return np.full(len(candidates), 1 / len(candidates))

    assert world.true_value("route", always, n=300) == world.true_value("route", np.eye(4)[2], n=300)
    assert world.true_value("retry", even, n=300).value == pytest.approx(
        world.true_value("retry", np.ones(21), n=300).value
    )


def test_a_function_fills_a_page(world: StreamingService) -> None:
    def newest(context: dict[str, Any], candidates: Candidates, rng: np.random.Generator) -> list[int]:
        order = np.argsort(candidates.columns["age_days"], kind="stable")
        assert (candidates.columns["maturity"] <= context["maturity_limit"]).all()
        return [int(t) for t in candidates.ids[order[:10]]]

    assert 0 < world.true_value("home", newest, n=200).value < 1
    per_slot = np.ones((10, world.titles.count))
    per_slot[0] = 0.0
    per_slot[0, int(np.flatnonzero(world.titles.open[20] & (world.titles.maturity == 0))[0])] = 1.0
    assert 0 < world.true_value("home", per_slot, n=200).value < 1


def test_same_contexts_for_every_policy(world: StreamingService) -> None:
    assert world.contexts("route", 50).frame.equals(world.contexts("route", 50).frame)
    assert not world.contexts("route", 50, seed=1).frame.equals(world.contexts("route", 50).frame)
    assert len(world.contexts("retry", 700)) == 700


def test_a_few_home_pages_are_of_all_hours_of_the_day(world: StreamingService) -> None:
    def late(n: int) -> float:
        return float((world.contexts("home", n).frame["at"].dt.hour() >= 18).mean())  # type: ignore[operator,arg-type]

    assert late(20_000) > 0.3  # of many days
    assert abs(late(100) - late(20_000)) < 0.15  # of one day and less than all who came


def test_what_is_wrong_is_said(world: StreamingService) -> None:
    with pytest.raises(MatineeError, match="did you mean 'route'"):
        world.true_value("rute", np.ones(4))
    with pytest.raises(MatineeError, match="must end in 4"):
        world.true_value("route", np.ones(5), n=10)
    with pytest.raises(MatineeError, match="must be >= 0"):
        world.true_value("route", -np.ones(4), n=10)
    with pytest.raises(MatineeError, match="no weight"):
        world.true_value("route", np.zeros(4), n=10)
    with pytest.raises(MatineeError, match="must choose one of the candidates"):
        world.true_value("route", lambda *_: "paypal", n=10)
    with pytest.raises(MatineeError, match="to be subtracted"):
        world.true_value("route", np.ones(4), n=10).minus(world.true_value("route", np.ones(4), n=20))
    assert "interval" in str(world.true_value("route", np.ones(4), n=10))
