"""The routing benchmark runs on any file of its form, and its rows say what they must."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.harness import main
from tests.domains.payments.planted import as_lines, log, write

from benchmarks import routing


def test_rows_of_a_smoke_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write(tmp_path / "train", as_lines(log(1_500, seed=1)))
    test = write(tmp_path / "test", as_lines(log(900, seed=2)))
    out = tmp_path / "out.json"
    argv = [
        "--train",
        str(train),
        "--test",
        str(test),
        "--fees",
        str(train.parent / "fees.csv"),
        "--smoke",
        "--json",
        str(out),
    ]
    rows = main("routing", routing.run, routing.options, columns=routing.COLUMNS, argv=argv)
    by = {r["system"]: r for r in rows}
    assert list(by) == ["matinee", "matinee, frozen", "best single processor", "logged"]
    ours = by["matinee"]
    for name in ("net_5", "net_10", "net_20", "success_at_logged_fee"):
        assert ours[f"{name}_low"] <= ours[name] <= ours[f"{name}_high"]
    assert ours["net_10"] > by["best single processor"]["net_10"] > by["logged"]["net_10"]
    assert {"seconds", "cpu_seconds", "peak_mb", "ips_10", "snips_10", "dm_10"} <= set(ours)
    assert json.loads(out.read_text())["benchmark"] == "routing"
    assert "matinee, frozen" in capsys.readouterr().out
