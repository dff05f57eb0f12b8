"""Weights of evidence: found again where they are known."""

from __future__ import annotations

import numpy as np
import pytest

import matinee as mt
from matinee.domains.personalization.recommenders import Histories
from matinee.domains.personalization.recommenders.logit import learn_weights

TITLES = 40


def world(weights: list[float], members: int = 1000) -> tuple[Histories, list[np.ndarray]]:
    """Members who play one title, then another drawn by a logit of evidence with these weights."""
    rng = np.random.default_rng(5)
    evidence = [rng.normal(size=(members, TITLES)).astype(np.float32) for _ in weights]
    z = sum(w * e for w, e in zip(weights, evidence, strict=True)) + rng.gumbel(size=(members, TITLES))
    first = rng.integers(0, TITLES, members)
    z[np.arange(members), first] = -np.inf
    last = z.argmax(axis=1)
    everything = Histories.of_sequences([*zip(first.tolist(), last.tolist(), strict=True)])
    assert len(everything.titles) == TITLES
    return everything, evidence


def test_weights_are_found_again() -> None:
    weights = [1.0, -0.5, 0.0]
    histories, evidence = world(weights)

    def of(some: Histories) -> list[np.ndarray]:
        assert (some.lengths == 1).all()  # the newest title is not shown
        return [e[some.members] for e in evidence]

    assert learn_weights(of, histories, sources=3) == pytest.approx(weights, abs=0.12)
    # Which unit evidence is measured in has no influence on what it adds.
    again = learn_weights(lambda some: [1000 * e[some.members] for e in evidence], histories, sources=3)
    assert 1000 * again == pytest.approx(learn_weights(of, histories, sources=3), abs=0.01)


def test_nobody_with_two_events_is_said_so() -> None:
    with pytest.raises(mt.MatineeError, match="no history has two events"):
        learn_weights(lambda some: [], Histories.of_sequences([[1], [2]]), sources=1)
