"""Plan mode: a solver under the guards, its claims, and the check that lets nothing forbidden into the log."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import matinee as mt
from matinee.choices import Plan
from matinee.decisions import Decision, choose
from matinee.draw import Limit
from matinee.exceptions import DeclarationError, ReleaseError
from matinee.guards import at_most, never
from matinee.ledger.columns import choice_from_row
from matinee.plans import BestSlate, Solved, Solver
from matinee.policies import Candidates, Request, Softmax
from matinee.testing import ColumnScorer, check_solver, yield_solver_checks
from matinee.testing.solvers import SolverCheck

SCORER = ColumnScorer(std=None)
WEEK = Request("calendar", "2026-W48", datetime(2026, 11, 22, tzinfo=UTC), {}, {})


class Careless(Solver):
    """Takes the first candidates, whatever the limits say."""

    kind: ClassVar[str] = "careless"

    def solve(self, request: Request, candidates: Candidates, limits: Sequence[Limit], slots: int) -> Solved:
        return Solved(candidates.ids[:slots].tolist(), Plan(value=1.0))


class Boastful(BestSlate):
    """Claims a proof of whatever it has."""

    kind: ClassVar[str] = "boastful"

    def solve(self, request: Request, candidates: Candidates, limits: Sequence[Limit], slots: int) -> Solved:
        worst = Candidates(candidates.ids, {**candidates.columns, "score": -candidates.columns["score"]})
        found = super().solve(request, worst, limits, slots)
        value = float(candidates.columns["score"][np.isin(candidates.ids, found.action)].sum())
        return Solved(found.action, Plan(value=value, bound=value, proven=True))


def fits(chosen: Sequence[int], limits: Sequence[Limit]) -> bool:
    return all(
        sum(1 for i in chosen if limit.codes[i] == g) <= limit.limit for limit in limits for g in set(limit.codes) - {-1}
    )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 9), slots=st.integers(1, 5), number=st.integers(0, 3))
def test_the_best_slate_is_the_best_of_all_slates(seed: int, n: int, slots: int, number: int) -> None:
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n) * 10.0 ** rng.integers(-3, 4)
    limits = [Limit(rng.integers(-1, 3, n), int(rng.integers(1, 3))) for _ in range(number)]
    found = BestSlate(SCORER).solve(WEEK, Candidates(np.arange(n), {"score": score}), limits, slots)
    able = [c for size in range(slots + 1) for c in combinations(range(n), size) if fits(c, limits)]
    most = max(len(c) for c in able)
    best = max(float(score[list(c)].sum()) for c in able if len(c) == most)
    assert len(found.action) == most
    assert fits(found.action, limits)  # type: ignore[arg-type]
    assert found.claim.proven
    assert found.claim.value == pytest.approx(best, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("check", list(yield_solver_checks()), ids=lambda check: check.__name__)
def test_the_shipped_solver_keeps_its_promises(check: SolverCheck) -> None:
    check(BestSlate(SCORER), np.random.default_rng(7))


@pytest.mark.parametrize(
    ("solver", "words"), [(Careless(), "breaks a limit between slots"), (Boastful(SCORER), "yet another plan")]
)
def test_the_suite_finds_what_is_wrong(solver: Solver, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_solver(solver)


def calendar(**changes: Any) -> Decision:
    guards = [never("held", lambda _r, c: c.ids == 1), at_most(1, per="studio")]
    return Decision("calendar", unit="week", among="title", slots=2, mode="plan", guards=guards, **changes)


SHELF = Candidates(np.array([1, 2, 3, 4]), {"score": np.array([9.0, 3.0, 2.0, 1.0]), "studio": np.array([0, 1, 1, 2])})


def test_guards_are_constraints_and_the_claim_is_logged() -> None:
    made = choose(calendar(), BestSlate(SCORER), WEEK, SHELF, uniforms=np.zeros(2))
    assert made.action == [2, 4]
    assert made.plan == Plan(value=4.0, bound=4.0, proven=True)
    assert (made.propensities, made.blocked, made.fallback) == ([], {"held": [1]}, None)


def test_a_plan_that_breaks_a_guard_is_never_logged() -> None:
    made = choose(calendar(), Careless(), WEEK, SHELF, uniforms=np.zeros(2))
    assert (made.action, made.plan) == ([], None)
    assert made.fallback is not None
    assert "its plan is not allowed: at most 1 a studio: 2 from one group" in made.fallback


def test_a_policy_that_draws_does_not_plan_and_a_solver_does_not_draw() -> None:
    made = choose(calendar(), Softmax(SCORER), WEEK, SHELF, uniforms=np.zeros(2))
    assert made.fallback is not None
    assert "must be a solver" in made.fallback
    with pytest.raises(DeclarationError, match="must decide in plan mode"):
        BestSlate(SCORER).components(WEEK, SHELF)


LAUNCHES = '''
from pathlib import Path
from typing import ClassVar

import numpy as np

import matinee as mt
from matinee.scorers import register


class Premiere(mt.Entity, key="title"):
    title: int
    studio: str


@register
class ByNumber:
    kind: ClassVar[str] = "by-number"
    name, needs = "", ()

    def score(self, request, candidates):
        return mt.Scores(candidates.ids.astype(np.float64))

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def load(cls, folder: Path):
        return cls()


calendar = mt.Decision("calendar", unit="week", among="title", slots=2, mode="plan", guards=[mt.at_most(1, per="studio")])
domain = mt.Domain(name="launches", facts=[Premiere], decisions=[calendar])
'''


def test_a_plan_goes_through_the_gates_the_log_and_the_table_with_its_claim(tmp_path: Path) -> None:
    mt.open(tmp_path / "s").close()
    (tmp_path / "s" / "launches.py").write_text(LAUNCHES)
    (tmp_path / "s" / "matinee.toml").write_text('domains = []\nmodules = ["launches.py"]\n')
    at = datetime.now(UTC) - timedelta(days=1)
    with mt.open(tmp_path / "s") as studio:
        studio.append("premiere", pl.DataFrame({"title": [1, 2, 3], "studio": ["alder", "alder", "birch"], "at": [at] * 3}))
        with pytest.raises(ReleaseError, match="is in plan mode, must have a solver"):
            studio.release("calendar", mt.Uniform())
        scorer = sys.modules[studio.facts.fact("premiere").__module__].ByNumber()
        scorer.name = studio.keep("by-number", scorer)
        studio.publish()
        studio.release("calendar", BestSlate(scorer), by="tests")
        made = studio.decide("calendar", "2026-W48")
        assert (made.action, made.plan) == ([3, 2], Plan(value=5.0, bound=5.0, proven=True))
        studio.seal()
        assert studio.choices("calendar")["plan"].to_list() == ['{"value":5.0,"bound":5.0,"proven":true}']
        assert choice_from_row(studio.choices("calendar").row(0, named=True)) == made
        with pytest.raises(mt.MatineeError, match="is in plan mode, must be judged by back-test"):
            studio.evaluate("calendar", studio.save_policy("calendar", BestSlate(scorer)))
