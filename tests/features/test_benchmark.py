"""The benchmark's systems answer the same, at its smallest size and in this process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import point_in_time


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_all_systems_agree(tmp_path: Path) -> None:
    point_in_time.write_data(tmp_path, 3_000, 500, seed=3)
    ours = point_in_time.matinee(tmp_path).sort("row")
    assert ours["plays_7d"].sum() > 0 and ours["last"].null_count() < 500
    for name, system in point_in_time.SYSTEMS.items():
        try:
            other = system(tmp_path).sort("row")
        except ImportError:
            continue
        assert other["last"].to_list() == ours["last"].to_list(), name
        assert other["plays_7d"].to_list() == ours["plays_7d"].to_list(), name
        assert other["seconds_7d"].to_list() == pytest.approx(ours["seconds_7d"].to_list(), abs=1e-6), name
