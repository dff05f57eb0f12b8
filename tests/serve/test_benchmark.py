from __future__ import annotations

import argparse

import pytest

from benchmarks import serving


@pytest.mark.slow
def test_the_serving_benchmark_runs_at_its_smoke_size() -> None:
    parser = argparse.ArgumentParser()
    serving.options(parser)
    rows = serving.run(parser.parse_args(["--smoke"]))
    assert [row["system"] for row in rows].count("matinee") == 2
    for row in rows:
        assert row["failed"] == 0
        assert row["requests_per_s"] > 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert {"seconds", "cpu_seconds", "peak_mb", "dataset"} <= set(row)
