"""The small benchmarks of the platform run at their smoke size and say what they promise."""

from __future__ import annotations

import argparse
from types import ModuleType

import pytest

from benchmarks import decide, import_time


def smoke(module: ModuleType) -> list[dict[str, object]]:
    """Rows of a benchmark at its smallest."""
    parser = argparse.ArgumentParser()
    module.options(parser)
    rows: list[dict[str, object]] = module.run(parser.parse_args(["--smoke"]))
    return rows


def test_decisions_are_timed_beside_plain_numpy() -> None:
    rows = smoke(decide)
    assert [r["system"] for r in rows] == ["matinee", "matinee without the log", "plain NumPy and msgspec"]
    for row in rows:
        assert 0 < float(str(row["p50_us"])) <= float(str(row["p99_us"]))
        assert {"seconds", "cpu_seconds", "peak_mb", "dataset"} <= set(row)


def test_importing_the_package_imports_nothing_heavy() -> None:
    ours, bare = smoke(import_time)
    assert (ours["system"], bare["system"]) == ("matinee", "bare python")
    assert ours["heavy"] == "none"
    assert float(str(ours["import_seconds"])) < 0.5


def test_a_heavy_import_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    report = "import time:      1022 |       4088 |   numpy.linalg\nimport time:       100 |       5188 | matinee\n"
    assert import_time.imported(report) == {"numpy.linalg": 0.004088, "matinee": 0.005188}
    monkeypatch.setattr(import_time, "once", lambda code: (0.1, 0.1, 10.0, report))
    assert smoke(import_time)[0]["heavy"] == "numpy"
