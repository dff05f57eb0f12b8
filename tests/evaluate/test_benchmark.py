"""The off-policy benchmark at its smoke size, and coverage of every interval that claims it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[2]))

from benchmarks import ope, ope_sets, ope_worlds
from matinee.evaluate import terms


def options(**changed: Any) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    ope.options(parser)
    args = parser.parse_args(["--smoke", "--peer-python", "/no/such/python"])
    return argparse.Namespace(**(vars(args) | changed))


def test_the_placement_of_thompson_sampling_is_that_of_its_draws() -> None:
    alpha, beta = np.array([3.0, 8.0, 2.0, 5.0]), np.array([30.0, 60.0, 40.0, 45.0])
    order = np.argsort(-np.random.default_rng(0).beta(alpha, beta, (200_000, 4)), axis=1)
    drawn = np.stack([np.bincount(order[:, k], minlength=4) for k in range(3)], axis=1) / 200_000
    found = ope_sets.placement(alpha, beta)
    assert found.sum(axis=0) == pytest.approx(np.ones(3))
    assert found == pytest.approx(drawn, abs=0.006)


def test_folds_are_those_of_the_published_runs() -> None:
    fold = ope_sets.k_folds(10)
    assert np.bincount(fold).tolist() == [4, 3, 3]
    order = np.arange(10)
    np.random.RandomState(12345).shuffle(order)
    assert set(np.flatnonzero(fold == 0)) == set(order[:4])


def test_the_synthetic_protocol_gives_the_published_errors() -> None:
    errors = [
        [abs(terms(log, m).value - truth) / truth for m in ("dm", "dr")] for log, truth in ope_sets.synthetic_runs(4)
    ]
    # obp 0.5.5 on the same four seeds: .0955 .0791 .0762 .0312 and .0027 .0031 .0157 .0038.
    assert [e[0] for e in errors] == pytest.approx([0.0955, 0.0791, 0.0762, 0.0312], abs=3e-4)
    assert [e[1] for e in errors] == pytest.approx([0.0027, 0.0031, 0.0157, 0.0038], abs=3e-4)


@pytest.mark.parametrize("name", ["members", "clicks", "slates"])
def test_intervals_cover(name: str) -> None:
    # 300 worlds: two standard errors are 2.5 points; the benchmark asks 93-97% of 2,000.
    for method, (held, _) in ope_worlds.coverage(ope_worlds.WORLDS[name](), 300).items():
        assert 0.92 <= held <= 0.98, method


def test_an_absent_peer_is_named_not_skipped(shared_data: Path) -> None:
    rows = ope.run(options(only="open-bandit", data=shared_data / "personalization" / "open-bandit"))
    ours, peer, published = rows
    assert ours["system"] == "matinee" and ours["runs"] == 2 and ours["value_dr"] > 0
    assert "dr" not in ours and "values, not errors" in ours["note"]
    assert peer["system"] == "obp" and "/no/such/python" in peer["absent"]
    assert published["dr"] == 0.2925


def test_a_truth_file_turns_values_into_errors(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text("click\n" + "1\n" * 5 + "0\n" * 995)
    data = shared_data / "personalization" / "open-bandit" / "random-all" / "all.csv"
    row = ope.run(options(only="open-bandit", data=data, truth=tmp_path))[0]
    log = ope_sets.OpenBanditRuns(ope_sets.open_bandit(data), ope_sets.placement())
    values = [terms(log.resampled(run), "ips").value for run in range(2)]
    assert row["ips"] == pytest.approx(np.mean([abs(v - 0.005) / 0.005 for v in values]))


def test_scale_runs_in_chunks() -> None:
    row = ope.scale(20_000)
    assert row["dataset"] == "20,000 rows x 50 actions" and row["dr"] < 0.1


def test_nothing_is_run_without_data() -> None:
    assert ope.run(options(only="open-bandit", data=None))[0]["absent"] == "--data not given"
    with pytest.raises(FileNotFoundError, match="must be a log"):
        ope_sets.open_bandit(Path("/no/such/folder"))
