"""The time split benchmark on a small MovieLens folder of our own."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

from benchmarks import time_split


def folder(path: Path, members: int = 60, titles: int = 40) -> Path:
    """Members walk up the catalogue at their own times; the newest titles come only at the end."""
    rng = np.random.default_rng(0)
    lines = ["userId,movieId,rating,timestamp"]
    for m in range(members):
        at, start = int(rng.integers(titles)), 10_000 * m
        for k in range(20):
            lines.append(f"{m},{at + 1},4.0,{1_000_000_000 + start + 900 * k * 37}")
            at = (at + int(rng.integers(1, 3))) % titles
    lines += [f"{m},{900 + m % 3},4.0,{1_000_000_000 + 5_000_000 + m}" for m in range(members)]
    path.mkdir()
    (path / "ratings.csv").write_text("\n".join(lines) + "\n")
    movies = [f"{t + 1},Film number {t} (199{t % 10}),{'War' if t % 2 else 'Comedy|Drama'}" for t in range(titles)]
    movies += [f"{900 + k},Late film {k} (2001),War" for k in range(3)]
    (path / "movies.csv").write_text("movieId,title,genres\n" + "\n".join(movies) + "\n")
    (path / "tags.csv").write_text("userId,movieId,tag,timestamp\n1,900,war,1000000000\n")
    return path


def test_a_small_run_tells_warm_from_cold(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    time_split.options(parser)
    rows = time_split.run(parser.parse_args(["--data", str(folder(tmp_path / "small")), "--smoke"]))
    by = {r["system"]: r for r in rows}
    assert by["Markov window"]["over_markov"] == pytest.approx(1.0)
    assert by["Markov window"]["ndcg10"] > by["popularity"]["ndcg10"] + 0.1
    assert by["matinee"]["ndcg10"] > by["popularity"]["ndcg10"] + 0.1
    assert by["matinee"]["coverage10"] >= by["matinee, no place kept"]["coverage10"]
    for row in rows:
        assert row["ndcg10_low"] <= row["ndcg10"] <= row["ndcg10_high"]
        assert row["over_markov_low"] <= row["over_markov"] <= row["over_markov_high"]
    # Titles that nobody had played before the cut are out of reach for all but the one that reads what they are.
    assert by["popularity"]["hr10_cold_titles"] == 0
    assert "60 never seen before" in by["matinee"]["dataset"]


def test_ties_stand_in_the_order_of_titles(tmp_path: Path) -> None:
    where = folder(tmp_path / "ties", members=3)
    text = (where / "ratings.csv").read_text()
    (where / "ratings.csv").write_text(text + "0,33,5.0,999\n0,7,5.0,999\n")
    events, titles, tags = time_split.read(where)
    assert events.filter(events["member"] == 0)["title"].to_list()[:2] == [7, 33]
    assert len(titles) == 43
    assert tags["tag"].to_list() == ["war"]
