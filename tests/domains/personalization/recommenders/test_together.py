"""The closed-form autoencoders against plain matrix algebra, and on a checkerboard."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tests.domains.personalization.recommenders.test_gram import written_out
from tests.domains.personalization.recommenders.worlds import checkerboard, frame

import matinee as mt
from matinee.domains.personalization.recommenders import Histories, Together
from matinee.domains.personalization.recommenders.conformance import check_recommender


@pytest.mark.parametrize("make", [Together, Together.ease, Together.dlae, Together.edlae])
def test_on_a_checkerboard_the_withheld_title_comes_first(make: Callable[[], Together]) -> None:
    rows = checkerboard()
    model = make().fit(Histories.of(rows))
    histories = Histories.of(rows)
    for i, member in enumerate(histories.members.tolist()):
        seen = histories.titles[histories.items[histories.offsets[i] : histories.offsets[i + 1]]]
        scores = model.scores(seen.tolist())
        scores[np.isin(model.titles, seen)] = -np.inf
        lacking = [t for t in range(12) if t % 2 == member % 2 and t not in seen]
        assert model.titles[scores.argmax()] == lacking[0]


def some() -> Histories:
    rng = np.random.default_rng(0)
    rows = [(m, int(t), k) for m in range(60) for k, t in enumerate(rng.permutation(8)[: rng.integers(2, 7)])]
    return Histories.of(frame(rows))


def without_diagonal(matrix: np.ndarray) -> np.ndarray:
    return np.asarray(matrix - np.diag(np.diag(matrix)))


def test_together_is_its_closed_form() -> None:
    histories = some()
    g = written_out(histories, 0.6, 0.5, 30.0)
    penalty = 0.33 / 0.67 * np.diag(g) + max(300 * len(histories.items) / 400_000, 1.0)
    want = np.eye(8) - np.linalg.inv(g + np.diag(penalty)) @ np.diag(penalty)
    assert Together().fit(histories).weights == pytest.approx(without_diagonal(want), abs=2e-4)


def test_dlae_minimises_the_expected_error_under_dropout() -> None:
    histories = some()
    g = written_out(histories, 0.0, 0.0, 30.0)
    # The normal equations of |X - Z B|^2 + l |B|^2 over dropout masks Z of X, divided by (1 - p)^2: their solution
    # predicts from a whole history, so B comes out (1 - p) times smaller than for a thinned one.
    p, ridge = 0.25, 2.0
    expected = (1 - p) ** 2 * g + p * (1 - p) * np.diag(np.diag(g))
    want = np.linalg.solve(expected + (1 - p) ** 2 * ridge * np.eye(8), (1 - p) ** 2 * g)
    assert Together.dlae(p, ridge).fit(histories).weights == pytest.approx(without_diagonal(want), abs=2e-4)


@pytest.mark.parametrize(("p", "ridge"), [(0.0, 3.0), (0.4, 2.0)])
def test_ease_and_edlae_predict_each_title_from_the_others(p: float, ridge: float) -> None:
    histories = some()
    g = written_out(histories, 0.0, 0.0, 30.0)
    penalised = g + np.diag(p / (1 - p) * np.diag(g) + ridge)
    want = np.zeros((8, 8))
    for j in range(8):
        others = [i for i in range(8) if i != j]
        want[others, j] = np.linalg.solve(penalised[np.ix_(others, others)], g[others, j])
    model = Together.edlae(p, ridge) if p else Together.ease(ridge)
    assert model.fit(histories).weights == pytest.approx(want, abs=2e-4)


def test_a_title_counts_once_however_often_it_came() -> None:
    model = Together.ease().fit(Histories.of_sequences([[1, 2, 1, 2, 1, 3], [1, 2]]))
    assert model.weights == pytest.approx(Together.ease().fit(Histories.of_sequences([[1, 2, 3], [2, 1]])).weights)
    assert np.array_equal(model.scores([1, 1, 2]), model.scores([2, 1]))


def test_titles_of_few_plays_are_left_out() -> None:
    histories = Histories.of_sequences([[1, 2], [1, 2], [2, 1], [1, 2, 3]])
    assert Together().fit(histories).titles.tolist() == [1, 2]
    assert Together(fewest=1).fit(histories).titles.tolist() == [1, 2, 3]


def test_contributions_add_up_to_the_score() -> None:
    histories = some()
    model = Together().fit(histories)
    history = histories.history(3)
    found = model.explain(history, 5)
    assert sum(v for _, v in found) == pytest.approx(float(model.scores(history)[5]), abs=1e-5)


@pytest.mark.parametrize("make", [Together.ease, Together.dlae, Together.edlae])
def test_each_keeps_the_promises_of_a_recommender(make: Callable[[], Together]) -> None:
    check_recommender(make)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dropout": 1.0}, "dropout == 1.0, must be < 1"),
        ({"ridge": 0.0}, "ridge == 0.0, must be > 0"),
        ({"near": 1.5}, "near == 1.5, must be <= 1"),
        ({"span": 0.0}, "span == 0.0, must be > 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], said: str) -> None:
    with pytest.raises(mt.MatineeError, match=said):
        Together(**settings)  # type: ignore[arg-type]
