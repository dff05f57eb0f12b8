"""The scaling benchmark: its synthetic plays, its plan, its chart, a small run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks import scaling


def test_synthetic_plays_have_the_sizes_asked_for_and_a_long_tail() -> None:
    made = scaling.synthetic(300, 200, 20_000)
    assert (len(made), len(made.titles)) == (300, 200)
    assert abs(len(made.items) - 20_000) < 600
    assert made.items.min() >= 0
    assert made.items.max() < 200
    assert np.array_equal(made.items, scaling.synthetic(300, 200, 20_000).items)
    plays = np.sort(np.bincount(made.items))[::-1]
    assert plays[:20].sum() > 0.25 * plays.sum()
    # A member stays in one part of the catalogue four times in five.
    own = [np.mean(made.items[a:b] % scaling.PARTS == m % scaling.PARTS)
           for m, (a, b) in enumerate(zip(made.offsets[:-1], made.offsets[1:], strict=True)) if b - a > 50]  # fmt: skip
    assert 0.7 < float(np.mean(own)) < 0.9


def test_one_size_grows_at_a_time() -> None:
    plan = scaling.points(100_000_000)
    assert max(e for *_, e in plan) == 100_000_000
    for grows, fixed in (("titles", (1, 3)), ("members", (2, 3))):
        assert all(len({p[i] for p in plan if p[0] == grows}) == 1 for i in fixed)
    assert all(len({p[i] for p in plan if p[0] == "events"}) == 1 for i in (2,))


def test_a_small_run_measures_and_draws(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    scaling.options(parser)
    rows = scaling.run(parser.parse_args(["--smoke", "--chart", str(tmp_path / "chart.json")]))
    assert {r["system"] for r in rows} == set(scaling.MAKES)
    assert all(r["cpu_seconds"] >= 0 and r["peak_mb"] >= 0 for r in rows)
    drawn = json.loads((tmp_path / "chart.json").read_text())
    assert len(drawn["data"]["values"]) == len(rows)
    assert {p["title"] for p in drawn["hconcat"]} == {"events grow"}
    used = {e["field"] for p in drawn["hconcat"] for e in p["encoding"].values()}
    assert used <= set(drawn["data"]["values"][0])


def test_what_is_ruled_out_is_said() -> None:
    rows = [{"system": "together", "grows": "titles", "titles": 10**5, "absent": "too large"}]
    assert scaling.chart(rows)["data"]["values"] == []
