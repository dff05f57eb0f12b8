"""The log-linear chain against its formula; explanations add up."""

from __future__ import annotations

import numpy as np
import pytest

from matinee.domains.personalization.recommenders import Chain, Histories
from matinee.domains.personalization.recommenders.lifts import Lifts


def wandering(members: int = 300, titles: int = 15) -> Histories:
    """Each member goes one or two titles on, now and then to anywhere."""
    rng = np.random.default_rng(2)
    sequences = []
    for _ in range(members):
        at, walk = int(rng.integers(titles)), []
        for _ in range(int(rng.integers(3, 12))):
            walk.append(at)
            at = (
                int((at + rng.integers(1, 3)) % titles)
                if rng.random() < 0.8
                else int((at + rng.integers(1, titles)) % titles)
            )
        sequences.append(walk)
    return Histories.of_sequences(sequences)


def test_scores_are_the_weighted_lifts() -> None:
    histories = wandering()
    model = Chain(bands=((1, 1), (2, 3))).fit(histories)
    lifts = Lifts.of(histories, ((1, 1), (2, 3)))
    table, n = lifts.table().toarray(), len(histories.titles)
    history = [3, 7, 1, 2]
    want = model.weights[0] * lifts.plays + model.weights[1] * table[2]
    want = want + model.weights[2] * (table[n + 1] + table[n + 7])
    assert model.scores(history) == pytest.approx(want, abs=1e-5)


def test_near_lags_count_most_and_what_follows_comes_first() -> None:
    model = Chain().fit(wandering())
    assert model.weights[1] == max(model.weights[1:])
    assert set(model.recommend([9, 10], 2)[0].tolist()) == {11, 12}


def test_the_explanation_adds_up_to_what_the_history_adds() -> None:
    model = Chain().fit(wandering())
    history = [4, 9, 10]
    for title in (11, 0, 14):
        terms = model.explain(history, title)
        added = float(model.scores(history)[title] - model.scores([])[title])
        assert sum(v for _, v in terms) == pytest.approx(added, abs=1e-4)
