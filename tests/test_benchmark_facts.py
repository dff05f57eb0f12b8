"""The facts benchmark runs at its smoke size, and its promises hold there."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks.facts import options, run

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # peers warn as they please


def test_smoke(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    options(parser)
    rows = run(parser.parse_args(["--smoke", "--folder", str(tmp_path)]))
    ours = {row["task"]: row for row in rows if row["system"] == "matinee"}
    assert ours["erase one member"]["rows"] > ours["erase one member"]["rows_left_on_disk"] == 0
    assert ours["processes"]["lost"] == 0
    assert {"append", "8 small appends", "scan, fresh", "scan, compacted"} <= set(ours)
    assert all({"seconds", "cpu_seconds", "peak_mb", "dataset"} <= set(row) for row in ours.values())
    assert {row["system"] for row in rows} == {"matinee", "pyiceberg", "deltalake"}
    assert list(tmp_path.iterdir()) == []
