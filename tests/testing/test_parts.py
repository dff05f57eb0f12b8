"""Each check of a guard or scorer fails on one that breaks just that promise."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest

from matinee.draw import Limit
from matinee.guards import BaseGuard, at_most, maturity, never
from matinee.policies import Candidates, Request, Scores
from matinee.testing import (
    ColumnScorer,
    check_guard,
    check_scorer,
    example_candidates,
    example_request,
    yield_guard_checks,
    yield_scorer_checks,
)
from matinee.testing import parts as checks

_COUNTER = itertools.count()
REQUEST, CANDIDATES = example_request(), example_candidates(np.random.default_rng(3), 8)


@pytest.mark.parametrize(
    "guard", [maturity(default=12), at_most(2, per="provider"), never("odd", lambda r, c: c.ids % 2 == 1)]
)
def test_shipped_guards_keep_their_promises(guard: Any) -> None:
    check_guard(guard)


class Adult(BaseGuard):
    """A guard of one's own that keeps every promise."""

    name, reason = "adult", "not for children"

    def mask(self, request: Request, candidates: Candidates) -> Any:
        return candidates.columns["maturity"] < 16


class Nameless(Adult):
    reason = ""


class GivesNumbers(Adult):
    def mask(self, request: Request, candidates: Candidates) -> Any:
        return super().mask(request, candidates).astype(float)


class Overwrites(Adult):
    def mask(self, request: Request, candidates: Candidates) -> Any:
        candidates.columns["score"][:1] = 0.0
        return super().mask(request, candidates)


class ChangesItsMind(Adult):
    def mask(self, request: Request, candidates: Candidates) -> Any:
        return np.full(len(candidates), next(_COUNTER) % 2 == 0)


class ReadsWhatIsNotLogged(Adult):
    def mask(self, request: Request, candidates: Candidates) -> Any:
        return np.full(len(candidates), isinstance(request.context.get("tags"), tuple))


class NeedsCompany(Adult):
    def mask(self, request: Request, candidates: Candidates) -> Any:
        return super().mask(request, candidates) & (len(candidates) > 1)


class GroupsByPlace(Adult):
    def limit(self, request: Request, candidates: Candidates) -> Limit:
        return Limit(np.arange(len(candidates)) // 2, 1)


GUARDS: dict[Any, tuple[Any, str]] = {
    checks.name_and_reason_are_text: (Nameless(), "reason is '', must be text"),
    checks.mask_is_one_bool_a_candidate: (GivesNumbers(), "mask gave float64, must give bool"),
    checks.inputs_are_not_mutated: (Overwrites(), "the guard changed the candidates"),
    checks.same_request_same_mask: (ChangesItsMind(), "got another mask the second time|a copy of the guard disagrees"),
    checks.mask_is_a_function_of_what_is_logged: (ReadsWhatIsNotLogged(), "when the context has been through JSON"),
    checks.candidates_are_judged_one_by_one: (NeedsCompany(), "is judged otherwise when it is alone"),
    checks.limit_groups_every_candidate: (GroupsByPlace(), "groups change with the order"),
}


@pytest.mark.parametrize("check", list(yield_guard_checks()), ids=lambda check: check.__name__)
def test_check_catches_a_guard_that_breaks_the_promise(check: checks.PartCheck) -> None:
    guard, sentence = GUARDS[check]
    request = Request("home", 42, REQUEST.at, {"tags": ("a", "b")}, {})
    with pytest.raises(AssertionError, match=sentence):
        check(guard, np.random.default_rng(7), request, CANDIDATES)


def test_check_guard_names_guard_and_promise() -> None:
    check_guard(Adult())
    with pytest.raises(AssertionError, match="adult breaks a promise, 'candidates are judged one by one'"):
        check_guard(NeedsCompany())


class NoName(ColumnScorer):
    def __init__(self) -> None:
        super().__init__()
        self.name = None  # type: ignore[assignment]  # that is the fault


class Shorter(ColumnScorer):
    def score(self, request: Request, candidates: Candidates) -> Scores:
        return Scores(super().score(request, candidates).mean[1:])


class ScoresItsInput(ColumnScorer):
    def score(self, request: Request, candidates: Candidates) -> Scores:
        candidates.columns["score"][:] += 1
        return super().score(request, candidates)


class Drifts(ColumnScorer):
    def score(self, request: Request, candidates: Candidates) -> Scores:
        return Scores(super().score(request, candidates).mean + next(_COUNTER))


class Standardises(ColumnScorer):
    def score(self, request: Request, candidates: Candidates) -> Scores:
        mean = super().score(request, candidates).mean
        return Scores(mean - mean.mean())


class ProposesBeyond(ColumnScorer):
    def propose(self, request: Request, candidates: Candidates) -> Any:
        return np.array([0, len(candidates)])


class LosesItself(ColumnScorer):
    kind: ClassVar[str] = "loses-itself"

    def save(self, folder: Path) -> None:
        (folder / "nothing").touch()

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls("std")


SCORERS: dict[Any, tuple[Any, str]] = {
    checks.scorer_has_a_name_and_needs: (NoName(), "name is None, must be text"),
    checks.scores_are_finite_numbers_one_a_candidate: (Shorter(), r"mean has shape \(7,\) for 8 candidates"),
    checks.scoring_leaves_inputs_as_they_were: (ScoresItsInput(), "the scorer changed the candidates"),
    checks.same_request_same_scores: (Drifts(), "the same request got other scores"),
    checks.candidates_are_scored_one_by_one: (Standardises(), "alone and .* among the others"),
    checks.proposals_are_positions: (ProposesBeyond(), "propose gave a position that is not there"),
    checks.a_loaded_scorer_scores_the_same: (LosesItself(), "a loaded scorer scores other than the saved one"),
}


@pytest.mark.parametrize("check", list(yield_scorer_checks()), ids=lambda check: check.__name__)
def test_check_catches_a_scorer_that_breaks_the_promise(check: checks.PartCheck) -> None:
    scorer, sentence = SCORERS[check]
    with pytest.raises(AssertionError, match=sentence):
        check(scorer, np.random.default_rng(7), REQUEST, CANDIDATES)


def test_check_scorer_is_one_line() -> None:
    check_scorer(ColumnScorer())
    with pytest.raises(AssertionError, match="column-score@1 breaks a promise, 'candidates are scored one by one'"):
        check_scorer(Standardises())
