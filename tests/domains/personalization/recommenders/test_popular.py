"""Popularity, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from tests.domains.personalization.recommenders.worlds import frame

from matinee.domains.personalization.recommenders import Histories, Popular


def test_popularity_fades_by_its_half_life() -> None:
    rows = frame([(1, 10, 0), (2, 10, 10), (3, 20, 20), (4, 20, 20)])
    plain = Popular().fit(Histories.of(rows))
    assert plain.counts.tolist() == [2.0, 2.0]
    faded = Popular(half_life=10.0).fit(Histories.of(rows))
    assert faded.counts.tolist() == pytest.approx([0.25 + 0.5, 2.0])
    assert faded.scores([10]).tolist() == pytest.approx(np.log1p([0.75, 2.0]).tolist())


def test_an_update_lets_the_old_plays_fade() -> None:
    early, late = frame([(1, 10, 0), (2, 20, 10)]), frame([(1, 30, 20), (3, 10, 30)])
    whole = Histories.of(frame([(1, 10, 0), (2, 20, 10), (1, 30, 20), (3, 10, 30)]))
    for half_life in (10.0, float("inf")):
        model = Popular(half_life=half_life).fit(Histories.of(early)).update(Histories.of(late))
        want = Popular(half_life=half_life).fit(whole)
        assert model.titles.tolist() == [10, 20, 30]
        assert model.counts == pytest.approx(want.counts)
        # Older news fade as well when they come late.
        late_first = Popular(half_life=half_life).fit(Histories.of(late)).update(Histories.of(early))
        assert late_first.counts == pytest.approx(want.counts)
