"""Retries: what is never tried again, when nobody is charged, and that stopping is always possible."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import matinee as mt
from matinee.decisions import choose
from matinee.domains import payments
from matinee.domains.payments.charging import NEVER_AGAIN, charge
from matinee.domains.payments.facts import Attempt, Invoice
from matinee.domains.payments.retry import ROUTES, WAITS, retry, retry_decision
from matinee.testing import check_guard
from matinee.times import duration

OPTIONS = retry.options.candidates() if retry.options else mt.Candidates(np.array([]), {})
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def request(at: datetime = NOON, context: dict[str, object] | None = None, **state: object) -> mt.Request:
    """A declined invoice with these features."""
    features = {**dict.fromkeys(charge.names), "attempts": 1, "attempts_30d": 1, "approved": 0, "stops": 0, **state}
    return mt.Request("retry", "x-1", at, context or {}, features)


def allowed(asked: mt.Request) -> list[str]:
    """The options that are left."""
    choice = choose(retry, mt.Uniform(), asked, OPTIONS, uniforms=np.array([0.5]))
    return [str(c) for c in choice.candidates]


def test_the_options_are_every_wait_with_every_route_and_stop() -> None:
    assert OPTIONS.ids.tolist() == [f"{w} {r}" for w in WAITS for r in ROUTES] + ["stop"]
    assert retry.fallback == ["stop"]


@pytest.mark.parametrize(
    "state", [{"approved": 1}, {"stops": 1}, {"attempts_30d": 8}, *({"code": c} for c in sorted(NEVER_AGAIN))]
)
def test_where_a_rule_forbids_only_stop_is_left(state: dict[str, object]) -> None:
    assert allowed(request(**state)) == ["stop"]


def test_an_ordinary_decline_may_be_tried_again() -> None:
    assert allowed(request(code="51", attempts_30d=7)) == OPTIONS.ids.tolist()


def test_nobody_is_charged_at_night_on_their_own_clock() -> None:
    evening = datetime(2026, 3, 2, 20, 30, tzinfo=UTC)
    left = allowed(request(evening, {"zone": "Europe/Berlin"}))  # 21:30 there: an hour later is 22:30
    assert "1h same" not in left
    assert "6h same" not in left  # 03:30
    assert "1d same" in left  # 21:30 the next day
    assert "1h same" in allowed(request(evening, {"zone": "America/New_York"}))


def test_an_invoice_that_nobody_looked_at_is_not_charged() -> None:
    choice = choose(retry, mt.Uniform(), mt.Request("retry", "x", NOON, {}, {}), OPTIONS, uniforms=np.array([0.9]))
    assert choice.action == ["stop"]
    assert choice.fallback is not None
    assert choice.propensities == [1.0]


def test_guards_keep_their_promises() -> None:
    for guard in retry.guards:
        check_guard(guard, request=request(), candidates=OPTIONS)


states = st.fixed_dictionaries(
    {
        "approved": st.integers(0, 2),
        "stops": st.integers(0, 2),
        "attempts_30d": st.integers(0, 12),
        "code": st.sampled_from([None, "05", "51", "41", "R1"]),
    }
)


@settings(max_examples=60, deadline=None)
@given(states, st.integers(0, 23), st.floats(0, 0.999))
def test_what_is_forbidden_is_never_drawn(state: dict[str, object], hour: int, uniform: float) -> None:
    asked = request(NOON.replace(hour=hour), **state)
    choice = choose(retry, mt.Uniform(), asked, OPTIONS, uniforms=np.array([uniform]))
    forbidden = (
        state["approved"] or state["stops"] or int(str(state["attempts_30d"])) >= 8 or state["code"] in NEVER_AGAIN
    )
    if forbidden:
        assert choice.action == ["stop"]
    if choice.action != ["stop"]:
        wait = {"1h": 1, "6h": 6, "1d": 24, "3d": 72, "7d": 168}[str(choice.action[0]).split()[0]]
        assert 8 <= (hour + wait) % 24 < 22


def test_processors_may_be_named() -> None:
    own = retry_decision(["alder", "birch"], ["1d"], attempts=3)
    assert own.options is not None
    assert own.options.candidates().ids.tolist() == ["1d alder", "1d birch", "stop"]
    choice = choose(own, mt.Uniform(), request(attempts_30d=3), own.options.candidates(), uniforms=np.array([0.5]))
    assert choice.action == ["stop"]


# -- how it is learned


def logged(studio: mt.Studio, clock: list[datetime], n: int) -> None:
    """Declined invoices, each tried once more at random: after "1d" most go through, after "1h" hardly any."""
    decision = studio.decision("retry")
    assert decision.options is not None
    ids = [str(i) for i in decision.options.candidates().ids.tolist()]
    rng, start = np.random.default_rng(5), clock[0]
    clock[0] = start + timedelta(hours=n, days=20)
    choices, attempts = [], []
    for i in range(n):
        at = start + timedelta(hours=i)
        action = ids[int(rng.integers(len(ids)))]
        choices.append(
            mt.Choice(
                id=f"r-{i}",
                decision="retry",
                unit=f"x-{i}",
                at=at,
                policy="coin",
                candidates=ids,
                action=[action],
                propensities=[1 / len(ids)],
            )
        )
        first = {"invoice": f"x-{i}", "number": 1, "processor": "alder", "amount_minor": 900, "currency": "EUR",
                 "approved": False, "code": "51", "fee_minor": 5, "at": at - timedelta(minutes=5), "choice": None}  # fmt: skip
        attempts.append(first)
        if action != "stop":
            approved = bool(rng.random() < (0.9 if action.startswith("1d") else 0.05))
            when = at + duration(action.split()[0])
            attempts.append({**first, "number": 2, "approved": approved, "at": when, "choice": f"r-{i}"})
    studio.append(
        Invoice,
        pl.DataFrame(
            {"invoice": [f"x-{i}" for i in range(n)], "amount_minor": 900, "currency": "EUR", "card": "Visa",
             "at": [start + timedelta(hours=i) - timedelta(days=1) for i in range(n)]}
        ).with_columns(known="at"),
    )  # fmt: skip
    done = studio.append(Attempt, pl.DataFrame(attempts, infer_schema_length=None).with_columns(known="at"))
    assert done.quarantined == 0
    studio.log(choices)


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[tuple[mt.Studio, list[datetime]]]:
    clock = [NOON]
    with mt.open(tmp_path / "s", clock=lambda: clock[0]) as found:
        found.use(payments.domain)
        yield found, clock


def test_the_recipe_learns_when_to_retry_and_is_judged_on_the_rest(studio: tuple[mt.Studio, list[datetime]]) -> None:
    found, clock = studio
    logged(found, clock, 900)
    names = payments.domain.recipes["retry"](found)
    assert names == ["retry@1", "retry@2", "retry@3"]
    ranker = found.policy("retry@2").scorers()[0]
    scores = ranker.score(request(code="51", amount_minor=900, previous="alder"), OPTIONS).mean
    assert str(OPTIONS.ids[scores.argmax()]).startswith("1d")
    evidence = found.evaluate("retry", "retry@2")
    assert evidence.better
    assert evidence.headline is not None
    assert evidence.headline.n == 300
    refused = found.evaluate("retry", "retry@3").refused
    assert refused is not None
    assert "retry-ranker@2 learned from choices up to" in refused


def test_values_in_other_units_are_drawn_as_warmly(studio: tuple[mt.Studio, list[datetime]], tmp_path: Path) -> None:
    found, clock = studio
    logged(found, clock, 600)
    payments.domain.recipes["retry"](found, again=False)
    cold = found.policies("retry")["retry@2"]["spec"]["temperature"]
    other = [NOON]
    with mt.open(tmp_path / "t", clock=lambda: other[0]) as whole:
        decision = retry_decision(margin=1.0)
        whole.use(payments.domain).use(mt.Domain("here", decisions=[decision]))
        logged(whole, other, 600)
        payments.domain.recipes["retry"](whole, again=False)
        assert whole.policies("retry")["retry@2"]["spec"]["temperature"] > 5 * cold


def test_too_few_logged_choices_are_said_so_with_what_to_do(studio: tuple[mt.Studio, list[datetime]]) -> None:
    found, clock = studio
    with pytest.raises(mt.MatineeError, match="has 0 logged choices.* must have at least 300.*release retry retry@1 1"):
        payments.domain.recipes["retry"](found)
    logged(found, clock, 310)
    clock[0] -= timedelta(days=6, hours=12)  # the reward of the newest is not complete
    with pytest.raises(mt.MatineeError, match="has 2[0-9]{2} logged choices with a complete reward"):
        payments.domain.recipes["retry"](found)
    assert list(found.policies("retry")) == ["retry@1"]
