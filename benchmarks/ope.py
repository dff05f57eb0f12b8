"""Off-policy estimators against published errors and obp: Open Bandit, synthetic, multiclass; scale; coverage.

    python -m benchmarks.ope --data open-bandit [--truth BTS_LOG] [--runs 30] [--smoke] [--peer-python PATH] [--json F]

Rows carry the mean relative error |V^ - V| / V of each estimator over runs (column named after the estimator). The
truth of Open Bandit is the mean click of a log that the evaluated policy collected itself; where that log is absent the
row holds the estimates instead (columns `value_...`) and says so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks import harness, ope_sets, ope_worlds
from benchmarks.harness import Row, measured
from benchmarks.ope_sets import Floats
from matinee.evaluate.estimators import terms
from matinee.evaluate.evidence import estimate_all
from matinee.evaluate.logged import Logged
from matinee.evaluate.logistic import Design, fit_logistic

METHODS = ("dm", "ips", "snips", "dr", "sndr", "switch-dr", "dr-os")
PUBLISHED: dict[str, tuple[float, ...]] = {
    "open bandit": (0.1569, 0.3111, 0.3118, 0.2925, 0.3024, 0.2584, 0.1595),
    "synthetic": (0.0744, 0.0095, 0.0067, 0.0062, 0.0061, 0.0062, 0.0220),
    "multiclass": (0.437, 0.0303, 0.0228, 0.0162, 0.0221, 0.0347, 0.0159),
}
PUBLISHED_RUNS = {"open bandit": 30, "synthetic": 20, "multiclass": 30}
COLUMNS = ["system", "dataset", "runs", *METHODS, *(f"value_{m}" for m in METHODS)]
COLUMNS += ["gap_published", "gap_obp", "coverage", "width", "seconds", "cpu_seconds", "peak_mb", "absent", "note"]


def values(logs: Iterable[tuple[Logged, float | None]]) -> tuple[Floats, list[float | None]]:
    """The seven values of each log, shape (runs, 7), and the truths."""
    found, truths = [], []
    for log, truth in logs:
        found.append([terms(log, method).value for method in METHODS])
        truths.append(truth)
    return np.array(found), truths


def errors(found: Floats, truths: list[float]) -> Floats:
    """Relative error of each estimator in each run."""
    truth = np.array(truths)[:, None]
    relative: Floats = np.abs(found - truth) / np.abs(truth)
    return relative


def fill(row: Row, found: Floats, truths: list[float | None]) -> None:
    """Writes errors into a row where the truth is known, estimates where it is not."""
    row["runs"] = len(found)
    known = [t for t in truths if t is not None]
    if len(known) == len(found):
        table = errors(found, known)
        for j, method in enumerate(METHODS):
            row[method] = float(table[:, j].mean())
            row[f"{method}_sd"] = float(table[:, j].std(ddof=1)) if len(table) > 1 else None
    for j, method in enumerate(METHODS):
        row[f"value_{method}"] = float(found[:, j].mean())


def gaps(row: Row, published: Row, peer: Row, found: Floats, theirs: Floats | None) -> None:
    """How far our errors are from the published ones, and our values from obp's on the same logs."""
    if METHODS[0] in row and row["runs"] == PUBLISHED_RUNS[row["dataset"]]:
        row["gap_published"] = max(abs(row[m] - published[m]) for m in METHODS)
    if theirs is not None and len(theirs):
        k = min(len(theirs), len(found))
        row["gap_obp"] = float(np.abs(found[:k].mean(axis=0) / theirs[:k].mean(axis=0) - 1).max())
    if METHODS[0] in row and METHODS[0] in peer and peer["runs"] == row["runs"]:
        row["gap_obp_errors"] = max(abs(row[m] - peer[m]) for m in METHODS)


def peer(dataset: str, runs: int, python: str, folder: Path | None, truth: float | None) -> tuple[Row, Floats | None]:
    """The same protocol by obp, in its own interpreter; a row that says why where it cannot run."""
    row: Row = {"system": "obp", "dataset": dataset}
    script = Path(__file__).with_name("ope_peer.py")
    command = [python, "-W", "ignore", str(script), dataset.replace(" ", "-"), str(runs), str(folder.resolve()) if folder else ""]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONWARNINGS": "ignore"})
    except OSError as error:
        return row | {"absent": f"{python}: {error.strerror}"}, None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return row | {"absent": f"obp does not run here: {last[:120]}"}, None
    said = json.loads(done.stdout.strip().splitlines()[-1])
    found = np.array([said["values"][m] for m in METHODS]).T
    truths = said["truths"] or [truth] * len(found)
    fill(row, found, truths)
    row |= {k: said[k] for k in ("seconds", "cpu_seconds", "peak_mb")}
    return row | {"note": f"obp {said['version']}"}, found


def published(dataset: str) -> Row:
    """The published errors."""
    row: Row = {"system": "published", "dataset": dataset, "runs": PUBLISHED_RUNS[dataset]}
    return row | dict(zip(METHODS, PUBLISHED[dataset], strict=True))


def open_bandit(args: argparse.Namespace) -> list[Row]:
    """Bernoulli Thompson sampling judged on resamples of the random log."""
    if args.data is None:
        return [{"system": "matinee", "dataset": "open bandit", "absent": "--data not given"}]
    row: Row = {"system": "matinee", "dataset": "open bandit"}
    truth = None if args.truth is None else ope_sets.truth_of(args.truth)
    with measured(row):
        log = ope_sets.open_bandit(args.data)
        jobs = ope_sets.OpenBanditRuns(log, ope_sets.placement())
        found, truths = values((jobs.resampled(run), truth) for run in range(args.runs))
    fill(row, found, truths)
    if truth is None:
        row["note"] = "no log collected by the evaluated policy (--truth): values, not errors"
    print(f"Open Bandit, the whole log, {log.n:,} rows:\n{estimate_all(jobs.resampled(None))}\n")
    theirs, others = peer("open bandit", args.peer_runs or args.runs, args.peer_python, log.path.parent, truth)
    reference = published("open bandit")
    gaps(row, reference, theirs, found, others)
    return [row, theirs, reference]


def known_truth(dataset: str, args: argparse.Namespace) -> list[Row]:
    """The synthetic or the multiclass protocol."""
    row: Row = {"system": "matinee", "dataset": dataset}
    runs = min(args.runs, PUBLISHED_RUNS[dataset])
    logs = ope_sets.synthetic_runs if dataset == "synthetic" else ope_sets.multiclass_runs
    try:
        with measured(row):
            found, truths = values(logs(runs))
    except ModuleNotFoundError as error:
        reason = f"{error.name} is not installed: it holds the digits and the classifiers of this protocol"
        return [{"system": "matinee", "dataset": dataset, "absent": reason}, published(dataset)]
    fill(row, found, truths)
    theirs, others = peer(dataset, min(runs, args.peer_runs or runs), args.peer_python, None, None)
    reference = published(dataset)
    gaps(row, reference, theirs, found, others)
    return [row, theirs, reference]


def scale(n: int, actions: int = 50, seed: int = 0) -> Row:
    """All estimators with intervals, q cross-fitted in 3 folds, on n rows; the log itself is drawn before the clock."""
    rng = np.random.default_rng(seed)
    B, a, P = rng.normal(0, 0.5, (5, actions)), rng.normal(-2, 0.5, actions), rng.normal(0, 0.6, (5, actions))
    step = 16_384
    x = rng.normal(size=(n, 5))
    action, propensity, reward, truth = np.empty(n, dtype=np.int64), np.empty(n), np.empty(n), 0.0
    for i in range(0, n, step):
        part = slice(i, i + step)
        mu = ope_sets.softmax(0.5 * (x[part] @ P[:, ::-1]))
        q = 1 / (1 + np.exp(-(x[part] @ B + a)))
        action[part] = (mu.cumsum(axis=1) > rng.random((len(mu), 1))).argmax(axis=1)
        rows = np.arange(len(mu))
        propensity[part] = mu[rows, action[part]]
        reward[part] = rng.random(len(mu)) < q[rows, action[part]]
        truth += float((ope_sets.softmax(x[part] @ P) * q).sum())
    row: Row = {"system": "matinee", "dataset": f"{n:,} rows x {actions} actions", "runs": 1}
    with measured(row):
        fold = rng.integers(0, 3, n)
        design = Design((action,), (actions,), x)
        fits: list[Floats] = []
        for k in range(3):
            train = fold != k
            start = fits[0] if fits else None
            fits.append(fit_logistic(design.rows(train), reward[train], np.ones(int(train.sum())), start=start))
        pi, q_logged, q_policy = np.empty(n), np.empty(n), np.empty(n)
        table = np.stack(fits)
        for i in range(0, n, step):  # rows x actions exist for one chunk at a time
            part = slice(i, i + step)
            policy = ope_sets.softmax(x[part] @ P)
            of_row = table[fold[part]]
            score = (x[part] * of_row[:, 1:6]).sum(axis=1) + of_row[:, 0]
            q = of_row[:, 6:] + score[:, None]
            np.exp(np.negative(q, out=q), out=q)
            np.reciprocal(np.add(q, 1.0, out=q), out=q)
            rows = np.arange(len(policy))
            pi[part], q_logged[part] = policy[rows, action[part]], q[rows, action[part]]
            q_policy[part] = np.einsum("na,na->n", policy, q)
        evidence = estimate_all(Logged(reward, propensity, pi, q_logged, q_policy, policy="softmax"))
    for one in evidence.evidence:
        if one.method in METHODS and one.value is not None:
            row[one.method] = abs(one.value - truth / n) / (truth / n)
            row[f"value_{one.method}"] = one.value
    return row


def coverage_rows(worlds: int) -> list[Row]:
    """Coverage of the 95% intervals of every estimator that claims it, world by world."""
    rows: list[Row] = []
    for name, build in ope_worlds.WORLDS.items():
        world = build()
        row: Row = {"system": "matinee", "dataset": f"coverage: {name}"}
        with measured(row):
            found = ope_worlds.coverage(world, worlds)
        row["runs"] = worlds
        for method, (held, width) in found.items():
            row[f"coverage_{method}"], row[f"width_{method}"] = held, width
        row["coverage"] = ", ".join(f"{method} {held:.3f}" for method, (held, _) in found.items())
        rows.append(row)
    return rows


def options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--data", type=Path, help="Open Bandit: the folder, or the random log itself (all.csv)")
    parser.add_argument(
        "--truth", type=Path, help="log collected by Bernoulli TS on the same campaign (a file or folder)"
    )
    parser.add_argument("--runs", type=int, default=30, help="resamples and runs (synthetic: at most 20)")
    parser.add_argument("--peer-runs", type=int, help="runs of the peer, where fewer are wanted")
    parser.add_argument("--peer-python", default=sys.executable, help="an interpreter that has obp")
    parser.add_argument("--worlds", type=int, default=2000, help="worlds for coverage")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the scale run")
    parser.add_argument("--only", choices=["open-bandit", "synthetic", "multiclass", "scale", "coverage"])
    parser.add_argument("--smoke", action="store_true", help="a small size that shows that everything runs")


def run(args: argparse.Namespace) -> list[Row]:
    """All rows; Open Bandit first, so that its memory is its own."""
    if args.smoke:
        args.runs, args.peer_runs, args.worlds, args.rows = 2, 1, 20, 20_000
    rows: list[Row] = []
    if args.only in {None, "open-bandit"}:
        rows += open_bandit(args)
    for dataset in ("synthetic", "multiclass"):
        if args.only in {None, dataset}:
            rows += known_truth(dataset, args)
    if args.only in {None, "scale"}:
        rows.append(scale(args.rows))
    if args.only in {None, "coverage"}:
        rows += coverage_rows(args.worlds)
    return rows


if __name__ == "__main__":
    begun = time.perf_counter()
    harness.main("ope", run, options, columns=COLUMNS)
    print(f"{time.perf_counter() - begun:.0f} s in all")
