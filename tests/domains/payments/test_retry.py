"""Retries: what is never tried again, when nobody is charged, and that stopping is always possible."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import matinee as mt
from matinee.decisions import choose
from matinee.domains.payments.charging import NEVER_AGAIN, charge
from matinee.domains.payments.retry import ROUTES, WAITS, retry, retry_decision
from matinee.testing import check_guard

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
