"""Blends: what is informative counts, logs are made as said, catalogues are put in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pytest
from tests.domains.personalization.recommenders.test_chain import wandering

import matinee as mt
from matinee.domains.personalization.recommenders import Blend, Following, Histories, Popular, Recommender, Together
from matinee.domains.personalization.recommenders.ensemble import as_logs, in_order


@dataclass(repr=False)
class Fixed(Recommender):
    """Knows titles 2 and 5 and scores them by hand."""

    kind: ClassVar[str] = ""

    def fit(self, histories: Histories) -> Self:
        self.titles = np.array([2, 5])
        return self

    def scores(self, history: Sequence[int] | np.ndarray) -> np.ndarray:
        return np.array([3.0, -1.0], np.float32)


def test_scores_become_logs_with_a_floor_of_one_title() -> None:
    scores = np.array([[3.0, -1.0, 1.0, 0.0], [0.0, -2.0, 0.0, 0.0]], np.float32)
    want = np.log(np.array([[0.75, 0, 0.25, 0], [0, 0, 0, 0]]) + 0.25)
    assert as_logs(Fixed(), scores.copy()) == pytest.approx(want, abs=1e-6)
    assert as_logs(Popular(), scores.copy()).tolist() == scores.tolist()


def test_a_title_that_a_part_does_not_know_gets_its_least() -> None:
    one = Fixed().fit(Histories.of_sequences([[2, 5]]))
    found = in_order(one, Histories.of_sequences([[2]]), np.array([1, 2, 3, 5, 9]))
    assert found.tolist() == [[-1.0, 3.0, -1.0, -1.0, -1.0]]


def test_what_predicts_counts_more_than_what_does_not() -> None:
    histories = wandering()
    blend = Blend(parts={"following": Following(), "together": Together(), "popular": Popular()}).fit(histories)
    following, together, popular = blend.weights
    assert following > abs(together)
    assert following > abs(popular)
    assert set(blend.recommend([9, 10], 2)[0].tolist()) == {11, 12}
    assert len(blend.parts["popular"].titles) == len(histories.titles)


def test_parts_are_fitted_on_everything_unless_said_otherwise() -> None:
    histories = wandering()
    for refit, events in ((True, len(histories.items)), (False, len(histories.items) - len(histories))):
        blend = Blend(parts={"popular": Popular()}, refit=refit).fit(histories)
        popular = blend.parts["popular"]
        assert isinstance(popular, Popular)
        assert popular.counts.sum() == events


def test_no_parts_and_torn_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(mt.MatineeError, match="must name the recommenders to blend"):
        Blend().fit(wandering())
    Blend(parts={"popular": Popular()}).fit(wandering()).save(tmp_path)
    (tmp_path / "parts.json").write_text("[")
    with pytest.raises(mt.MatineeError, match="cut short or damaged"):
        Blend.load(tmp_path)
