"""Features of candidates, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from matinee.domains.personalization.recommenders import Histories
from matinee.domains.personalization.recommenders.candidates import Context, likeness, newest_of
from matinee.domains.personalization.recommenders.lifts import Lifts


def some() -> Histories:
    rng = np.random.default_rng(4)
    return Histories.of_sequences([rng.integers(0, 8, rng.integers(1, 15)).tolist() for _ in range(40)])


def features(history: list[int], candidates: list[int]) -> tuple[dict[str, np.ndarray], Histories]:
    histories = some()
    asked = Histories.of_sequences([history]).against(histories.titles)
    scores = np.arange(8, dtype=np.float32)[None]
    made = Context.of(histories).features(asked, np.array([candidates]), [scores], [np.log1p(scores)])
    names = Context.names(["one"])
    assert made.shape == (1, len(candidates), len(names))
    assert len(set(names)) == len(names)
    return dict(zip(names, made[0].T, strict=True)), histories


def test_scores_are_told_against_each_other() -> None:
    found, _ = features([1, 2], [3, 7, 0])
    assert found["score of one"] == pytest.approx(np.log1p([3, 7, 0]))
    assert found["z of one"] == pytest.approx((np.array([3, 7, 0]) - 3.5) / np.arange(8).std())
    assert found["behind of one"] == pytest.approx(np.log(8) - np.log1p([3, 7, 0]))
    assert found["rank of one"].tolist() == [1, 0, 2]


def test_lags_are_read_forward_and_in_reverse() -> None:
    found, histories = features([4, 1, 2], [3, 7])
    lifts, n = Lifts.of(histories, ((1, 1), (2, 3), (4, 10))), 8

    def lift(band: int, i: int, j: int) -> float:
        return float(lifts.of_pairs(np.array([band * n + i]), np.array([j]))[0])

    for place, candidate in enumerate((3, 7)):
        for back, title in enumerate((2, 1, 4), start=1):
            assert found[f"after 1-1 of {back}"][place] == pytest.approx(lift(0, title, candidate))
            assert found[f"after 2-3 of {back}"][place] == pytest.approx(lift(1, title, candidate))
            assert found[f"before 1-1 of {back}"][place] == pytest.approx(lift(0, candidate, title))
        assert found["after 4-10"][place] == pytest.approx(sum(lift(2, t, candidate) for t in (4, 1, 2)), abs=1e-5)
        assert found["before 4-10"][place] == pytest.approx(sum(lift(2, candidate, t) for t in (4, 1, 2)), abs=1e-5)


def test_titles_are_told_beside_the_last_ones() -> None:
    found, histories = features([4, 1], [3, 7])
    plays = np.log1p(np.bincount(histories.items))
    assert found["plays"] == pytest.approx(plays[[3, 7]], abs=1e-5)
    assert found["plays beyond the last"] == pytest.approx(plays[[3, 7]] - plays[[4, 1]].mean(), abs=1e-5)
    assert found["events"] == pytest.approx(np.log1p(2), abs=1e-5)


def test_a_history_without_events_has_no_lags() -> None:
    found, _ = features([], [3, 7])
    for name in ("after 1-1 of 1", "before 4-10", "most alike", "mean alike"):
        assert found[name].tolist() == [0.0, 0.0]


def test_the_newest_come_first() -> None:
    histories = Histories.of_sequences([[1, 2, 3], [3], []])
    assert newest_of(histories, 2).tolist() == [[2, 1], [2, -1], [-1, -1]]


def test_likeness_is_symmetric_and_of_what_is_near() -> None:
    table = likeness(Histories.of_sequences([[1, 2], [1, 2], [3, 1]])).table().toarray()
    assert np.array_equal(table, table.T)
    assert table[0, 1] == pytest.approx(2 / np.sqrt(3 * 2))
    assert table[1, 2] == 0


def test_what_is_saved_is_everything() -> None:
    context = Context.of(some())
    again = Context.from_arrays(context.arrays())
    rows, columns = np.array([[0, 9, 17]]), np.array([[1, 2, 3]])
    assert np.array_equal(again.lifts.of_pairs(rows, columns), context.lifts.of_pairs(rows, columns))
    assert np.array_equal(again.titles, context.titles)
    with pytest.raises(KeyError):
        Context.from_arrays({k: v for k, v in context.arrays().items() if k != "near.base"})
