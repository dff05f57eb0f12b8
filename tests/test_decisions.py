"""Promise 1: guards mask before the draw, so that the logged propensity is exact; a decision never goes unguarded."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.decisions import Decision, Option, Options, check_slate, choose, grid, stop
from matinee.exceptions import DeclarationError, MatineeError
from matinee.guards import at_most, never
from matinee.policies import Candidates, Epsilon, Request, Scores, Softmax, Thompson, Uniform

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Scorer:
    name = "scorer@1"
    needs = ()

    def __init__(self, fail: bool = False) -> None:
        self.fail = fail

    def score(self, request: Request, candidates: Candidates) -> Scores:
        if self.fail:
            raise RuntimeError("out of memory")
        return Scores(np.sin(candidates.ids * 1.7), np.full(len(candidates), 0.3))


def request(decision: Decision) -> Request:
    return Request(decision.name, 42, NOW, {"device": "tv"}, {})


def shelf(n: int, groups: int = 3) -> Candidates:
    return Candidates(np.arange(n), {"provider": np.arange(n) % groups})


@settings(max_examples=80, deadline=None)
@given(
    n=st.integers(1, 30),
    slots=st.integers(1, 8),
    limit=st.integers(1, 3),
    seed=st.integers(0, 9999),
    kind=st.integers(0, 3),
)
def test_what_is_chosen_is_allowed_and_its_propensity_positive(
    n: int, slots: int, limit: int, seed: int, kind: int
) -> None:
    rng = np.random.default_rng(seed)
    banned = set(rng.choice(n, rng.integers(0, n + 1), replace=False).tolist())
    guard = never("banned", lambda _r, c: np.isin(c.ids, list(banned)))
    decision = Decision(
        "home", unit="member", among="title", slots=slots, guards=[guard, at_most(limit, per="provider")]
    )
    policy = [Uniform(), Softmax(Scorer(), 0.3), Epsilon(Scorer(), 0.1), Thompson(Scorer())][kind]
    made = choose(decision, policy, request(decision), shelf(n), uniforms=rng.random(slots))
    if len(banned) == n:
        assert made.fallback is not None
        assert "banned" in made.fallback
        assert made.action == []
        return
    assert made.fallback is None
    assert not banned & set(made.action)
    assert set(made.candidates) == set(range(n)) - banned
    assert sorted(made.blocked.get("banned", [])) == sorted(banned)
    assert all(0 < p <= 1 for p in made.propensities)
    assert len(made.propensities) == len(made.action)
    assert check_slate(decision, request(decision), shelf(n), made.action) == []
    # Nothing left unfilled that could have been filled.
    free = set(made.candidates) - set(made.action)
    groups = [a % 3 for a in made.action]
    assert len(made.action) == slots or all(groups.count(f % 3) >= limit for f in free)  # type: ignore[operator]


def test_the_logged_propensity_is_the_frequency_within_the_allowed() -> None:
    decision = Decision("home", unit="member", among="title", slots=1, guards=[never("zero", lambda _r, c: c.ids == 0)])
    rng = np.random.default_rng(5)
    counts: dict[Any, int] = {}
    logged: dict[Any, float] = {}
    for _ in range(8000):
        made = choose(decision, Softmax(Scorer(), 0.5), request(decision), shelf(4), uniforms=rng.random(1))
        counts[made.action[0]] = counts.get(made.action[0], 0) + 1
        logged[made.action[0]] = made.propensities[0]
    assert set(counts) == {1, 2, 3}
    assert sum(logged.values()) == pytest.approx(1)
    for action, p in logged.items():
        assert abs(counts[action] / 8000 - p) < 4 * np.sqrt(p * (1 - p) / 8000)


def test_no_candidates_and_a_failing_guard_and_a_failing_model_fall_back_with_the_reason() -> None:
    options = Options([Option("charge", {}), stop])

    def broken(_r: Request, _c: Candidates) -> Any:
        raise ZeroDivisionError("no rate")

    plain = Decision("retry", unit="invoice", among=options, fallback=stop)
    guarded = Decision("retry", unit="invoice", among=options, fallback=stop, guards=[never("rate", broken)])
    nothing = choose(plain, Uniform(), request(plain), Candidates(np.array([], np.str_), {}), uniforms=np.zeros(1))
    raised = choose(guarded, Uniform(), request(guarded), options.candidates(), uniforms=np.zeros(1))
    failed = choose(plain, Softmax(Scorer(fail=True)), request(plain), options.candidates(), uniforms=np.zeros(1))
    for made, words in ((nothing, "no candidates"), (raised, "ZeroDivisionError: no rate"), (failed, "out of memory")):
        assert made.action == ["stop"]
        assert made.propensities == [1.0]
        assert made.fallback is not None
        assert words in made.fallback


def test_all_masked_names_the_guards() -> None:
    decision = Decision("home", unit="member", among="title", guards=[never("closed", lambda _r, c: c.ids >= 0)])
    made = choose(decision, Uniform(), request(decision), shelf(3), uniforms=np.zeros(1))
    assert made.fallback == "every candidate is kept out: closed"
    assert made.blocked == {"closed": [0, 1, 2]}
    assert made.action == []


def test_advice_ranks_the_allowed_and_names_what_bites_and_draws_nothing() -> None:
    decision = Decision(
        "localise", unit="title", among=[1, 2, 3], mode="advise", guards=[never("no consent", lambda _r, c: c.ids == 2)]
    )
    made = choose(decision, Softmax(Scorer()), request(decision), decision.options.candidates(), uniforms=np.zeros(1))  # type: ignore[union-attr]
    assert made.action == []
    assert made.propensities == []
    values = [a.value for a in made.advice if a.blocked_by is None]
    assert values == sorted(values, reverse=True)  # type: ignore[type-var]
    assert all(a.low < a.value < a.high for a in made.advice if a.blocked_by is None)  # type: ignore[operator]
    assert [(a.option, a.blocked_by) for a in made.advice if a.blocked_by] == [(2, "no consent")]


def test_the_independent_checker_sees_every_kind_of_breach() -> None:
    decision = Decision(
        "home", unit="member", among="title", slots=3,
        guards=[never("seven", lambda _r, c: c.ids == 7), at_most(1, per="provider")],
    )  # fmt: skip
    wrong = check_slate(decision, request(decision), shelf(9), [7, 0, 3, 0])
    assert any("7 is kept out" in w for w in wrong)
    assert any("0 is chosen twice" in w for w in wrong)
    assert any("4 are chosen, must be at most 3" in w for w in wrong)
    assert any("at most 1 a provider" in w for w in wrong)
    assert check_slate(decision, request(decision), shelf(9), [99]) == ["99 is not among the candidates"]
    assert check_slate(decision, request(decision), shelf(9), [0, 1, 2]) == []


def test_grid_makes_every_combination_with_its_attributes() -> None:
    found = (grid(wait=["1h", "1d"], route=["a", "b"]) + [stop]).candidates()  # noqa: RUF005
    assert found.ids.tolist() == ["1h a", "1h b", "1d a", "1d b", "stop"]
    assert found.columns["wait#us"].tolist() == [3_600_000_000] * 2 + [86_400_000_000] * 2 + [0]
    assert found.columns["route"].tolist() == ["a", "b", "a", "b", ""]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Decision("a b", unit="u", among=["x"]), "must be letters, digits"),
        (lambda: Decision("a", unit="u", among=["x"], mode="guess"), "mode == 'guess', must be one of"),
        (lambda: Decision("a", unit="u", among=["x"], slots=0), "slots == 0, must be >= 1"),
        (lambda: Decision("a", unit="u", among=["x"], fallback="y"), "fallback == 'y', must be one of 'x'"),
        (lambda: Decision("a", unit="u", among=[]), "must hold at least one candidate"),
        (lambda: Decision("a", unit="u", among=["x", "x"]), "named twice"),
        (lambda: Decision("a", unit="u", among=["x"], guards=["licence"]), "must have a name, a reason and mask"),
    ],
)
def test_bad_declarations_say_what_would_be_right(make: Any, words: str) -> None:
    with pytest.raises((DeclarationError, MatineeError), match=words):
        make()


def test_what_shelters_a_unit_must_be_read_by_a_guard() -> None:
    with pytest.raises(DeclarationError, match="sheltered == 'kids', must be a feature of the member that a guard reads"):
        Decision("home", unit="member", among=[1, 2], sheltered="kids")
