"""Policies choose within the allowed set, with a known probability."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee import testing
from matinee.draw import fill_slots
from matinee.exceptions import DeclarationError, MatineeError, UnknownNameError
from matinee.policies import (
    Candidates,
    Epsilon,
    Greedy,
    Mixture,
    Policy,
    Request,
    Scores,
    Softmax,
    Thompson,
    Uniform,
    from_spec,
    probability_of_best,
)

REQUEST = Request("home", 42, datetime(2026, 11, 22, tzinfo=UTC), {}, {})


class Fixed:
    """A scorer with given scores."""

    name = "fixed@1"
    needs = ()

    def __init__(self, mean: list[float], std: list[float] | None = None) -> None:
        self.mean, self.std = np.array(mean), None if std is None else np.array(std)

    def score(self, request: Request, candidates: Candidates) -> Scores:
        return Scores(self.mean[: len(candidates)], None if self.std is None else self.std[: len(candidates)])


def candidates(n: int) -> Candidates:
    return Candidates(np.arange(n), {})


SCORER = Fixed([0.5, 1.5, -0.5, 1.0], [0.2, 0.5, 0.1, 0.3])
POLICIES = [
    Uniform(),
    Greedy(SCORER),
    Epsilon(SCORER, 0.2),
    Softmax(SCORER, 0.5),
    Softmax(SCORER, 0.5, floor=0.1),
    Thompson(SCORER),
    Mixture({Softmax(SCORER, 0.3): 0.7, Uniform(): 0.3}),
]


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_policy_conforms(policy: Policy) -> None:
    testing.check_policy(policy, np.random.default_rng(7))


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_the_draw_uses_the_distribution_the_policy_states(policy: Policy) -> None:
    allowed = np.array([True, False, True, True])
    _, _, matrix = fill_slots(policy.components(REQUEST, candidates(4)), allowed, 1, uniforms=np.zeros(1), full=True)
    stated = policy.distribution(SCORER.score(REQUEST, candidates(4)), np.flatnonzero(allowed))
    assert np.allclose(matrix[0][allowed], stated)
    assert matrix[0][1] == 0


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_spec_builds_the_same_policy(policy: Policy) -> None:
    again = from_spec(policy.spec(), lambda _name: SCORER)
    assert again.spec() == policy.spec()
    where = np.arange(4)
    scores = SCORER.score(REQUEST, candidates(4))
    assert np.allclose(again.distribution(scores, where), policy.distribution(scores, where))


def test_probability_of_best_agrees_with_simulation_and_sums_to_one() -> None:
    mean, std = np.array([0.0, 0.3, 1.0, -2.0]), np.array([1.0, 0.2, 0.05, 3.0])
    p = probability_of_best(mean, std)
    rng = np.random.default_rng(0)
    seen = np.bincount(np.argmax(rng.normal(mean, std, (400_000, 4)), axis=1), minlength=4) / 400_000
    assert p.sum() == pytest.approx(1)
    assert np.abs(p - seen).max() < 0.003


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 4)), min_size=1, max_size=8))
def test_probability_of_best_is_a_distribution(beliefs: list[tuple[float, float]]) -> None:
    p = probability_of_best(np.array([m for m, _ in beliefs]), np.array([s for _, s in beliefs]))
    assert np.isfinite(p).all()
    assert (p >= 0).all()
    assert p.sum() == pytest.approx(1)


def test_thompson_without_spread_says_what_it_needs() -> None:
    with pytest.raises(DeclarationError, match="must have a scorer whose scores carry `std`"):
        Thompson(Fixed([1.0, 2.0])).distribution(Scores(np.array([1.0, 2.0])), np.arange(2))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Epsilon(SCORER, 1.4), "epsilon == 1.4, must be <= 1"),
        (lambda: Softmax(SCORER, 0), "temperature == 0.0, must be > 0"),
        (lambda: Softmax(SCORER, float("nan")), "temperature == nan, must be a number"),
        (lambda: Mixture({Uniform(): 0.5}), "shares sum to 0.5, must sum to 1"),
        (lambda: Mixture({}), "must hold at least one policy"),
    ],
)
def test_bad_parameters_say_what_would_be_right(make: object, words: str) -> None:
    with pytest.raises(MatineeError, match=words):
        make()  # type: ignore[operator]


def test_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'softmax'"):
        from_spec({"kind": "softmaxx"}, lambda _n: SCORER)


@pytest.mark.parametrize("scores", [[1.0, float("nan")], [float("inf"), 0.0]])
def test_scores_that_are_not_finite_are_refused(scores: list[float]) -> None:
    with pytest.raises(MatineeError, match="gave 1 scores that are not finite"):
        Softmax(Fixed(scores)).components(REQUEST, candidates(2))


def test_scores_of_a_wrong_shape_are_refused() -> None:
    with pytest.raises(MatineeError, match=r"must be \(5,\): one score a candidate"):
        Softmax(Fixed([1.0, 2.0])).components(REQUEST, candidates(5))


def test_candidates_at_positions_have_their_columns_taken_when_read() -> None:
    given_ = Candidates(np.array([10, 20, 30]), {"a": np.array([1.0, 2.0, 3.0]), "b": np.arange(6).reshape(3, 2)})
    some = given_.take(np.array([2, 0]))
    assert some.ids.tolist() == [30, 10]
    assert list(some.columns) == ["a", "b"]
    assert len(some.columns) == 2
    assert "a" in some.columns
    assert "c" not in some.columns
    assert some.columns.get("c") is None
    assert some.columns["b"].tolist() == [[4, 5], [0, 1]]
    assert some.columns["a"] is some.columns["a"]
    assert {**some.take(np.array([1])).columns}["a"].tolist() == [1.0]
    assert given_.take(np.array([False, True, False])).ids.tolist() == [20]
