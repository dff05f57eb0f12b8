"""The benchmarks of pages run at their smoke size, and say what they promise."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest

from benchmarks import calibration, page, serving_pages


def smoke(module: ModuleType, *options: str) -> list[dict[str, Any]]:
    """Rows of a benchmark at its smallest."""
    parser = argparse.ArgumentParser()
    module.options(parser)
    rows: list[dict[str, Any]] = module.run(parser.parse_args([*options, "--smoke"]))
    return rows


def test_stage_wise_pages_beside_the_best_ones() -> None:
    ours, fixed, exact = smoke(page)
    assert ours["system"] == "matinee"
    assert exact["share"] == 1.0
    assert exact["gap"] < 1e-4
    assert 0.8 < ours["share"] <= 1 + 1e-9
    assert fixed["share"] <= 1 + 1e-9
    assert {"seconds", "cpu_seconds", "peak_mb", "dataset"} <= set(ours)


def test_a_page_and_the_top_100_are_timed_and_checked() -> None:
    rows = serving_pages.run(300, 40, 30, 5, 4, 5)
    assert [r["system"] for r in rows] == ["NumPy: one product, 100 largest", "matinee", "matinee"]
    assert 15 < rows[2]["slots"] <= 20  # the row of what was begun may be shorter
    assert rows[2]["rows_filled"] == 4
    for row in rows:
        assert 0 < row["cpu_p50_ms"] <= row["cpu_p99_ms"]
        assert 0 < row["p50_ms"] <= row["p99_ms"]


def test_calibration_shows_the_whole_curve(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kinds = ["Action", "Drama", "War"]
    (tmp_path / "movies.dat").write_text("\n".join(f"{i}::Film {i}::{kinds[i % 3]}" for i in range(1, 91)), encoding="latin-1")
    rows = []
    for user in range(160):
        mine = rng.choice(np.arange(1, 91)[np.arange(90) % 3 == user % 3], 18, replace=False).tolist()
        other = rng.choice(90, 6, replace=False) + 1
        seen = list(dict.fromkeys([*mine, *other.tolist()]))
        rows += [(user, t, 5.0, k) for k, t in enumerate(seen)]
    pl.DataFrame(rows, schema=["user", "item", "rating", "pos"], orient="row").write_parquet(tmp_path / "ratings.parquet")
    found = smoke(calibration, "--ratings", str(tmp_path / "ratings.parquet"), "--held-out", "30")
    by = {r["system"]: r for r in found}
    assert by["no re-rank"]["loss"] == 0
    assert by["no re-rank"]["drop"] == 0
    assert by["ExCalibR (linear programming)"]["absent"]
    ours = by["matinee"]
    assert ours["kl"] <= by["no re-rank"]["kl"]
    assert ours["kl"] <= ours["kl_list"] + 1e-9  # an average is nearer than its parts are on average
    assert ours["loss_low"] <= ours["loss"] <= ours["loss_high"]
    assert sum(r["system"].startswith("curve: ") for r in found) == 6
    assert ours["dataset"] == tmp_path.name


def test_a_file_of_another_form_is_refused(tmp_path: Path) -> None:
    (tmp_path / "movies.dat").write_text("movieId,title,genres\n")
    with pytest.raises(ValueError, match=r"movies.dat: 'movieId,title,genres', must be id::title::genre"):
        calibration.genres_of(tmp_path / "movies.dat", np.array([1]))
