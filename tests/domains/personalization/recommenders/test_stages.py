"""The second stage: it finds an order that the first lacks, and keeps the rest below its candidates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.domains.personalization.recommenders.test_chain import wandering

import matinee as mt
from matinee.domains.personalization.recommenders import Blend, Histories, Popular, Staged, Together
from matinee.domains.personalization.recommenders.stages import best_of


def plain() -> Blend:
    """A first stage that knows no order at all."""
    return Blend(parts={"together": Together(), "popular": Popular()})


def hits(model: Blend | Staged, histories: Histories) -> float:
    """Share of members whose newest title is among the first two."""
    scores = model.scores_of(histories.without_last(1))
    own = histories.items[histories.offsets[1:] - 1]
    return float(((scores > scores[np.arange(len(own)), own][:, None]).sum(axis=1) < 2).mean())


def test_trees_find_the_order_that_the_first_stage_lacks() -> None:
    histories = wandering(600)
    rows = np.arange(len(histories))
    train, test = histories.rows(rows[:400]), histories.rows(rows[400:])
    staged = Staged(first=plain(), trees=60, fewest=20).fit(train)
    assert hits(staged, test) > 2 * hits(staged.first, test)
    # It is the lag of one step that tells.
    assert next(iter(staged.importance())).startswith("after 1-1 of 1")
    assert sum(staged.importance().values()) == pytest.approx(1.0)


def test_what_is_no_candidate_comes_below_in_the_order_of_the_blend() -> None:
    histories = wandering()
    staged = Staged(first=plain(), most=4, trees=20, fewest=20).fit(histories)
    history = [3, 4, 5]
    scores, blend = staged.scores(history), staged.first.scores(history)
    order = np.argsort(-scores, kind="stable")
    unseen = np.setdiff1d(np.arange(len(scores)), history)
    candidates = unseen[np.argsort(-blend[unseen], kind="stable")][:4]
    assert set(order[:4].tolist()) == set(candidates.tolist())
    assert (np.diff(blend[order[4:]]) <= 1e-5).all()


def test_parts_are_fitted_again_where_that_is_asked() -> None:
    histories = wandering()
    for refit, events in ((True, len(histories.items)), (False, len(histories.items) - len(histories))):
        popular = Staged(first=plain(), trees=10, fewest=20, refit=refit).fit(histories).first.parts["popular"]
        assert isinstance(popular, Popular)
        assert popular.counts.sum() == events


def test_too_few_members_are_refused() -> None:
    with pytest.raises(mt.MatineeError, match=r"must be at least 20 to learn an order from"):
        Staged(first=plain()).fit(wandering(12))
    with pytest.raises(mt.MatineeError, match="must name the recommenders to blend"):
        Staged().fit(wandering())


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    Staged(first=plain(), trees=5, fewest=20).fit(wandering()).save(tmp_path / "m")
    (tmp_path / "m" / "trees.txt").write_text("tree\nversion=v4\nnum_class=1")
    with pytest.raises(mt.MatineeError, match="cut short or damaged"):
        Staged.load(tmp_path / "m")


def test_a_lucky_first_tree_does_not_end_the_training() -> None:
    noise = np.random.default_rng(0).normal(scale=0.01, size=120)
    rising = np.concatenate([np.linspace(0.2, 0.25, 80), np.linspace(0.25, 0.2, 40)]) + noise
    rising[2] = 0.4
    assert 65 <= best_of(rising) <= 95
    assert best_of(np.array([0.3, 0.2, 0.1])) == 3
    staged = Staged(first=plain(), trees=60, fewest=20).fit(wandering())
    assert staged._booster.best_iteration >= 40
