from __future__ import annotations

import argparse

import pytest

from benchmarks import serving


@pytest.mark.slow
def test_the_serving_benchmark_runs_at_its_smoke_size() -> None:
    parser = argparse.ArgumentParser()
    serving.options(parser)
    rows = serving.run(parser.parse_args(["--smoke"]))
    assert [row["system"] for row in rows].count("matinee") == 4
    over_http = [row for row in rows if "requests_per_s" in row]
    assert len(over_http) == 4, "two decisions, and HTTP alone beside each"
    assert all(row["failed"] == 0 and row["requests_per_s"] > 0 for row in over_http)
    for row in rows:
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert {"seconds", "cpu_seconds", "peak_mb", "dataset"} <= set(row)
