"""Metrics against their definitions, row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matinee.evaluate import metrics as m
from matinee.exceptions import BadInputError, MatineeError

events = st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=40)


@given(rows=events)
def test_auc_is_the_share_of_pairs_in_order(rows: list[tuple[bool, int, int]]) -> None:
    y, s, w = (np.array(part, dtype=float) for part in zip(*rows, strict=True))
    pairs = [(a, b) for a in range(len(y)) for b in range(len(y)) if y[a] == 1 and y[b] == 0]
    total = sum(w[a] * w[b] for a, b in pairs)
    if total == 0:
        assert w.sum() == 0 or math.isnan(m.auc(y, s, w))
        return
    good = sum(w[a] * w[b] * (1.0 if s[a] > s[b] else 0.5 if s[a] == s[b] else 0.0) for a, b in pairs)
    assert m.auc(y, s, w) == pytest.approx(good / total)


def test_log_loss_and_brier_by_hand() -> None:
    y, p, w = [1.0, 0.0, 1.0], [0.9, 0.2, 0.5], [1.0, 1.0, 2.0]
    assert m.log_loss(y, p, w) == pytest.approx(-(math.log(0.9) + math.log(0.8) + 2 * math.log(0.5)) / 4)
    assert m.brier(y, p, w) == pytest.approx((0.01 + 0.04 + 2 * 0.25) / 4)
    assert math.isfinite(m.log_loss([1.0], [0.0]))


def test_rank_of_counts_ties_against_the_target() -> None:
    assert m.rank_of([[1.0, 1.0, 1.0]], [1]).tolist() == [3]
    assert m.rank_of([[0.1, 0.9, 0.5], [3.0, 2.0, 1.0]], [2, 0]).tolist() == [2, 1]
    allowed = np.array([[True, False, True]])
    assert m.rank_of([[0.1, 0.9, 0.5]], [0], allowed=allowed).tolist() == [2]
    assert m.rank_of([[-math.inf, 0.9, 0.5]], [0]).tolist() == [3]


def test_ranking_metrics_by_hand() -> None:
    rank = [1, 2, 10, 11]
    assert m.hit_rate(rank, 10).tolist() == [1, 1, 1, 0]
    assert m.ndcg(rank, 10) == pytest.approx([1, 1 / math.log2(3), 1 / math.log2(11), 0])
    assert m.reciprocal_rank(rank) == pytest.approx([1, 0.5, 0.1, 1 / 11])


@given(seed=st.integers(0, 1_000))
def test_lists_against_sets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, items, k = 5, 12, 4
    lists = np.array([rng.permutation(items)[:k] for _ in range(rows)])
    wanted = [rng.permutation(items)[: rng.integers(0, 7)] for _ in range(rows)]
    offsets = np.concatenate([[0], np.cumsum([len(t) for t in wanted])])
    hit = m.hits(lists, np.concatenate(wanted), offsets, items)
    sets = [set(t.tolist()) for t in wanted]
    assert hit.tolist() == [[int(i) in s for i in row] for row, s in zip(lists, sets, strict=True)]
    totals = np.diff(offsets)
    for row in range(rows):
        n = len(sets[row])
        if not n:
            assert math.isnan(m.recall(hit, totals, k)[row])
            continue
        found = len(sets[row] & set(lists[row].tolist()))
        assert m.recall(hit, totals, k)[row] == pytest.approx(found / min(k, n))
        gain = sum(1 / math.log2(i + 2) for i in range(k) if int(lists[row, i]) in sets[row])
        best = sum(1 / math.log2(i + 2) for i in range(min(k, n)))
        assert m.list_ndcg(hit, totals, k)[row] == pytest.approx(gain / best)


def test_empty_slots_hit_nothing() -> None:
    # -1 in row 1 must not be read as the last item of row 0.
    assert not m.hits([[0, 1], [-1, -1]], targets=[3], offsets=[0, 1, 1], items=4).any()


def test_coverage_counts_distinct_items() -> None:
    assert m.coverage([[0, 1], [1, -1]], items=4) == 0.5


def test_debiased_events_cap_blockbusters_only() -> None:
    target = np.repeat(np.arange(9), [40, 2, 2, 3, 3, 3, 4, 4, 5])
    kept = m.debiased_events(target, seed=1)
    counts = np.array([40, 2, 2, 3, 3, 3, 4, 4, 5])
    low, high = np.quantile(counts, [0.25, 0.75])
    cap = int(high + 1.5 * (high - low))
    assert np.bincount(target[kept]).tolist() == np.minimum(counts, cap).tolist()
    assert (m.debiased_events(target, seed=1) == kept).all()
    assert (m.debiased_events(target, seed=2) != kept).any()
    assert m.debiased_events([]).tolist() == []


def test_errors_say_what_would_be_right() -> None:
    with pytest.raises(BadInputError, match="values other than 0 and 1"):
        m.auc([0, 2], [0.1, 0.2])
    with pytest.raises(BadInputError, match="must be probabilities"):
        m.brier([0, 1], [0.1, 1.2])
    with pytest.raises(BadInputError, match=r"weight.min"):
        m.brier([0, 1], [0.1, 0.2], [1, -1])
    with pytest.raises(BadInputError, match=r"weight.sum"):
        m.brier([0, 1], [0.1, 0.2], [0, 0])
    with pytest.raises(BadInputError, match="target in"):
        m.rank_of([[1.0, 2.0]], [2])
    with pytest.raises(BadInputError, match="scores hold NaN"):
        m.rank_of([[1.0, math.nan]], [0])
    with pytest.raises(BadInputError, match=r"offsets.shape"):
        m.hits([[0]], [0], [0], 1)
    with pytest.raises(MatineeError, match="k == 0"):
        m.hit_rate([1], 0)
