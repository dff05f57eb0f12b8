"""What every policy promises: a known chance for each allowed candidate, and nothing else."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from matinee.exceptions import UnknownNameError
from matinee.testing.running import expect, run

if TYPE_CHECKING:
    from matinee.policies import Candidates, Policy, Request, Scores

Array = np.ndarray[Any, Any]
PolicyCheck = Callable[["Policy", np.random.Generator], None]

MOMENT = datetime(2026, 11, 22, 18, 30, tzinfo=UTC)
_WORLDS = 12


class ColumnScorer:
    """A scorer that reads its scores from columns of the candidates: for trying policies out.

    Args:
        mean: Column with the scores.
        std: Column with their standard deviations, for policies that draw from beliefs.
    """

    def __init__(self, mean: str = "score", std: str | None = "std") -> None:
        self.mean, self.std = mean, std
        self.name = f"column-{mean}@1"
        self.needs = ()

    def score(self, request: Request, candidates: Candidates) -> Scores:
        """The columns, as they are."""
        from matinee.policies import Scores

        std = None if self.std is None else candidates.columns[self.std]
        return Scores(candidates.columns[self.mean], std)


def example_request() -> Request:
    """A request with some context and no features."""
    from matinee.policies import Request

    return Request("home", 42, MOMENT, {"device": "tv", "country": "DE"}, {})


def example_candidates(rng: np.random.Generator, n: int | None = None) -> Candidates:
    """Candidates with a score, its spread, a provider and a maturity rating; between 2 and 12 of them."""
    from matinee.policies import Candidates

    n = int(rng.integers(2, 13)) if n is None else n
    columns = {
        "score": rng.normal(size=n),
        "std": rng.uniform(0.05, 1.0, n),
        "provider": rng.integers(0, 3, n),
        "maturity": rng.choice([0.0, 6.0, 12.0, 16.0, 18.0], n),
    }
    return Candidates(100 + rng.permutation(n), columns)


def _policy(policy: Policy) -> Policy:
    """The same rule over a scorer that needs no studio, so that the draw can be tried with any scores."""
    again: Any = copy.copy(policy)
    if policy.scorer is not None:
        again.scorer = ColumnScorer()
    parts = getattr(policy, "parts", None)
    if isinstance(parts, Mapping):
        again.parts = {_policy(part): share for part, share in parts.items()}
    return cast("Policy", again)


def _world(rng: np.random.Generator) -> tuple[Scores, Array]:
    """Scores of some candidates, and the indices of those allowed: at least one."""
    candidates = example_candidates(rng)
    n = len(candidates)
    allowed = np.sort(rng.choice(n, int(rng.integers(1, n + 1)), replace=False))
    return ColumnScorer().score(example_request(), candidates), allowed


def _is_distribution(p: Any, n: int, what: str) -> None:
    expect(isinstance(p, np.ndarray) and p.shape == (n,), f"{what} has shape {np.shape(p)}, must be ({n},)")
    expect(bool(np.isfinite(p).all()), f"{what} is not finite: {p}")
    expect(bool((p >= 0).all()), f"{what} is negative: {p}")
    expect(abs(float(p.sum()) - 1) < 1e-9, f"{what} sums to {float(p.sum())!r}, must sum to 1")


def propensities_sum_to_one(policy: Policy, rng: np.random.Generator) -> None:
    """The distribution over the allowed is one: not negative, finite, summing to 1."""
    for _ in range(_WORLDS):
        scores, allowed = _world(rng)
        _is_distribution(policy.distribution(scores, allowed), len(allowed), "the distribution")


def one_candidate_is_certain(policy: Policy, rng: np.random.Generator) -> None:
    """When one candidate is allowed, its chance is 1."""
    scores, allowed = _world(rng)
    p = policy.distribution(scores, allowed[:1])
    expect(p.tolist() == [1.0], f"the only allowed candidate has chance {p.tolist()}, must be [1.0]")


def order_of_candidates_has_no_influence(policy: Policy, rng: np.random.Generator) -> None:
    """A candidate has the same chance wherever it stands in the list."""
    for _ in range(_WORLDS):
        scores, allowed = _world(rng)
        order = rng.permutation(len(allowed))
        p, shuffled = policy.distribution(scores, allowed), policy.distribution(scores, allowed[order])
        close = np.allclose(p[order], shuffled, rtol=1e-9, atol=1e-12)
        expect(close, f"chances change with the order of the candidates: {p[order]} against {shuffled}")


def masked_candidates_have_no_influence(policy: Policy, rng: np.random.Generator) -> None:
    """Chances among the allowed do not depend on what scores the masked ones have."""
    from matinee.policies import Scores

    for _ in range(_WORLDS):
        scores, allowed = _world(rng)
        other = scores.mean + 100.0
        other[allowed] = scores.mean[allowed]
        p, again = policy.distribution(scores, allowed), policy.distribution(Scores(other, scores.std), allowed)
        expect(np.array_equal(p, again), f"a masked candidate's score changes the chances: {p} against {again}")


def extreme_scores_are_no_trouble(policy: Policy, rng: np.random.Generator) -> None:
    """Equal, huge and tiny scores, and beliefs without spread, give a distribution."""
    from matinee.policies import Scores

    for mean in ([0.0, 0.0, 0.0], [1e12, -1e12, 0.0], [1e-300, 0.0, -1e-300], [-1e6, -1e6 + 1, -1e6 - 1]):
        for std in ([1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1e-9, 1.0, 1e6]):
            p = policy.distribution(Scores(np.array(mean), np.array(std)), np.arange(3))
            _is_distribution(p, 3, f"the distribution over scores {mean} with spread {std}")


def scores_are_not_mutated(policy: Policy, rng: np.random.Generator) -> None:
    """The scores are left as they were."""
    scores, allowed = _world(rng)
    assert scores.std is not None
    before = scores.mean.copy(), scores.std.copy(), allowed.copy()
    policy.distribution(scores, allowed)
    same = all(np.array_equal(a, b) for a, b in zip(before, (scores.mean, scores.std, allowed), strict=True))
    expect(same, "distribution changed the arrays it was given")


def the_draw_uses_the_stated_distribution(policy: Policy, rng: np.random.Generator) -> None:
    """The first slot is drawn from `distribution` over the allowed; masked candidates have no chance in any slot."""
    from matinee.draw import fill_slots

    policy = _policy(policy)
    for _ in range(_WORLDS):
        candidates = example_candidates(rng)
        mask = rng.random(len(candidates)) < 0.7
        mask[rng.integers(len(candidates))] = True
        parts = policy.components(example_request(), candidates)
        slots = int(rng.integers(1, 4))
        picked, chance, matrix = fill_slots(parts, mask, slots, uniforms=rng.random(slots), full=True)
        expect(len(picked) == min(slots, int(mask.sum())), f"{len(picked)} slots were filled, must be all that can be")
        expect(len(set(picked.tolist())) == len(picked), f"a candidate was chosen twice: {picked.tolist()}")
        expect(bool(mask[picked].all()), f"a masked candidate was chosen: {picked.tolist()} under {mask.tolist()}")
        expect(not matrix[:, ~mask].any(), "a masked candidate has a chance")
        stated = policy.distribution(ColumnScorer().score(example_request(), candidates), np.flatnonzero(mask))
        expect(np.allclose(matrix[0][mask], stated, rtol=1e-9, atol=1e-12), "the draw and `distribution` disagree")
        for k in range(len(picked)):
            _is_distribution(matrix[k], len(candidates), f"the distribution of slot {k}")
            expect(
                chance[k] == matrix[k, picked[k]],
                f"slot {k} logs {chance[k]!r}, was drawn with {matrix[k, picked[k]]!r}",
            )
        walked = fill_slots(parts, mask, slots, forced=picked)[1]
        expect(np.array_equal(walked, chance), "walking a logged slate gives other chances than drawing it did")


def each_is_chosen_as_often_as_stated(policy: Policy, rng: np.random.Generator) -> None:
    """Over evenly spread numbers, each candidate is drawn in proportion to its chance."""
    from matinee.draw import fill_slots

    policy, candidates = _policy(policy), example_candidates(rng, 5)
    mask = np.array([True, True, False, True, True])
    parts = policy.components(example_request(), candidates)
    stated = fill_slots(parts, mask, 1, uniforms=np.zeros(1), full=True)[2][0]
    draws = 300
    seen = np.zeros(5)
    for i in range(draws):
        seen[fill_slots(parts, mask, 1, uniforms=np.array([(i + 0.5) / draws]))[0][0]] += 1
    worst = float(np.abs(seen / draws - stated).max())
    expect(worst <= 2 / draws, f"candidates are drawn with frequencies {seen / draws}, stated {stated}")


def same_numbers_same_choice(policy: Policy, rng: np.random.Generator) -> None:
    """The same request, candidates and uniform numbers give the same choice and the same chances."""
    from matinee.draw import fill_slots

    policy, candidates, numbers = _policy(policy), example_candidates(rng), rng.random(3)
    mask = np.ones(len(candidates), np.bool_)

    def once() -> tuple[list[int], list[float]]:
        picked, chance, _ = fill_slots(policy.components(example_request(), candidates), mask, 3, uniforms=numbers)
        return picked.tolist(), chance.tolist()

    first, second = once(), once()
    expect(first == second, f"the same numbers gave {first} and then {second}")


def spec_builds_the_same_policy(policy: Policy, rng: np.random.Generator) -> None:
    """`spec` is plain JSON; for a registered kind it builds a policy with the same spec and the same chances."""
    from matinee.policies import from_spec

    spec = policy.spec()
    expect(json.loads(json.dumps(spec)) == spec, f"spec is not plain JSON: {spec}")
    named = {scorer.name: scorer for scorer in policy.scorers()}
    try:
        again = from_spec(json.loads(json.dumps(spec)), named.__getitem__)
    except UnknownNameError:  # a kind of one's own, alone or in a mixture, that is not in KINDS
        return
    expect(again.spec() == spec, f"the policy built from the spec has another: {again.spec()}")
    scores, allowed = _world(rng)
    same = np.array_equal(again.distribution(scores, allowed), policy.distribution(scores, allowed))
    expect(same, "the policy built from the spec gives other chances")


def repr_is_short(policy: Policy, rng: np.random.Generator) -> None:
    """The repr is one line of at most 200 characters that names the class."""
    shown = repr(policy)
    expect(type(policy).__name__ in shown, f"repr {shown[:80]!r} does not name its class")
    expect(
        len(shown) <= 200 and "\n" not in shown, f"repr has {len(shown)} characters, must be one line of at most 200"
    )


def yield_policy_checks() -> Iterator[PolicyCheck]:
    """Every check of a policy; each takes the policy and a generator."""
    yield propensities_sum_to_one
    yield one_candidate_is_certain
    yield order_of_candidates_has_no_influence
    yield masked_candidates_have_no_influence
    yield extreme_scores_are_no_trouble
    yield scores_are_not_mutated
    yield the_draw_uses_the_stated_distribution
    yield each_is_chosen_as_often_as_stated
    yield same_numbers_same_choice
    yield spec_builds_the_same_policy
    yield repr_is_short


def check_policy(policy: Policy, rng: np.random.Generator | None = None) -> None:
    """Run every check on a policy of your own. Its rule is tried, not its scorer: see `check_scorer`.

    Raises:
        AssertionError: At the first promise that is broken, with the promise and what was seen.

    Example:
        >>> from matinee.policies import Softmax
        >>> check_policy(Softmax(ColumnScorer(), temperature=0.5))
    """
    run(yield_policy_checks(), policy, rng)
