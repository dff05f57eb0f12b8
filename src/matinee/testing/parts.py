"""What every guard and every scorer promises: a pure function of the request, one answer a candidate."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from matinee.testing.policies import example_candidates, example_request
from matinee.testing.running import expect, run

if TYPE_CHECKING:
    from matinee.guards import Guard
    from matinee.policies import Candidates, Request, Scorer, Scores

Array = np.ndarray[Any, Any]
PartCheck = Callable[[Any, np.random.Generator, "Request", "Candidates"], None]


def _copied(candidates: Candidates) -> Candidates:
    return type(candidates)(candidates.ids.copy(), {n: np.array(c, copy=True) for n, c in candidates.columns.items()})


def _unchanged(before: Candidates, after: Candidates) -> bool:
    pairs = [(before.ids, after.ids), *((before.columns[n], after.columns[n]) for n in before.columns)]
    # Floats are compared as bytes, so that NaN equals NaN; arrays of objects have no bytes to compare.
    return before.columns.keys() == after.columns.keys() and all(
        a.tolist() == b.tolist() if a.dtype.kind == "O" else a.tobytes() == b.tobytes() for a, b in pairs
    )


def _described(part: Any) -> str:
    return str(getattr(part, "name", None) or type(part).__name__)


def name_and_reason_are_text(guard: Guard, rng: np.random.Generator, request: Request, candidates: Candidates) -> None:
    """A guard has a name, which the record carries, and a reason, which a person reads."""
    for what in ("name", "reason"):
        text = getattr(guard, what, None)
        expect(isinstance(text, str) and bool(text.strip()), f"{what} is {text!r}, must be text that is not empty")
        expect("\n" not in str(text) and len(str(text)) <= 200, f"{what} must be one line of at most 200 characters")


def mask_is_one_bool_a_candidate(
    guard: Guard, rng: np.random.Generator, request: Request, candidates: Candidates
) -> None:
    """The mask is a bool array with one entry a candidate; no candidates, an empty mask."""
    for some in (candidates, candidates.take(np.arange(0))):
        mask = guard.mask(request, some)
        expect(isinstance(mask, np.ndarray), f"mask gave {type(mask).__name__}, must give a NumPy array")
        expect(mask.dtype == np.bool_, f"mask gave {mask.dtype}, must give bool")
        expect(mask.shape == (len(some),), f"mask gave shape {mask.shape} for {len(some)} candidates")


def inputs_are_not_mutated(guard: Guard, rng: np.random.Generator, request: Request, candidates: Candidates) -> None:
    """The guard leaves request and candidates as they were."""
    before, context = _copied(candidates), copy.deepcopy((dict(request.context), dict(request.features)))
    guard.mask(request, candidates)
    if hasattr(guard, "limit"):
        guard.limit(request, candidates)
    expect(_unchanged(before, candidates), "the guard changed the candidates")
    expect((dict(request.context), dict(request.features)) == context, "the guard changed the request")


def same_request_same_mask(guard: Guard, rng: np.random.Generator, request: Request, candidates: Candidates) -> None:
    """The mask depends on request and candidates alone: not on what was asked before, nor on a copy being asked."""
    first = guard.mask(request, candidates)
    guard.mask(replace(request, unit="somebody else", context={}), candidates.take(rng.permutation(len(candidates))))
    expect(np.array_equal(guard.mask(request, candidates), first), "the same request got another mask the second time")
    expect(
        np.array_equal(copy.deepcopy(guard).mask(request, _copied(candidates)), first), "a copy of the guard disagrees"
    )


def mask_is_a_function_of_what_is_logged(
    guard: Guard, rng: np.random.Generator, request: Request, candidates: Candidates
) -> None:
    """A request whose context went through the log (JSON) gets the same mask: the checker will see no other."""
    logged = replace(request, context=json.loads(json.dumps(dict(request.context), default=str)))
    same = np.array_equal(guard.mask(logged, candidates), guard.mask(request, candidates))
    expect(same, "the mask changes when the context has been through JSON")


def candidates_are_judged_one_by_one(
    guard: Guard, rng: np.random.Generator, request: Request, candidates: Candidates
) -> None:
    """Whether a candidate is allowed depends neither on its place nor on the other candidates."""
    mask = guard.mask(request, candidates)
    order = rng.permutation(len(candidates))
    shuffled = guard.mask(request, candidates.take(order))
    expect(np.array_equal(shuffled, mask[order]), "the mask changes with the order of the candidates")
    for i in range(len(candidates)):
        alone = guard.mask(request, candidates.take(np.array([i])))
        expect(alone.tolist() == [mask[i]], f"candidate {candidates.ids[i]!r} is judged otherwise when it is alone")


def limit_groups_every_candidate(
    guard: Guard, rng: np.random.Generator, request: Request, candidates: Candidates
) -> None:
    """A between-slots limit is at least 1 and gives each candidate a group, the same whatever the order."""
    if not hasattr(guard, "limit") or (limit := guard.limit(request, candidates)) is None:
        return
    codes = np.asarray(limit.codes)
    expect(codes.shape == (len(candidates),), f"limit gave {codes.shape} group codes for {len(candidates)} candidates")
    expect(codes.dtype.kind in "iu", f"group codes are {codes.dtype}, must be integers")
    expect(limit.limit >= 1, f"limit is {limit.limit}, must be at least 1")
    order = rng.permutation(len(candidates))
    shuffled = np.asarray(guard.limit(request, candidates.take(order)).codes)
    expect(np.array_equal(_together(shuffled), _together(codes[order])), "groups change with the order of candidates")


def _together(codes: Array) -> Array:
    """Which pairs are in one group; codes themselves are only labels, and -1 is in none."""
    return np.asarray((codes[:, None] == codes[None, :]) & (codes[:, None] >= 0))


def yield_guard_checks() -> Iterator[PartCheck]:
    """Every check of a guard; each takes the guard, a generator, a request and candidates."""
    yield name_and_reason_are_text
    yield mask_is_one_bool_a_candidate
    yield inputs_are_not_mutated
    yield same_request_same_mask
    yield mask_is_a_function_of_what_is_logged
    yield candidates_are_judged_one_by_one
    yield limit_groups_every_candidate


def check_guard(
    guard: Guard,
    rng: np.random.Generator | None = None,
    *,
    request: Request | None = None,
    candidates: Candidates | None = None,
) -> None:
    """Run every check on a guard of your own.

    Args:
        guard: What is checked.
        rng: Where the checks draw from.
        request, candidates: What it is asked about, where it reads columns or features the examples do not have. Give
            candidates of which some are allowed and some are not.

    Raises:
        AssertionError: At the first promise that is broken, with the promise and what was seen.

    Example:
        >>> from matinee.guards import maturity
        >>> check_guard(maturity(default=12))
    """
    run(yield_guard_checks(), guard, rng, *_asked(request, candidates), label=_described(guard))


def _asked(request: Request | None, candidates: Candidates | None) -> tuple[Request, Candidates]:
    some = example_candidates(np.random.default_rng(3), 8) if candidates is None else candidates
    return request or example_request(), some


def _close(one: Array | None, other: Array | None) -> bool:
    # Scorers may sum in another order for another number of candidates, and some do so in float32.
    if one is None or other is None:
        return one is other
    return np.allclose(one, other, rtol=1e-5, atol=1e-6 * max(1.0, float(np.abs(one).max(initial=0.0))))


def _subset(scores: Scores, index: Array) -> tuple[Array, Array | None]:
    return np.asarray(scores.mean)[index], None if scores.std is None else np.asarray(scores.std)[index]


def scores_are_finite_numbers_one_a_candidate(
    scorer: Scorer, rng: np.random.Generator, request: Request, candidates: Candidates
) -> None:
    """Means are finite numbers, one a candidate; standard deviations, if there are any, are not negative."""
    scores = scorer.score(request, candidates)
    for what, values in (("mean", scores.mean), ("std", scores.std)):
        if what == "std" and values is None:
            continue
        values = np.asarray(values)
        expect(values.shape == (len(candidates),), f"{what} has shape {values.shape} for {len(candidates)} candidates")
        expect(values.dtype.kind in "fiu", f"{what} holds {values.dtype}, must hold numbers")
        expect(bool(np.isfinite(values).all()), f"{what} holds values that are not finite")
    expect(scores.std is None or bool((np.asarray(scores.std) >= 0).all()), "std is negative")


def scorer_has_a_name_and_needs(
    scorer: Scorer, rng: np.random.Generator, request: Request, candidates: Candidates
) -> None:
    """A scorer has a name, which the record carries, and says which features it reads."""
    from matinee.features import Features

    expect(isinstance(scorer.name, str), f"name is {scorer.name!r}, must be text")
    needs = list(scorer.needs)
    expect(all(isinstance(n, Features) for n in needs), f"needs is {needs!r}, must be a list of Features")


def scoring_leaves_inputs_as_they_were(
    scorer: Scorer, rng: np.random.Generator, request: Request, candidates: Candidates
) -> None:
    """The scorer leaves request and candidates as they were."""
    before, context = _copied(candidates), copy.deepcopy((dict(request.context), dict(request.features)))
    scorer.score(request, candidates)
    expect(_unchanged(before, candidates), "the scorer changed the candidates")
    expect((dict(request.context), dict(request.features)) == context, "the scorer changed the request")


def same_request_same_scores(
    scorer: Scorer, rng: np.random.Generator, request: Request, candidates: Candidates
) -> None:
    """The same request and candidates get the same scores, to the bit, whatever was asked between."""
    first = scorer.score(request, candidates)
    mean = np.array(first.mean, copy=True)
    scorer.score(request, candidates.take(rng.permutation(len(candidates))))
    again = scorer.score(request, candidates)
    expect(np.array_equal(np.asarray(again.mean), mean), "the same request got other scores the second time")


def candidates_are_scored_one_by_one(
    scorer: Scorer, rng: np.random.Generator, request: Request, candidates: Candidates
) -> None:
    """A candidate's score depends neither on its place nor on the others: guards may take others away."""
    scores = scorer.score(request, candidates)
    order = rng.permutation(len(candidates))
    shuffled = scorer.score(request, candidates.take(order))
    mean, std = _subset(scores, order)
    expect(_close(mean, shuffled.mean) and _close(std, shuffled.std), "scores change with the order of the candidates")
    for i in rng.permutation(len(candidates))[:8].tolist():
        index = np.array([i])
        alone = scorer.score(request, candidates.take(index))
        mean, std = _subset(scores, index)
        same = _close(mean, alone.mean) and _close(std, alone.std)
        expect(same, f"candidate {candidates.ids[i]!r} scores {alone.mean} alone and {mean} among the others")


def proposals_are_positions(scorer: Scorer, rng: np.random.Generator, request: Request, candidates: Candidates) -> None:
    """A scorer that proposes some of a large catalogue gives positions in it, each once, or None for all."""
    propose = getattr(scorer, "propose", None)
    found = None if propose is None else propose(request, candidates)
    if found is None:
        return
    found = np.asarray(found)
    expect(found.dtype.kind in "iu" and found.ndim == 1, "propose must give a one-dimensional array of positions")
    expect(bool(((found >= 0) & (found < len(candidates))).all()), "propose gave a position that is not there")
    expect(len(np.unique(found)) == len(found), "propose gave a position twice")


def a_loaded_scorer_scores_the_same(
    scorer: Scorer, rng: np.random.Generator, request: Request, candidates: Candidates
) -> None:
    """A scorer that can be kept scores the same to the bit after it was saved and loaded, if it has no parts."""
    from matinee.scorers import Storable

    if not isinstance(scorer, Storable) or getattr(scorer, "parts", None):
        return
    with tempfile.TemporaryDirectory() as folder:
        scorer.save(Path(folder))
        loaded = type(scorer).load(Path(folder))
        one, other = scorer.score(request, candidates), loaded.score(request, candidates)
    same = np.array_equal(np.asarray(one.mean), np.asarray(other.mean))
    expect(same, "a loaded scorer scores other than the saved one")


def yield_scorer_checks() -> Iterator[PartCheck]:
    """Every check of a scorer; each takes the scorer, a generator, a request and candidates."""
    yield scorer_has_a_name_and_needs
    yield scores_are_finite_numbers_one_a_candidate
    yield scoring_leaves_inputs_as_they_were
    yield same_request_same_scores
    yield candidates_are_scored_one_by_one
    yield proposals_are_positions
    yield a_loaded_scorer_scores_the_same


def check_scorer(
    scorer: Scorer,
    rng: np.random.Generator | None = None,
    *,
    request: Request | None = None,
    candidates: Candidates | None = None,
) -> None:
    """Run every check on a scorer of your own.

    Args:
        scorer: What is checked.
        rng: Where the checks draw from.
        request, candidates: What it scores, where it reads columns or features the examples do not have.

    Raises:
        AssertionError: At the first promise that is broken, with the promise and what was seen.

    Example:
        >>> from matinee.testing import ColumnScorer
        >>> check_scorer(ColumnScorer("score"))
    """
    run(yield_scorer_checks(), scorer, rng, *_asked(request, candidates), label=_described(scorer))
