"""Strong generalisation: the split by its protocol, metrics by hand, and a small run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from benchmarks.peers import lists_of
from benchmarks.strong_generalization import Held, Judged, Split, best, paired, standard

import matinee as mt
from benchmarks import strong_generalization
from matinee.domains.personalization.recommenders import Histories


def ratings(users: int = 260, titles: int = 40) -> pl.DataFrame:
    """Members like one of two halves of the catalogue, and rate some of the other half low."""
    rng = np.random.default_rng(0)
    rows = []
    for u in range(users):
        half = np.arange(titles) % 2 == u % 2
        liked = rng.permutation(np.flatnonzero(half))[: rng.integers(4, 14)]
        low = rng.permutation(np.flatnonzero(~half))[:3]
        rows += [(u, int(t) + 100, 4 + k % 2, k) for k, t in enumerate(liked)]
        rows += [(u, int(t) + 100, 1 + k, 50 + k) for k, t in enumerate(low)]
    return pl.DataFrame(rows, schema=["user", "item", "rating", "pos"], orient="row")


def test_the_split_follows_its_protocol() -> None:
    frame = ratings()
    split = Split.of(frame, 30)
    counts = frame.filter(pl.col("rating") >= 4).group_by("user").len().filter(pl.col("len") >= 5)
    users = np.sort(counts["user"].to_numpy())
    order = np.random.RandomState(98765).permutation(users)
    assert split.test.given.members.tolist() == sorted(order[-30:])
    assert split.validation.given.members.tolist() == sorted(order[-60:-30])
    assert split.train.members.tolist() == sorted(order[:-60])
    liked = frame.filter(pl.col("rating") >= 4)
    for row, member in enumerate(split.test.given.members.tolist()):
        own = set(liked.filter(pl.col("user") == member)["item"].to_list()) & set(split.train.titles.tolist())
        given = set(split.test.given.history(row).tolist())
        found = split.test.targets[split.test.offsets[row] : split.test.offsets[row + 1]]
        targets = set(split.train.titles[found].tolist())
        assert given | targets == own
        assert not given & targets
        assert len(targets) == int(0.2 * len(own)) * (len(own) >= 5)
        low = set(frame.filter((pl.col("user") == member) & (pl.col("rating") < 4))["item"].to_list())
        assert set(split.test.low.history(row).tolist()) <= low


def test_the_test_members_may_be_named() -> None:
    frame = ratings()
    split = Split.of(frame, 30, [3, 5, 7, 10**6])
    assert set(split.test.given.members.tolist()) <= {3, 5, 7}
    assert not {3, 5, 7} & (set(split.train.members.tolist()) | set(split.validation.given.members.tolist()))
    with pytest.raises(mt.MatineeError, match="none of 1 ids has 5 ratings of 4 and more"):
        Split.of(frame, 30, [10**6])
    with pytest.raises(mt.MatineeError, match="--held-out 200 of .* members leaves too few"):
        Split.of(frame, 200)


def test_metrics_by_hand() -> None:
    train = Histories.of_sequences([[0, 1], [0, 2], [0, 3], [0, 4]])
    given = Histories.of_sequences([[0], [0], [1]]).against(train.titles)
    held = Held(given, given, np.array([1, 2, 3]), np.array([0, 2, 3, 3]))
    lists = np.array([[1, 4, 2], [1, 2, 4], [2, 3, 4]])
    row = Judged.of(lists, held, train).row
    ideal = 1 + 1 / np.log2(3)
    assert row["ndcg100"] == pytest.approx((1 + 0.5) / ideal / 2)  # the second finds nothing, the third has no target
    assert row["recall20"] == pytest.approx(0.5)
    assert row["coverage10"] == pytest.approx(4 / 5)
    assert row["novelty20"] == pytest.approx(2.0)  # all listed titles were played by one of four


def test_lists_leave_out_what_was_given_and_end_with_empty_slots() -> None:
    given = Histories.of_sequences([[10, 30], [20]]).against(np.array([10, 20, 30]))
    found = best(np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]), given, 3)
    assert found.tolist() == [[1, -1, -1], [2, 0, -1]]


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(size=400)
    row = paired(base + 0.01, base)
    assert row["over_ease_low"] == pytest.approx(0.01)
    assert row["over_ease_high"] == pytest.approx(0.01)
    noisy = paired(rng.permutation(base), base)
    assert noisy["over_ease_low"] < 0 < noisy["over_ease_high"]


def test_standard_scores_have_mean_0_and_deviation_1() -> None:
    found = standard(np.array([[1.0, 3.0], [5.0, 5.0]]))
    assert found.tolist() == [[-1.0, 1.0], [0.0, 0.0]]


def test_a_small_run_finds_the_halves(tmp_path: Path) -> None:
    ratings().write_parquet(tmp_path / "ratings.parquet")
    parser = argparse.ArgumentParser()
    strong_generalization.options(parser)
    given = ["--ratings", str(tmp_path / "ratings.parquet"), "--held-out", "30", "--smoke"]
    rows = strong_generalization.run(parser.parse_args(given))
    plays = {r["system"]: r for r in rows if r["track"] == "plays only"}
    assert list(plays) == ["popularity", "EASE", "DLAE", "matinee", "matinee iALS", "matinee + iALS"]
    for name in ("EASE", "matinee", "matinee + iALS"):
        assert plays[name]["ndcg100"] > plays["popularity"]["ndcg100"] + 0.1
    assert plays["EASE"]["over_ease"] == 0
    assert [r["system"] for r in rows if r["track"] == "low ratings too"] == ["matinee"]
    assert all({"cpu_seconds", "peak_mb", "coverage10", "debiased_ndcg100", "novelty20"} <= set(r) for r in rows)
    assert "ratio" not in rows[-1]  # another track is compared with nothing here


def test_a_peer_that_cannot_run_says_why() -> None:
    some = Histories.of_sequences([[1, 2], [2, 3]])
    assert "No such file" in str(lists_of("/no/such/python", some, some, some, 2)["implicit ALS"])
    if "implicit" not in sys.modules:
        found = lists_of(sys.executable, some, some, some, 2)
        assert found["implicit ALS"] == "implicit is not installed" or isinstance(found["implicit ALS"], list)
