"""Recommenders: counted by hand, against plain matrix algebra, on a checkerboard; and the promises of a scorer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import matinee as mt
from matinee.domains.personalization.features import recent, taste
from matinee.domains.personalization.recommenders import (
    PROPOSE,
    Following,
    Histories,
    Popular,
    Recommender,
    Together,
    _count_pairs,
    _count_together,
)
from matinee.testing import check_features, check_scorer

START = datetime(2026, 1, 1, tzinfo=UTC)


def frame(events: list[tuple[int, int, float]]) -> pl.DataFrame:
    """Events as member, title, day."""
    return pl.DataFrame(
        {
            "member": [m for m, _, _ in events],
            "title": [t for _, t, _ in events],
            "at": pl.Series([START + timedelta(days=d) for _, _, d in events], dtype=pl.Datetime("us", "UTC")),
        },
        schema_overrides={"member": pl.Int64, "title": pl.Int64},
    )


def checkerboard(members: int = 40, titles: int = 12) -> pl.DataFrame:
    """Even members play all even titles but one, odd members all odd ones but one."""
    events = []
    for m in range(members):
        own = [t for t in range(titles) if t % 2 == m % 2]
        lacking = own[(m // 2) % len(own)]
        events += [(m, t, m + 0.01 * k) for k, t in enumerate(x for x in own if x != lacking)]
    return frame(events)


def test_histories_by_hand() -> None:
    rows = frame([(2, 30, 1), (1, 10, 3), (1, 20, 2), (2, 30, 2), (2, 10, 3), (1, 10, 4), (1, 20, 4)])
    found = Histories.of(rows)
    assert found.titles.tolist() == [10, 20, 30]
    assert found.members.tolist() == [1, 2]
    assert found.offsets.tolist() == [0, 3, 5]
    # Member 1: 20, then 10 twice at once (counted once), then 20; equal times keep the order of the rows.
    assert found.titles[found.items].tolist() == [20, 10, 20, 30, 10]
    assert np.diff(found.day)[:2].tolist() == [1.0, 1.0]


def test_the_least_played_titles_are_left_out_of_a_large_catalogue() -> None:
    rows = frame([(m, t, m) for m in range(5) for t in range(10) if m >= t - 5])
    assert Histories.of(rows, most_titles=3).titles.tolist() == [0, 1, 2]


def test_nothing_to_learn_from_is_said_so() -> None:
    with pytest.raises(mt.MatineeError, match="no plays or ratings yet"):
        Histories.of(frame([]))


def test_popularity_fades_by_its_half_life() -> None:
    rows = frame([(1, 10, 0), (2, 10, 10), (3, 20, 20), (4, 20, 20)])
    plain = Popular().fit(Histories.of(rows))
    assert plain.counts.tolist() == [2.0, 2.0]
    faded = Popular(half_life=10.0).fit(Histories.of(rows))
    assert faded.counts.tolist() == pytest.approx([0.25 + 0.5, 2.0])
    assert faded.scores([10]).tolist() == pytest.approx(np.log1p([0.75, 2.0]).tolist())


def test_pairs_are_counted_in_their_order_with_decay() -> None:
    counts = np.zeros((3, 3), np.float32)
    _count_pairs(np.array([0, 1, 2]), np.array([0, 3]), counts, 0.5, 10)
    assert counts.tolist() == [[0, 1, 0.5], [0, 0, 1], [0, 0, 0]]
    counts[:] = 0
    _count_pairs(np.array([0, 1, 2]), np.array([0, 3]), counts, 0.5, 1)
    assert counts.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    counts[:] = 0
    _count_pairs(np.array([0, 1, 2]), np.array([0, 1, 3]), counts, 0.5, 10)  # two members: nothing across them
    assert counts.tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_what_always_follows_comes_first() -> None:
    rows = frame([(m, 100 + (m + k) % 7, k) for m in range(30) for k in range(5)])
    model = Following().fit(Histories.of(rows))
    for last in range(100, 107):
        assert model.titles[model.scores([last]).argmax()] == 100 + (last - 100 + 1) % 7
    # The newest title says most.
    assert model.titles[model.scores([103, 100]).argmax()] == 101
    assert model.scores([]).tolist() == [0.0] * 7
    assert model.scores([999]).tolist() == [0.0] * 7


def test_on_a_checkerboard_the_withheld_title_comes_first() -> None:
    rows = checkerboard()
    model = Together().fit(Histories.of(rows))
    histories = Histories.of(rows)
    for i, member in enumerate(histories.members.tolist()):
        seen = histories.titles[histories.items[histories.offsets[i] : histories.offsets[i + 1]]]
        scores = model.scores(seen.tolist())
        scores[np.isin(model.titles, seen)] = -np.inf
        lacking = [t for t in range(12) if t % 2 == member % 2 and t not in seen]
        assert model.titles[scores.argmax()] == lacking[0]


def test_together_is_its_closed_form() -> None:
    rng = np.random.default_rng(0)
    rows = frame([(m, int(t), k) for m in range(60) for k, t in enumerate(rng.permutation(8)[: rng.integers(2, 7)])])
    histories = Histories.of(rows)
    model = Together().fit(histories)
    n, total = 8, len(histories.items)
    gram, near = np.zeros((n, n)), np.zeros((n, n))
    for i in range(60):
        seen = histories.items[histories.offsets[i] : histories.offsets[i + 1]]
        for x, a in enumerate(seen):
            for y, b in enumerate(seen):
                gram[a, b] += len(seen) ** -0.6
                near[a, b] += len(seen) ** -0.6 * np.exp(-abs(x - y) / 30)
    g = 0.5 * total * (gram / np.trace(gram) + near / np.trace(near))
    lam = 0.33 / 0.67 * np.diag(g) + max(300 * total / 400_000, 1.0)
    want = np.eye(n) - np.linalg.inv(g + np.diag(lam)) @ np.diag(lam)
    np.fill_diagonal(want, 0)
    assert model.weights == pytest.approx(want, abs=2e-4)


histories_ = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=8), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(histories_)
def test_the_gram_kernel_counts_every_pair_once(sequences: list[list[int]]) -> None:
    items, offsets = np.array([t for s in sequences for t in s]), np.cumsum([0, *(len(s) for s in sequences)])
    power = np.linspace(0.5, 1.0, len(sequences))
    gram, near = np.zeros((6, 6), np.float32), np.zeros((6, 6), np.float32)
    _count_together(items, offsets, power, gram, near)
    want, close = np.zeros((6, 6)), np.zeros((6, 6))
    for s, w in zip(sequences, power, strict=True):
        for x, a in enumerate(s):
            for y, b in enumerate(s[: x + 1]):
                for one, other in {(a, b), (b, a)}:
                    want[one, other] += w
                    close[one, other] += w * np.exp(-(x - y) / 30)
    assert gram == pytest.approx(want, abs=1e-4)
    assert near == pytest.approx(close, abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(histories_, st.integers(1, 4))
def test_leaving_out_rare_titles_keeps_the_others_in_order(sequences: list[list[int]], fewest: int) -> None:
    rows = frame([(m, t, k) for m, s in enumerate(sequences) for k, t in enumerate(s)])
    every = Histories.of(rows)
    some = every.without_rare(fewest)
    counts = np.bincount(every.items, minlength=len(every.titles))
    kept = set(every.titles[counts >= fewest].tolist()) or set(every.titles.tolist())
    assert set(some.titles.tolist()) == kept
    for i in range(len(every.members)):
        before = [t for t in every.titles[every.items[every.offsets[i] : every.offsets[i + 1]]].tolist() if t in kept]
        assert some.titles[some.items[some.offsets[i] : some.offsets[i + 1]]].tolist() == before


def request(history: list[int]) -> mt.Request:
    features = {**dict.fromkeys(taste.names), "played_recently": history, "rated_recently": []}
    return mt.Request("home", 1, START, {}, features)


@pytest.mark.parametrize("kind", [Popular, Following, Together])
def test_each_keeps_the_promises_of_a_scorer(kind: type[Recommender], tmp_path: Path) -> None:
    model = kind().fit(Histories.of(checkerboard()))
    model.name = f"home-{kind.kind}@1"
    check_scorer(model, request=request([2, 4]), candidates=mt.Candidates(np.arange(15), {}))
    model.save(tmp_path / "m")
    again = kind.load(tmp_path / "m")
    assert np.array_equal(again.scores([2, 4]), model.scores([2, 4]))
    (tmp_path / "m" / "arrays.safetensors").write_bytes((tmp_path / "m" / "arrays.safetensors").read_bytes()[:40])
    with pytest.raises(mt.MatineeError, match="cut short or damaged"):
        kind.load(tmp_path / "m")


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
