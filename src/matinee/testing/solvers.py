"""What every solver of plan mode promises: a plan within its constraints, and claims that hold."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from matinee.exceptions import UnknownNameError
from matinee.testing.policies import ColumnScorer, example_candidates, example_request, repr_is_short
from matinee.testing.running import expect, run

if TYPE_CHECKING:
    from matinee.draw import Limit
    from matinee.plans import Solver
    from matinee.policies import Candidates

SolverCheck = Callable[["Solver", np.random.Generator], None]
_WORLDS = 8


def _worlds(solver: Solver, rng: np.random.Generator) -> Iterator[tuple[Solver, Candidates, list[Limit], int]]:
    """The same rule over scores from a column, with candidates and up to two limits that cross."""
    from matinee.draw import Limit

    tried = copy.copy(solver)
    if solver.scorer is not None:
        tried.scorer = ColumnScorer()
    for _ in range(_WORLDS):
        candidates = example_candidates(rng)
        n = len(candidates)
        codes = [rng.integers(-1, 3, n) for _ in range(int(rng.integers(0, 3)))]
        yield tried, candidates, [Limit(c, int(rng.integers(1, 3))) for c in codes], int(rng.integers(1, 5))


def _fits(chosen: np.ndarray[Any, Any], limits: list[Limit]) -> bool:
    held = [limit.codes[chosen] for limit in limits]
    return all(
        (np.bincount(h[h >= 0]) <= limit.limit).all() for h, limit in zip(held, limits, strict=True) if (h >= 0).any()
    )


def plans_keep_to_their_limits(solver: Solver, rng: np.random.Generator) -> None:
    """A plan takes candidates it was given, each once, at most as many as there are slots, within every limit."""
    for tried, candidates, limits, slots in _worlds(solver, rng):
        action = list(tried.solve(example_request(), candidates, limits, slots).action)
        ids = candidates.ids.tolist()
        expect(set(action) <= set(ids), f"the plan {action} holds what is not among the candidates {ids}")
        expect(len(set(action)) == len(action) <= slots, f"the plan {action} must hold at most {slots}, each once")
        where = np.array([ids.index(a) for a in action], np.int64)
        expect(_fits(where, limits), f"the plan {action} breaks a limit between slots")


def claims_hold(solver: Solver, rng: np.random.Generator) -> None:
    """The bound is no less than the value; "proven" is claimed only where the two meet, and never of a worse plan."""
    for tried, candidates, limits, slots in _worlds(solver, rng):
        solved = tried.solve(example_request(), candidates, limits, slots)
        claim = solved.claim
        expect(bool(np.isfinite(claim.value)), f"the value is {claim.value}, must be a number")
        if claim.bound is not None:
            near = claim.bound >= claim.value - 1e-6 * max(1.0, abs(claim.value))
            expect(near, f"the bound {claim.bound} is below the value {claim.value}")
        if claim.proven:
            expect(claim.bound == claim.value, f"proven, yet the bound is {claim.bound} and the value {claim.value}")
        if claim.proven and tried.scorer is not None:
            score = candidates.columns["score"]
            size = len(solved.action)
            found = [list(c) for c in combinations(range(len(score)), size)]
            best = max(float(score[c].sum()) for c in found if _fits(np.array(c, np.int64), limits))
            close = claim.value >= best - 1e-6 * max(1.0, abs(best))
            expect(close, f"proven at {claim.value}, yet another plan of {size} is worth {best}")


def same_situation_same_plan(solver: Solver, rng: np.random.Generator) -> None:
    """Nothing is drawn: the same situation gives the same plan."""
    for tried, candidates, limits, slots in _worlds(solver, rng):
        plans = [list(tried.solve(example_request(), candidates, limits, slots).action) for _ in range(2)]
        expect(plans[0] == plans[1], f"the same situation gave {plans[0]} and then {plans[1]}")


def spec_builds_the_same_solver(solver: Solver, rng: np.random.Generator) -> None:
    """`spec` is plain JSON; for a registered kind it builds a solver with the same spec."""
    from matinee.policies import from_spec

    spec = solver.spec()
    expect(json.loads(json.dumps(spec)) == spec, f"spec is not plain JSON: {spec}")
    try:
        again = from_spec(spec, {s.name: s for s in solver.scorers()}.__getitem__)
    except UnknownNameError:  # a kind of one's own that is not in KINDS
        return
    expect(again.spec() == spec, f"the solver built from the spec has another: {again.spec()}")


def yield_solver_checks() -> Iterator[SolverCheck]:
    """Every check of a solver; each takes the solver and a generator."""
    yield plans_keep_to_their_limits
    yield claims_hold
    yield same_situation_same_plan
    yield spec_builds_the_same_solver
    yield repr_is_short


def check_solver(solver: Solver, rng: np.random.Generator | None = None) -> None:
    """Run every check on a solver of your own. Its rule is tried, not its scorer: see `check_scorer`.

    Raises:
        AssertionError: At the first promise that is broken, with the promise and what was seen.

    Example:
        >>> from matinee.plans import BestSlate
        >>> check_solver(BestSlate(ColumnScorer()))
    """
    run(yield_solver_checks(), solver, rng)
