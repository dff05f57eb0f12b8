"""The protocol of the next-title benchmark by hand, and the whole of it at its smallest."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from benchmarks.markov import MarkovWindow
from benchmarks.next_title import judged, metrics, of_lists, read_ratings, read_sequences

import matinee as mt
from benchmarks import next_title
from matinee.domains.personalization.recommenders import Histories


def walks(folder: Path, members: int = 260) -> Path:
    """Members who go one or two titles on, as lines of a file."""
    rng = np.random.default_rng(1)
    lines = []
    for member in range(members):
        at, walk = int(rng.integers(40)), []
        for _ in range(int(rng.integers(5, 14))):
            walk.append(at + 1)
            at = int((at + rng.integers(1, 3)) % 40)
        lines.append(" ".join(map(str, [member, *walk])))
    path = folder / "walks.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def run(*words: str) -> list[dict[str, object]]:
    parser = argparse.ArgumentParser()
    next_title.options(parser)
    return next_title.run(parser.parse_args(list(words)))


def test_ratings_come_in_their_order_and_those_without_a_place_are_left_out(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"user": [2, 1, 1, 1, 2], "item": [7, 9, 8, 5, 5], "rating": [1, 2, 3, 4, 5], "pos": [1, 2, 0, -1, 0]}
    )
    frame.write_parquet(tmp_path / "ratings.parquet")
    found = read_ratings(tmp_path / "ratings.parquet")
    assert [found.history(row).tolist() for row in range(2)] == [[8, 9], [5, 7]]


def test_sequences_come_by_user_without_the_padding(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("5 3 0 4\n\n2 4 4\n")
    found = read_sequences(tmp_path / "s.txt")
    assert found.members.tolist() == [2, 5]
    assert [found.history(row).tolist() for row in range(2)] == [[4, 4], [3, 4]]
    (tmp_path / "s.txt").write_text("5 3 x\n")
    with pytest.raises(mt.MatineeError, match=r"s.txt line 1: must be whole numbers"):
        read_sequences(tmp_path / "s.txt")


def test_a_target_ranks_among_the_unseen_and_ties_count_half() -> None:
    everything = Histories.of_sequences([[10, 20, 30], [20, 10, 40]])
    asked: list[list[int]] = []

    def scores(given: Histories, rows: np.ndarray) -> np.ndarray:
        asked.extend(given.history(row).tolist() for row in rows)
        return np.tile(np.array([9.0, 9.0, 1.0, 1.0], np.float32), (len(rows), 1))

    found = judged(scores, everything, 1)
    assert asked == [[10, 20], [20, 10]]  # the validation event is part of the history at the test
    assert found.rank.tolist() == [0.5, 0.5]  # 10 and 20 were seen; 30 and 40 are equal
    assert found.lists[:, :3].tolist() == [[2, 3, -1], [2, 3, -1]]
    asked.clear()
    assert judged(scores, everything, 2).rank.tolist() == [0.0, 0.0]
    assert asked == [[10], [20]]


def test_a_title_met_before_cannot_be_found_again() -> None:
    everything = Histories.of_sequences([[10, 20, 10], [10, 20, 30]])
    found = judged(lambda given, rows: np.ones((len(rows), 3), np.float32), everything, 1)
    assert found.rank.tolist() == [np.inf, 0.0]
    row = metrics(found, everything, everything.without_last(2), 1)
    assert row["coverage10"] == pytest.approx(1 / 3)
    assert (row["hr10"], row["ndcg10"]) == (0.5, 0.5)


def test_lists_of_a_peer_are_judged_by_place() -> None:
    everything = Histories.of_sequences([[10, 20, 30], [20, 10, 40]])
    row = of_lists(np.array([[2, 3], [2, 3]]), everything, everything.without_last(2), 1)
    assert row["hr10"] == 1.0
    assert row["ndcg10"] == pytest.approx((1 + 1 / np.log2(3)) / 2)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_window_is_its_formula(sparse: bool) -> None:
    histories = Histories.of_sequences([[1, 2, 3], [2, 3, 1]])
    found = MarkovWindow(sparse=sparse).fit(histories).scores_of(histories, np.array([0]))[0]
    if sparse:
        C = np.array([[0, 1, 2 * 0.8], [2 * 0.8, 0, 2], [1, 0, 0]])
        s = np.array([1 + 0.64, 1 + 1 + 0.64, 1])
        Q = C / (s + 5)[:, None] / (2 + 3) ** 0.3
    else:
        C = np.array([[0, 1, 0.8], [0.8, 0, 2], [1, 0, 0]])
        Q = C / (2 + 20) / (2**0.3 + 5)
    assert Q.shape == (3, 3)
    want = 0.49 * Q[0] + 0.7 * Q[1] + Q[2]
    assert found == pytest.approx(want, rel=1e-5)


def test_the_smallest_run_beats_popularity_and_names_who_is_absent(tmp_path: Path) -> None:
    rows = run("--sequences", str(walks(tmp_path)), "--budget", "60")
    by = {str(r["system"]): r for r in rows}
    assert list(by) == ["matinee", "popularity", "markov", "implicit ALS", "RecTools EASE"]
    ours = by["matinee"]
    assert float(str(ours["ndcg10"])) > 1.5 * float(str(by["popularity"]["ndcg10"]))
    assert {
        "seconds",
        "cpu_seconds",
        "peak_mb",
        "coverage10",
        "debiased_ndcg10",
        "novelty10",
        "validation_hr10",
    } <= set(ours)
    assert float(str(ours["ndcg10_low"])) < float(str(ours["ndcg10"])) < float(str(ours["ndcg10_high"]))
    assert str(ours["reasons"]).startswith("staged: ")
    assert "--peer-python" in str(by["implicit ALS"]["absent"])


def test_named_systems_run_alone_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    rows = run("--sequences", str(walks(tmp_path)), "--systems", "chain", "successor-sparse")
    assert [r["system"] for r in rows] == ["chain", "successor-sparse"]
    with pytest.raises(mt.MatineeError, match="systems == 'nobody'"):
        run("--sequences", str(walks(tmp_path)), "--systems", "nobody")
