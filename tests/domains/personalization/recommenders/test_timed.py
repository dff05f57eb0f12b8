"""The order learned in time: no look ahead, trees better than their parts, a place for rare titles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import matinee as mt
from matinee.domains.personalization.recommenders import Histories, Popular, load_recommender
from matinee.domains.personalization.recommenders.conformance import check_recommender, example_histories
from matinee.domains.personalization.recommenders.nearby import Nearby
from matinee.domains.personalization.recommenders.timed import Timed


def walks(members: int = 80, length: int = 25, titles: int = 60, seed: int = 0) -> Histories:
    """Each member goes three titles on, or two back: what is near is a candidate, only the lag tells which comes next."""
    rng = np.random.default_rng(seed)
    sequences = []
    for _ in range(members):
        at, walk = int(rng.integers(titles)), []
        for _ in range(length):
            walk.append(at)
            at = (at + (3 if rng.random() < 0.85 else -2)) % titles
        sequences.append(walk)
    return Histories.of_sequences(sequences)


def small(**settings: object) -> Timed:
    parts = {"around": Nearby(back=1.0), "step": Nearby(reach=1, read=2, strength=0.3), "rare": Nearby(popularity=0.7),
             "popular": Popular()}  # fmt: skip
    given = {"parts": parts, "trees": 40, "fewest": 10, "cut": 0.7, "most": 30, "rare_places": 0} | settings
    return Timed(**given)  # type: ignore[arg-type]


def test_the_trees_learn_which_of_the_near_titles_comes_next() -> None:
    model = small().fit(walks())
    around = model.parts["around"]
    later, right, parts_right = walks(members=60, length=12, seed=1), 0, 0
    for row in range(len(later)):
        history = later.history(row)
        want = (history[-1] + 3) % 60
        if want in history:
            continue
        right += model.recommend(history, 1)[0][0] == want
        parts_right += around.recommend(history, 1)[0][0] == want
    assert right > parts_right
    assert right > 30


def test_the_order_is_learned_on_events_the_parts_have_not_seen() -> None:
    fitted: list[float] = []

    class Watched(Popular):
        kind = ""

        def fit(self, histories: Histories) -> Popular:  # type: ignore[override]
            fitted.append(float(histories.day.max()))
            return super().fit(histories)

    histories = walks()
    small(parts={"around": Nearby(), "watched": Watched()}).fit(histories)
    edge = np.quantile(histories.day, 0.7)
    assert fitted[0] <= edge < fitted[1] == histories.day.max()


def test_questions_are_prefixes_of_events_after_the_edge() -> None:
    histories = walks(members=5, length=10)
    model = small(per_member=2)
    prefixes, wanted, owner = model._questions(histories, 5.0)
    assert np.bincount(owner).tolist() == [2] * 5
    for row in range(len(prefixes)):
        prefix = prefixes.history(row).tolist()
        every = histories.history(owner[row]).tolist()
        assert len(prefix) > 5
        assert [*prefix, wanted[row]] == every[: len(prefix) + 1]


@pytest.mark.parametrize("places", [1, 3, 10])
def test_the_last_places_of_ten_are_kept_for_rare_titles(places: int) -> None:
    model = small().fit(walks())
    history = walks(members=1, length=6, seed=3).history(0)
    before, _ = model.recommend(history, 12)
    model.rare_places = places
    after, _ = model.recommend(history, 12)
    ordinary = 10 - places
    rare = np.array(model.parts["rare"].scores(history))
    rare[np.isin(model.titles, [*history, *before[:ordinary]])] = -np.inf
    rarest = model.titles[np.argsort(-rare, kind="stable")[:places]]
    assert after[:ordinary].tolist() == before[:ordinary].tolist()
    assert sorted(after[ordinary:10].tolist()) == sorted(rarest[np.isfinite(np.sort(-rare)[:places])].tolist())
    assert len(set(after.tolist())) == len(after)


def test_it_is_saved_with_its_parts_and_trees(tmp_path: Path) -> None:
    model = small().fit(walks())
    model.save(tmp_path / "m")
    again = load_recommender(tmp_path / "m")
    assert isinstance(again, Timed)
    assert np.array_equal(again.scores([1, 4]), model.scores([1, 4]))
    (tmp_path / "m" / "trees.txt").write_text("tree\nnothing")
    with pytest.raises(mt.MatineeError, match="cut short or damaged"):
        Timed.load(tmp_path / "m")


def test_it_keeps_the_promises_of_a_recommender() -> None:
    check_recommender(lambda: small(trees=10))


def test_what_cannot_be_learned_from_is_refused() -> None:
    with pytest.raises(mt.MatineeError, match="must be at least 100 to learn an order from"):
        small().fit(example_histories(np.random.default_rng(0), members=4))
    with pytest.raises(mt.MatineeError, match="parts == {}, must name"):
        Timed(parts={})
    with pytest.raises(mt.MatineeError, match="rare_places == 1, must be 0 where no part is named 'rare'"):
        Timed(parts={"popular": Popular()})
