"""Guards mask before the draw and say why; what they cannot know they deny."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from matinee import testing
from matinee.exceptions import DeclarationError, GuardError, MatineeError
from matinee.facts import Fact
from matinee.guards import Guard, apply, at_most, cap, licensed, maturity, never, quiet, requires
from matinee.policies import Candidates, Request
from matinee.times import to_us

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Licence(Fact, key="title", scheduled=True):
    title: int
    territory: str
    starts: datetime
    ends: datetime | None


class Shown(Fact, key="member"):
    member: int
    title: int


def request(
    context: dict[str, Any] | None = None, features: dict[str, Any] | None = None, at: datetime = NOW, **lookups: Any
) -> Request:
    return Request(
        "home", 42, at, context or {}, features or {}, (lambda _n, key: lookups.get(str(key), {})) if lookups else None
    )


def some(**columns: Any) -> Candidates:
    arrays = {k: np.array(v) for k, v in columns.items()}
    return Candidates(np.arange(len(next(iter(arrays.values())))) + 10, arrays)


def windows(*spans: list[tuple[float, float]]) -> Candidates:
    """Candidates with licence windows in hours from now; a missing window never opens."""
    width = max(map(len, spans))
    starts = np.full((len(spans), width), np.iinfo(np.int64).max)
    ends = np.full((len(spans), width), np.iinfo(np.int64).min)
    for i, own in enumerate(spans):
        for j, (a, b) in enumerate(own):
            starts[i, j], ends[i, j] = to_us(NOW + timedelta(hours=a)), to_us(NOW + timedelta(hours=b))
    return Candidates(np.arange(len(spans)), {"licence.starts": starts, "licence.ends": ends})


def test_licence_windows_begin_inclusive_and_end_exclusive() -> None:
    guard = licensed(Licence)
    mask = guard.mask(request(), windows([(-2, -1)], [(0, 1)], [(-1, 0)], [(-9, -8), (-1, 1)], [], [(1, 2)]))
    assert mask.tolist() == [False, True, False, True, False, False]


def test_licence_holds_only_in_its_territory() -> None:
    found = windows([(-1, 1)], [(-1, 1)], [(-1, 1)])
    found.columns["licence.territory"] = np.array([["DE"], ["*"], ["FR"]])  # type: ignore[index]
    guard = licensed(Licence, territory="territory")
    assert guard.mask(request({"country": "DE"}), found).tolist() == [True, True, False]
    assert guard.mask(request({}), found).tolist() == [False, True, False]


def test_maturity_keeps_the_unrated_from_a_limited_profile() -> None:
    found = some(maturity=[0.0, 12.0, 18.0, np.nan])
    assert maturity().mask(request({}, {"maturity_limit": 12}), found).tolist() == [True, True, False, False]
    assert maturity().mask(request(), found).all()
    assert maturity(default=6).mask(request(), found).tolist() == [True, False, False, False]


@pytest.mark.parametrize("context", [{"maturity_limit": None}, {"maturity_limit": 18}, {}])
def test_a_caller_cannot_lift_the_limit_of_a_profile(context: dict[str, Any]) -> None:
    found = some(maturity=[0.0, 12.0, 18.0])
    assert maturity().mask(request(context, {"maturity_limit": 6}), found).tolist() == [True, False, False]
    assert maturity().mask(request({"maturity_limit": 6}, {"maturity_limit": 12}), found).tolist() == [True, False, False]
    assert not maturity().mask(request({"maturity_limit": 18}, {"maturity_limit": np.nan}), found).any()


def test_maturity_without_the_column_fails_closed() -> None:
    with pytest.raises(GuardError, match="must be one of the candidates' columns"):
        apply([maturity()], request({"maturity_limit": 12}), some(other=[1.0]))


def test_cap_leaves_out_what_was_shown_often_enough() -> None:
    guard = cap(2, Shown.title, "7d")
    mask = guard.mask(request({}, {guard.feature: {11: 2, 12: 1}}), some(x=[0, 0, 0]))
    assert mask.tolist() == [True, False, True]
    assert guard.needs[0].key == "member"


def test_caps_of_spans_within_the_same_hour_are_two_features() -> None:
    names = {cap(2, Shown.title, within).feature for within in ("1h", "90m", "7d")}
    assert names == {"cap_shown_title_1h", "cap_shown_title_5400s", "cap_shown_title_168h"}


def test_a_longer_name_that_begins_alike_is_another_title() -> None:
    guard = cap(1, Shown.title, "7d")
    found = Candidates(np.array(["ab", "cd"]), {})
    assert guard.mask(request({}, {guard.feature: {"abc": 3, "cd": 1}}), found).tolist() == [True, False]



@pytest.mark.parametrize(
    ("hour", "wait", "allowed"),
    [
        (21, "1h", False),
        (21, "30m", True),
        (21, "11h", True),
        (21, "10h59m", False),
        (23, "1h", False),
        (12, "1h", True),
    ],
)
def test_quiet_hours_cross_midnight_and_end_when_they_say(hour: int, wait: str, allowed: bool) -> None:
    from matinee.decisions import grid, stop

    options = (grid(wait=[wait], route=["a"]) + [stop]).candidates()  # noqa: RUF005
    mask = quiet("22:00", "08:00").mask(request(at=NOW.replace(hour=hour)), options)
    assert mask.tolist() == [allowed, True]


def test_quiet_hours_are_local() -> None:
    found = Candidates(np.array(["now"]), {})
    at = datetime(2026, 7, 1, 20, 30, tzinfo=UTC)  # 22:30 in Berlin, in summer
    assert quiet("22:00", "08:00").mask(request({"zone": "Europe/Berlin"}, at=at), found).tolist() == [False]
    assert quiet("22:00", "08:00").mask(request({"zone": "UTC"}, at=at), found).tolist() == [True]
    with pytest.raises(MatineeError, match="zone == 'Mars/Olympus', must be a time zone"):
        quiet("22:00", "08:00").mask(request({"zone": "Mars/Olympus"}), found)


class TestConsent:
    options = Candidates(np.array(["human dub", "synthetic dub"]), {})

    def mask(self, history: dict[str, Any], at: datetime = NOW) -> list[bool]:
        guard = requires("synthetic dub", consent="voice", of="performer")
        asked = Request("localise", "t", at, {"performer": "ann"}, {}, lambda _n, _k: history)
        return guard.mask(asked, self.options).tolist()  # type: ignore[no-any-return]

    def test_without_any_fact_the_answer_is_no(self) -> None:
        assert self.mask({"purposes": [], "granted": [], "until": []}) == [True, False]

    def test_in_force(self) -> None:
        assert self.mask({"purposes": ["voice"], "granted": [True], "until": [None]}) == [True, True]

    def test_for_another_purpose(self) -> None:
        assert self.mask({"purposes": ["likeness"], "granted": [True], "until": [None]}) == [True, False]

    def test_withdrawn_later(self) -> None:
        assert self.mask({"purposes": ["voice", "voice"], "granted": [True, False], "until": [None, None]}) == [
            True,
            False,
        ]

    def test_ends_at_its_until(self) -> None:
        history = {"purposes": ["voice"], "granted": [True], "until": [NOW]}
        assert self.mask(history, NOW - timedelta(microseconds=1)) == [True, True]
        assert self.mask(history, NOW) == [True, False]

    def test_nobody_named_is_nobody_who_agreed(self) -> None:
        guard = requires("synthetic dub", consent="voice", of="performer")
        agreed = {"purposes": ["voice"], "granted": [True], "until": [None]}
        for context in ({}, {"performer": []}, {"performer": None}):
            asked = Request("localise", "t", NOW, context, {}, lambda _n, _k: agreed)
            assert guard.mask(asked, self.options).tolist() == [True, False]

    def test_all_of_several_must_agree(self) -> None:
        guard = requires("synthetic dub", consent="voice", of="cast")
        agreed = {"ann": {"purposes": ["voice"], "granted": [True], "until": [None]}, "bob": {}}
        asked = Request("localise", "t", NOW, {"cast": ["ann", "bob"]}, {}, lambda _n, key: agreed[str(key)])
        assert guard.mask(asked, self.options).tolist() == [True, False]


def test_a_guard_that_raises_or_gives_no_mask_is_an_error_and_never_a_pass() -> None:
    def broken(_r: Request, _c: Candidates) -> Any:
        raise KeyError("provider")

    for function in (broken, lambda _r, c: np.zeros(len(c) + 1, bool), lambda _r, c: np.zeros(len(c))):
        with pytest.raises(GuardError, match="guard 'own rule'"):
            apply([never("own rule", function)], request(), some(x=[1.0, 2.0]))


def test_each_candidate_is_counted_under_the_first_guard_that_bit() -> None:
    first = never("first", lambda _r, c: c.ids == 10)
    second = never("second", lambda _r, c: c.ids <= 11)
    guarded = apply([first, second], request(), some(x=[0, 0, 0]))
    assert guarded.allowed.tolist() == [False, False, True]
    assert guarded.blocked == {"first": [10], "second": [11]}


GUARDS: list[Guard] = [
    maturity(column="x"),
    at_most(2, per="x"),
    cap(2, Shown.title, "7d"),
    quiet("22:00", "08:00"),
    requires(consent="voice"),
    never("odd", lambda _r, c: c.ids % 2 == 1),
]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda g: g.name)
def test_guard_conforms(guard: Guard) -> None:
    found = some(x=[1.0, 2.0, 2.0, 7.0])
    testing.check_guard(guard, np.random.default_rng(7), request=request(), candidates=found)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: at_most(0, per="provider"), "n == 0, must be >= 1"),
        (lambda: quiet("22:00", "22:00"), "covers no time"),
        (lambda: quiet("25:00", "08:00"), "must be a time of day"),
        (lambda: cap(1, Shown.title, "7 days"), "must be a number and a unit"),
    ],
)
def test_bad_declarations_say_what_would_be_right(make: Any, words: str) -> None:
    with pytest.raises((DeclarationError, MatineeError), match=words):
        make()
