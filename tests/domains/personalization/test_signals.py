"""What a ranker reads of member and title together: the same online and in batch, kept and found again, blind to scales."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import matinee as mt
from matinee.domains.personalization.recommenders import Following, Histories, Popular
from matinee.domains.personalization.signals import MEMORIES, Language, Memory, Place, memory, moment, tongue
from matinee.testing import check_features

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def asked(**features: Any) -> mt.Request:
    return mt.Request("home", 1, NOW, {}, features)


def titles(*ids: int, **columns: Any) -> mt.Candidates:
    return mt.Candidates(np.array(ids), {n: np.array(c) for n, c in columns.items()})


SEQUENCES = [[1, 2, 3, 4], [1, 2, 4], [2, 3], [1, 2], [5]]


def test_a_place_counts_who_stands_before() -> None:
    popular = Popular().fit(Histories.of_sequences(SEQUENCES))
    found = Place(popular).score(asked(), titles(2, 1, 5, 99)).mean
    # 2 was played most, 1 after it, 5 least of five; 99 is not known and comes after all.
    assert found == pytest.approx([0.0, -1.0, -np.log2(5), -np.log2(6)])


def test_a_place_keeps_its_meaning_when_there_is_more_of_the_same() -> None:
    """Ten times the events: scores of the recommender grow, its order and so its places do not."""
    few, many = (Popular().fit(Histories.of_sequences(SEQUENCES * n)) for n in (1, 10))
    some = titles(1, 2, 3, 4, 5)
    assert not np.allclose(few.score(asked(), some).mean, many.score(asked(), some).mean)
    assert (Place(few).score(asked(), some).mean == Place(many).score(asked(), some).mean).all()


def test_memories_by_hand_online_and_in_batch() -> None:
    online = {
        "titles_shown": {7: 3, 8: 1},
        "titles_begun": {8: 1},
        "titles_played": {8: 2, 9: 1},
        "titles_finished": {9: 1},
    }
    batch = {k: [{"value": v, "count": n} for v, n in d.items()] for k, d in online.items()}
    expected = {"in_vain": [3, 0, 0, 0], "played": [0, 2, 1, 0], "finished": [0, 0, 1, 0]}
    for what in MEMORIES:
        for features in (online, batch):
            found = Memory(what).score(asked(**features), titles(7, 8, 9, 10)).mean
            assert found == pytest.approx(np.log1p(expected[what]))
        assert (Memory(what).score(asked(titles_shown=None), titles(7)).mean == 0).all()
    with pytest.raises(mt.MatineeError, match="what == 'seen', must be one of in_vain, played, finished"):
        Memory("seen")


def test_languages() -> None:
    some = titles(1, 2, 3, language=["en", "de-AT", ""])
    assert Language().score(asked(speaks="en-GB"), some).mean.tolist() == [1.0, 0.0, 0.5]
    assert Language().score(asked(speaks=None), some).mean.tolist() == [0.5, 0.5, 0.5]
    assert Language().score(asked(speaks="de"), titles(1)).mean.tolist() == [0.5]


@pytest.mark.parametrize("scorer", [Memory("in_vain"), Language(), "place"], ids=["memory", "language", "place"])
def test_kept_and_found_again(tmp_path: Path, scorer: Any) -> None:
    if scorer == "place":
        scorer = Place(Following().fit(Histories.of_sequences(SEQUENCES)))
    folder = tmp_path / "s"
    folder.mkdir()
    scorer.save(folder)
    again = type(scorer).load(folder)
    request = asked(titles_shown={1: 2}, speaks="de", rated_recently=[1], played_recently=[2])
    some = titles(1, 2, 3, 4, language=["de", "en", "", "de"])
    assert (again.score(request, some).mean == scorer.score(request, some).mean).all()
    assert [f.hash for f in again.needs] == [f.hash for f in scorer.needs]


@pytest.mark.parametrize("features", [memory, moment, tongue], ids=lambda f: f.name)
def test_features_keep_their_promises(features: mt.Features) -> None:
    check_features(features)
