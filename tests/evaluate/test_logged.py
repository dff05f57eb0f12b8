"""Inputs are checked where they enter, and errors name the row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from matinee.evaluate import Logged, SlateLog, balanced, terms, unsupported_mass
from matinee.exceptions import BadInputError, MatineeError

GOOD: dict[str, Any] = {"reward": [1.0, 0.0], "propensity": [0.5, 0.5], "policy_propensity": [0.5, 1.0]}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"reward": [1.0, float("nan")]}, r"reward\[1\] == nan, must be a finite number"),
        ({"reward": [1.0, float("inf")]}, r"reward\[1\] == inf"),
        ({"reward": ["a", "b"]}, r"reward == list, must be an array of numbers"),
        ({"reward": []}, "must hold at least one row"),
        ({"propensity": [0.5]}, r"propensity.shape == \(1,\), must be \(2,\)"),
        ({"propensity": [0.5, 0.0]}, r"propensity\[1\] == 0.0, must be > 0"),
        ({"propensity": [0.5, 1.2]}, r"propensity\[1\] == 1.2, must be <= 1"),
        ({"propensity": [0.5, -0.2]}, r"propensity\[1\] == -0.2, must be > 0"),
        ({"policy_propensity": [0.5, -0.1]}, r"policy_propensity\[1\] == -0.1, must be >= 0"),
        ({"policy_propensity": [0.5, 1.5]}, "must be <= 1"),
        ({"logging_propensity": [0.0, 0.5]}, r"logging_propensity\[0\] == 0.0"),
        ({"q": [0.1, 0.2]}, "q_policy == None, must be given together with q"),
        ({"q_policy": [0.1, 0.2]}, "q == None, must be given together with q_policy"),
        ({"q": [0.1], "q_policy": [0.1, 0.2]}, "q.shape"),
        ({"cluster": ["a"]}, "cluster.shape"),
        ({"cluster": ["a", None]}, r"cluster\[1\] == None"),
        ({"cluster": [1.0, float("nan")]}, r"cluster\[1\] == nan"),
        ({"closed": [1, 0]}, "closed == int64"),
        ({"action": ["x"]}, "action.shape"),
        ({"unsupported": 1.5}, "unsupported"),
    ],
)
def test_a_bad_input_is_named(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInputError, match=says) as caught:
        Logged(**{**GOOD, **changed})
    assert isinstance(caught.value, MatineeError)


def test_inputs_are_not_changed() -> None:
    given = {name: np.array(value) for name, value in GOOD.items()}
    kept = {name: value.copy() for name, value in given.items()}
    assert Logged(**given).weights.tolist() == [1.0, 2.0]
    assert all(np.array_equal(given[name], kept[name]) for name in given)


def test_rounding_above_one_is_forgiven() -> None:
    assert Logged([1.0], [1.0 + 1e-12], [1.0]).propensity[0] == 1.0


def test_slates_ignore_what_stands_in_empty_slots() -> None:
    mask = np.array([[True, False]])
    nan = float("nan")
    log = SlateLog([[2.0, nan]], [[0.5, nan]], [[1.0, nan]], q=[[1.0, nan]], q_policy=[[1.0, nan]], mask=mask)
    assert log.reward.tolist() == [[2.0, 0.0]]
    assert log.prefix_weights.tolist() == [[2.0, 2.0]]


def test_slates_name_the_slot() -> None:
    with pytest.raises(BadInputError, match=r"propensity\[0, 1\] == 0.0"):
        SlateLog([[1.0, 1.0]], [[0.5, 0.0]], [[0.5, 0.5]])
    with pytest.raises(BadInputError, match="rows, slots"):
        SlateLog([1.0], [0.5], [0.5])  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="slot_propensity"):
        SlateLog([[1.0]], [[0.5]], [[0.5]], slot_propensity=[[0.5]])  # type: ignore[arg-type]


def test_balanced_weights_are_those_of_the_mixture() -> None:
    # 3 rows in 4 were logged by a policy that hardly shows the action; the mixture shows it more often.
    mixed = balanced([[0.1, 0.1], [0.9, 0.9]], [0.75, 0.25])
    assert mixed == pytest.approx([0.3, 0.3])
    log = Logged([1.0, 1.0], [0.1, 0.9], [0.6, 0.6], logging_propensity=mixed)
    assert log.weights == pytest.approx([2.0, 2.0])
    with pytest.raises(BadInputError, match=r"shares.sum"):
        balanced([[0.1], [0.9]], [0.5, 0.6])


def test_balanced_weights_are_unbiased_and_calmer() -> None:
    rng = np.random.default_rng(3)
    mus, shares, pi, q = (
        np.array([[0.95, 0.05], [0.2, 0.8]]),
        np.array([0.8, 0.2]),
        np.array([0.3, 0.7]),
        np.array([0.1, 0.6]),
    )
    plain, mixed = [], []
    for _ in range(300):
        who = (rng.random(500) > shares[0]).astype(int)
        action = (rng.random(500) > mus[who, 0]).astype(int)
        reward = (rng.random(500) < q[action]).astype(float)
        own, mixture = mus[who, action], balanced(mus[:, action], shares)
        plain.append(terms(Logged(reward, own, pi[action]), "ips").value)
        mixed.append(terms(Logged(reward, own, pi[action], logging_propensity=mixture), "ips").value)
    assert np.mean(mixed) == pytest.approx(float(pi @ q), abs=4 * np.std(mixed) / np.sqrt(300))
    assert np.std(mixed) < 0.7 * np.std(plain)


def test_unsupported_mass_counts_what_the_log_cannot_hold() -> None:
    policy, logging = [[0.2, 0.8], [0.5, 0.5]], [[1.0, 0.0], [0.999, 0.001]]
    assert unsupported_mass(policy, logging) == pytest.approx([0.8, 0.0])
    assert unsupported_mass(policy, logging, floor=0.01) == pytest.approx([0.8, 0.5])
