"""The contract of recommenders, and what they promise as scorers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.domains.personalization.recommenders.worlds import START, checkerboard, frame

import matinee as mt
from matinee.domains.personalization.features import recent, taste
from matinee.domains.personalization.recommenders import (
    PROPOSE,
    Blend,
    Chain,
    Following,
    Histories,
    Popular,
    Recommender,
    Staged,
    Successor,
    Together,
    load_recommender,
    top,
)
from matinee.domains.personalization.recommenders.conformance import yield_recommender_checks
from matinee.testing import check_features, check_scorer


def blend() -> Blend:
    return Blend(parts={"following": Following(), "chain": Chain()})


def staged() -> Staged:
    return Staged(first=blend(), trees=20)


KINDS = [Popular, Following, Together, Successor, Chain, blend, staged]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("check", list(yield_recommender_checks()), ids=lambda check: check.__name__)
def test_each_keeps_the_promises_of_a_recommender(kind: Callable[[], Recommender], check: Any) -> None:
    check(kind, np.random.default_rng(7))


def request(history: list[int]) -> mt.Request:
    features = {**dict.fromkeys(taste.names), "played_recently": history, "rated_recently": []}
    return mt.Request("home", 1, START, {}, features)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_keeps_the_promises_of_a_scorer(kind: Callable[[], Recommender], tmp_path: Path) -> None:
    model = kind().fit(Histories.of(checkerboard()))
    model.name = f"home-{model.kind}@1"
    check_scorer(model, request=request([2, 4]), candidates=mt.Candidates(np.arange(15), {}))
    model.save(tmp_path / "m")
    again = type(model).load(tmp_path / "m")
    assert np.array_equal(again.scores([2, 4]), model.scores([2, 4]))
    (tmp_path / "m" / "arrays.safetensors").write_bytes((tmp_path / "m" / "arrays.safetensors").read_bytes()[:40])
    with pytest.raises(mt.MatineeError, match="cut short or damaged"):
        type(model).load(tmp_path / "m")


def test_the_best_come_first_and_of_equals_the_smaller_position() -> None:
    scores = np.array([1.0, 5.0, -np.inf, 5.0, 2.0, 5.0])
    assert top(scores, 2).tolist() == [1, 3]
    assert top(scores, 4).tolist() == [1, 3, 5, 4]
    assert top(scores, 99).tolist() == [1, 3, 5, 4, 0]
    assert top(scores[:0], 3).tolist() == []


def test_a_loaded_model_is_fitted_and_not_updated(tmp_path: Path) -> None:
    histories = Histories.of(checkerboard())
    Following().fit(histories).save(tmp_path)
    with pytest.raises(mt.MatineeError, match="a saved model keeps nobody's history"):
        Following.load(tmp_path).update(histories)
    # No file holds what a member played.
    assert not any(b"learned" in path.read_bytes() for path in tmp_path.iterdir())


def test_a_file_of_a_kind_nobody_knows_is_named(tmp_path: Path) -> None:
    Popular().fit(Histories.of(checkerboard())).save(tmp_path)
    assert isinstance(load_recommender(tmp_path), Popular)
    data = (tmp_path / "arrays.safetensors").read_bytes()
    (tmp_path / "arrays.safetensors").write_bytes(data.replace(b'"popular"', b'"unheard"'))
    with pytest.raises(mt.MatineeError, match="kind == 'unheard', must be one of"):
        load_recommender(tmp_path)


def test_an_explanation_in_general_is_what_a_score_loses() -> None:
    model = Together().fit(Histories.of(checkerboard()))
    history, title = [0, 2, 4], 6
    for seen, value in Recommender.explain(model, history, title):
        without = [t for t in history if t != seen]
        assert value == pytest.approx(float(model.scores(history)[6] - model.scores(without)[6]), abs=1e-6)
    assert len(Recommender.explain(model, history, title)) == 3


def test_a_title_that_is_not_known_scores_least() -> None:
    model = Popular().fit(Histories.of(frame([(1, 10, 0), (2, 10, 1), (3, 20, 2)])))
    scores = model.score(request([]), mt.Candidates(np.array([20, 999, 10]), {})).mean
    assert scores.tolist() == pytest.approx([np.log(2), np.log(2), np.log(3)])


def test_proposals_are_the_best_that_were_not_seen() -> None:
    rows = frame([(m, t, 0) for t in range(400) for m in range(1 + t % 50)])
    model = Popular().fit(Histories.of(rows))
    candidates = mt.Candidates(np.arange(400), {})
    best = [t for t in range(400) if t % 50 == 49]
    found = model.propose(request(best[:3]), candidates)
    assert found is not None
    assert len(found) == PROPOSE
    assert not set(best[:3]) & set(candidates.ids[found].tolist())
    assert set(best[3:]) <= set(candidates.ids[found].tolist())
    assert model.propose(request([]), mt.Candidates(np.arange(PROPOSE), {})) is None


def test_plays_come_after_ratings_in_a_history() -> None:
    assert recent({"rated_recently": [1, 2], "played_recently": [3]}) == [1, 2, 3]
    assert recent({"rated_recently": list(range(100)), "played_recently": [7]})[-2:] == [99, 7]
    assert recent({}) == []


def test_taste_is_the_same_online_and_in_batch() -> None:
    check_features(taste, worlds=1)
