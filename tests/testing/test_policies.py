"""Each check of a policy fails on a policy that breaks just that promise."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from matinee.draw import SOFTMAX, Component
from matinee.policies import Candidates, Epsilon, Greedy, Mixture, Policy, Request, Scores, Softmax, Thompson, Uniform
from matinee.testing import ColumnScorer, check_policy, yield_policy_checks
from matinee.testing import policies as checks

SCORER = ColumnScorer()
WHOLE = [
    Uniform(),
    Greedy(SCORER),
    Epsilon(SCORER, 0.2),
    Softmax(SCORER, 0.5, floor=0.1),
    Thompson(SCORER),
    Mixture({Softmax(SCORER, 0.3): 0.7, Uniform(): 0.3}),
]


@pytest.mark.parametrize("policy", WHOLE, ids=repr)
@pytest.mark.parametrize("check", list(yield_policy_checks()), ids=lambda check: check.__name__)
def test_shipped_policies_keep_their_promises(policy: Policy, check: checks.PolicyCheck) -> None:
    check(policy, np.random.default_rng(7))


class Own(Policy):
    """A policy of one's own that keeps every promise: softmax by hand."""

    kind: ClassVar[str] = "own"

    def __init__(self) -> None:
        self.scorer = SCORER

    def distribution(self, scores: Scores, allowed: Any) -> Any:
        w = np.exp(scores.mean[allowed] - scores.mean[allowed].max())
        return w / w.sum()


class SumsToLess(Own):
    def distribution(self, scores: Scores, allowed: Any) -> Any:
        return super().distribution(scores, allowed) * 0.99


class NeverQuiteSure(Own):
    def distribution(self, scores: Scores, allowed: Any) -> Any:
        p = super().distribution(scores, allowed)
        return p if len(p) > 1 else np.array([1 - 1e-12])


class LikesTheFirst(Own):
    def distribution(self, scores: Scores, allowed: Any) -> Any:
        p = super().distribution(scores, allowed) / 2
        p[0] += 0.5
        return p


class LooksAtTheMasked(Own):
    def distribution(self, scores: Scores, allowed: Any) -> Any:
        w = np.exp((scores.mean - scores.mean.max())[allowed] / (1 + scores.mean.std()))
        return w / w.sum()


class Overflows(Own):
    def distribution(self, scores: Scores, allowed: Any) -> Any:
        with np.errstate(all="ignore"):
            w = np.exp(scores.mean[allowed])
            return w / w.sum()


class Sorts(Own):
    def distribution(self, scores: Scores, allowed: Any) -> Any:
        p = super().distribution(scores, allowed)
        scores.mean.sort()
        return p


class DrawsFromAnother(Own):
    def components(self, request: Request, candidates: Candidates) -> list[Component]:
        return [Component(1.0, SOFTMAX, 2 * candidates.columns["score"])]


class Alternates(Own):
    calls = 0

    def components(self, request: Request, candidates: Candidates) -> list[Component]:
        Alternates.calls += 1
        return [Component(1.0, SOFTMAX, candidates.columns["score"] * (Alternates.calls % 7))]


class DescribesItselfInArrays(Own):
    def spec(self) -> dict[str, Any]:
        return {"kind": self.kind, "weights": (1, 2)}


class TalksAtLength(Own):
    def __repr__(self) -> str:
        return "TalksAtLength(" + "na " * 100 + ")"


BROKEN: dict[Any, tuple[Any, str]] = {
    checks.propensities_sum_to_one: (SumsToLess(), "the distribution sums to 0.9"),
    checks.one_candidate_is_certain: (NeverQuiteSure(), "the only allowed candidate has chance"),
    checks.order_of_candidates_has_no_influence: (LikesTheFirst(), "chances change with the order"),
    checks.masked_candidates_have_no_influence: (LooksAtTheMasked(), "a masked candidate's score changes the chances"),
    checks.extreme_scores_are_no_trouble: (Overflows(), "is not finite"),
    checks.scores_are_not_mutated: (Sorts(), "changed the arrays it was given"),
    checks.the_draw_uses_the_stated_distribution: (DrawsFromAnother(), "the draw and `distribution` disagree"),
    checks.same_numbers_same_choice: (Alternates(), "the same numbers gave"),
    checks.spec_builds_the_same_policy: (DescribesItselfInArrays(), "spec is not plain JSON"),
    checks.repr_is_short: (TalksAtLength(), "must be one line of at most 200"),
}


@pytest.mark.parametrize("check", list(BROKEN), ids=lambda check: check.__name__)
def test_check_catches_a_policy_that_breaks_the_promise(check: checks.PolicyCheck) -> None:
    policy, sentence = BROKEN[check]
    with pytest.raises(AssertionError, match=sentence):
        check(policy, np.random.default_rng(7))


def test_frequencies_are_held_against_what_is_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    from matinee import draw

    fill = draw.fill_slots

    def skewed(*args: Any, uniforms: Any = None, **given: Any) -> Any:
        return fill(*args, uniforms=None if uniforms is None else uniforms**2, **given)

    monkeypatch.setattr(draw, "fill_slots", skewed)
    with pytest.raises(AssertionError, match="candidates are drawn with frequencies"):
        checks.each_is_chosen_as_often_as_stated(Softmax(SCORER), np.random.default_rng(7))


def test_a_policy_of_one_s_own_is_checked_in_one_line() -> None:
    check_policy(Own())
    check_policy(Mixture({Own(): 0.5, Epsilon(SCORER): 0.5}))
    with pytest.raises(AssertionError, match=r"SumsToLess\(.*\) breaks a promise, 'propensities sum to one'"):
        check_policy(SumsToLess(), np.random.default_rng(1))
