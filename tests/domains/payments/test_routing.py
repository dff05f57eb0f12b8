"""The routing decision: scores in money, guards, what a studio makes of a planted log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.domains.payments.planted import FEES, SMALL, log

import matinee as mt
from matinee.decisions import choose
from matinee.domains import payments
from matinee.domains.payments.charging import charge
from matinee.domains.payments.facts import Attempt, Invoice, Processor
from matinee.domains.payments.routing import AverageNet, ExpectedNet, backtest, history, route, train
from matinee.domains.payments.routing_model import RoutingModel
from matinee.domains.personalization import domain as personalization
from matinee.exceptions import StorageError
from matinee.testing import check_features, check_guard, check_scorer

NOW = datetime(2026, 1, 20, 15, tzinfo=UTC)
KNOWN = {"amount_minor": 30_000, "card": "Visa", "three_d": True, "number": 1}


def candidates(ids: list[str] | None = None) -> mt.Candidates:
    """Processors with their fees; the third is new."""
    names = ids or ["cheap", "dear", "new"]
    fees = {**{n: (f.success_minor, f.failure_minor) for n, f in FEES.items()}, "new": (100, 50)}
    return mt.Candidates(
        np.array(names),
        {
            "fee_success_minor": np.array([float(fees[n][0]) for n in names]),
            "fee_failure_minor": np.array([float(fees[n][1]) for n in names]),
            "active": np.array([1.0] * len(names)),
        },
    )


def request(**state: object) -> mt.Request:
    """A request for an open invoice, with these features of it."""
    features = {**dict.fromkeys(charge.names), "attempts": 0, "attempts_30d": 0, "approved": 0, "stops": 0, **state}
    return mt.Request("route", "x-1", NOW, KNOWN, features)


@pytest.fixture(scope="module")
def net() -> ExpectedNet:
    model = RoutingModel(extras=(), variants=SMALL).fit(log(3_000, seed=1), list(FEES))
    return ExpectedNet(model, margin=0.10, usual=0.4, name="route-net@1")


def test_a_score_is_money(net: ExpectedNet) -> None:
    q = net.chances(request(), candidates())
    scores = net.score(request(), candidates()).mean
    assert scores[0] == pytest.approx(q[0] * (3_000 - 100) - (1 - q[0]) * 50)
    assert scores[1] == pytest.approx(q[1] * (3_000 - 500) - (1 - q[1]) * 200)
    assert scores.argmax() == 1  # dear is likely to approve an authenticated payment in the afternoon
    parts = net.explain(request(), candidates(), 1)
    assert parts == {"if approved": pytest.approx(q[1] * 2_500), "if declined": pytest.approx((q[1] - 1) * 200)}
    assert sum(parts.values()) == pytest.approx(scores[1])


def test_a_processor_that_the_model_does_not_know_is_taken_for_a_usual_one(net: ExpectedNet) -> None:
    assert net.chances(request(), candidates())[2] == 0.4
    assert net.chances(request(), candidates(["new", "dear"]))[1] == net.chances(request(), candidates())[1]


def test_scorers_keep_their_promises(net: ExpectedNet) -> None:
    average = AverageNet({"cheap": 0.35, "dear": 0.4}, 0.10, 20_000.0, "route-average@1")
    for scorer in (net, average):
        check_scorer(scorer, request=request(), candidates=candidates())


def test_the_baseline_is_one_processor_for_everything() -> None:
    average = AverageNet({"cheap": 0.35, "dear": 0.5}, 0.10, 20_000.0)
    scores = average.score(request(), candidates()).mean
    assert scores[0] == pytest.approx(0.35 * 1_900 - 0.65 * 50)
    assert scores[2] == scores[0]  # never tried: as bad as the worst


def test_candidates_without_fees_are_named(net: ExpectedNet) -> None:
    with pytest.raises(mt.MatineeError, match="no column 'fee_success_minor'"):
        net.score(request(), mt.Candidates(np.array(["cheap"]), {}))


def test_damaged_files_are_named(net: ExpectedNet, tmp_path: Path) -> None:
    net.save(tmp_path / "m")
    (tmp_path / "m" / "net.json").write_text('{"margin"')
    with pytest.raises(StorageError, match=r"net\.json is cut short or damaged"):
        ExpectedNet.load(tmp_path / "m")
    with pytest.raises(StorageError, match=r"average\.json is missing"):
        AverageNet.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("state", "guard"),
    [
        ({"approved": 1}, "paid"),
        ({"stops": 1}, "stopped"),
        ({"code": "41"}, "refused for good"),
        ({"attempts_30d": 8}, "most attempts"),
    ],
)
def test_nothing_is_charged_that_must_not_be(state: dict[str, object], guard: str) -> None:
    choice = choose(route, mt.Uniform(), request(**state), candidates(), uniforms=np.array([0.5]))
    assert choice.action == []
    assert choice.blocked == {guard: ["cheap", "dear", "new"]}
    fine = choose(route, mt.Uniform(), request(code="51", attempts_30d=7), candidates(), uniforms=np.array([0.5]))
    assert len(fine.action) == 1


def test_a_processor_that_is_switched_off_is_not_chosen() -> None:
    off = candidates()
    off = mt.Candidates(off.ids, {**off.columns, "active": np.array([0.0, 1.0, np.nan])})
    choice = choose(route, mt.Uniform(), request(), off, uniforms=np.array([0.1]))
    assert choice.blocked == {"processor switched off": ["cheap"]}


def test_without_the_state_of_the_invoice_nothing_is_charged() -> None:
    blind = mt.Request("route", "x-1", NOW, KNOWN, {})
    choice = choose(route, mt.Uniform(), blind, candidates(), uniforms=np.array([0.5]))
    assert choice.action == []
    assert "'paid' raised KeyError" in (choice.fallback or "")


def test_guards_keep_their_promises() -> None:
    for guard in route.guards:
        check_guard(guard, request=request(), candidates=candidates())


def test_the_state_of_an_invoice_is_the_same_online_and_in_batch() -> None:
    check_features(charge, worlds=1)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> mt.Studio:
    """A studio that holds a planted log."""
    made = mt.open(tmp_path_factory.mktemp("routes") / "s", clock=lambda: NOW)
    made.use(payments.domain)
    attempts = log(2_400, seed=3)
    at = pl.col("at").min()
    made.append(
        Processor,
        pl.DataFrame(
            {
                "processor": list(FEES),
                "fee_success_minor": [f.success_minor for f in FEES.values()],
                "fee_failure_minor": [f.failure_minor for f in FEES.values()],
                "currency": "EUR",
            }
        ).with_columns(at=attempts.select(at).item(), known=attempts.select(at).item()),
    )
    fresh = attempts.with_columns(number=pl.lit(1), currency=pl.lit("EUR"), known=pl.col("at"))
    made.append(
        Invoice, fresh.select("invoice", "amount_minor", "currency", "country", "card", "three_d", "at", "known")
    )
    made.append(
        Attempt,
        fresh.select(
            "invoice", "number", "processor", "amount_minor", "currency", "approved", "fee_minor", "at", "known"
        ),
    )
    return made


def test_history_is_what_was_appended(studio: mt.Studio) -> None:
    attempts, fees = history(studio.facts)
    assert fees == FEES
    assert len(attempts) == 2_400
    assert attempts["at"].is_sorted()
    assert attempts["card"].null_count() == 0


def test_the_recipe_gives_policies_that_decide(studio: mt.Studio) -> None:
    studio.use(personalization)  # asks members for consent, and invoices name members
    names = train(studio, learner=RoutingModel(extras=(), variants=SMALL))
    assert names == ["route@1", "route@2", "route@3"]
    notes = [studio.policies("route")[n]["note"] for n in names]
    assert all(note.endswith("to be judged on what came later") for note in notes[:2])
    assert notes[2].startswith("route@2 learned again on all days")
    learned = {n: studio.graph.get(f"model://{n}").data for n in ("route-average@1", "route-net@1", "route-net@2")}
    assert learned["route-average@1"]["learned_until"] == learned["route-net@1"]["learned_until"]
    assert learned["route-net@1"]["rows"] == pytest.approx(2 / 3 * learned["route-net@2"]["rows"], rel=0.06)
    newest = studio.facts.scan(Attempt).collect()["at"].max()
    assert learned["route-net@2"]["learned_until"] == newest.isoformat()  # type: ignore[union-attr]  # a time
    policy = studio.policy("route@2")
    scores = policy.scorers()[0].score(request(), candidates(["cheap", "dear"])).mean
    assert scores[1] > scores[0] > 0


def test_a_backtest_puts_the_learned_route_first(studio: mt.Studio) -> None:
    found = backtest(studio, learner=RoutingModel(extras=(), variants=SMALL))
    rows = {r["policy"]: r for r in found.rows()}
    assert list(rows) == ["expected net value", "always cheap", "always dear", "as logged"]
    assert rows["expected net value"]["net"] > max(rows["always cheap"]["net"], rows["always dear"]["net"])
    assert any("estimated" in note for note in found.notes())


def test_too_little_history_is_said_so(tmp_path: Path) -> None:
    empty = mt.open(tmp_path / "s", clock=lambda: NOW + timedelta(days=1))
    empty.use(payments.domain)
    with pytest.raises(mt.MatineeError, match="no attempts yet"):
        train(empty)
