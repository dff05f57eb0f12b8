"""Routing: choose the processor of each payment attempt; value = success * margin * amount - fee.

    python -m benchmarks.routing --train january.csv --test february.csv --fees fees.csv [--json FILE]
    python -m benchmarks.routing --train january.csv --fees fees.csv --validate weeks      # or: --validate days

Trained on one log and valued on the other by a doubly robust estimate, clustered by purchase; propensities are the
training log's shares by first attempt or retry. `matinee` takes in each answer as it comes (no row sees its own answer
or a later one; no setting depends on the test log), which is the most that training again and again could give;
`matinee, frozen` is the same model without that, which is what a studio serves between trainings. Peers run on the same rows: what
was logged, the best single processor (picked on the test rows, in its favour) and two plain LightGBM set-ups. Without a
test log, `--validate` carves one out of the training log.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

import matinee as mt
from benchmarks.harness import Row, main, measured
from matinee.domains.payments.processor_log import ProcessorLog, read
from matinee.domains.payments.routing_model import RoutingModel
from matinee.domains.payments.routing_value import Sheet, Trial, pool
from matinee.evaluate import EvidenceTable, compare

MARGINS = (5, 10, 20)
Fit = Callable[[pl.DataFrame, pl.DataFrame, list[str]], np.ndarray]
PEERS: dict[str, Fit] = {}
SMOKE = (("full", {"leaves": 7, "trees": 30, "rate": 0.12, "min_rows": 20, "l2": 0.0}),)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--train", type=Path, required=True, help="log of attempts to learn from (CSV)")
    parser.add_argument("--test", type=Path, help="log of attempts to value on (CSV)")
    parser.add_argument("--fees", type=Path, required=True, help="fees by processor (CSV)")
    parser.add_argument("--validate", choices=("weeks", "days"), help="value inside the training log instead")
    parser.add_argument("--smoke", action="store_true", help="the first rows only, and no peers: does it run at all")
    parser.add_argument("--seed", type=int, default=0)


def peer(name: str) -> Callable[[Fit], Fit]:
    def note(fit: Fit) -> Fit:
        PEERS[name] = fit
        return fit

    return note


def _columns(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns that the notes' plain models read; words as categories."""
    return frame.select(
        pl.col("amount_minor").cast(pl.Float64), pl.col("three_d").cast(pl.Float64), "country", "card",
        hour=pl.col("at").dt.hour().cast(pl.Float64), weekday=pl.col("at").dt.weekday().cast(pl.Float64),
        number=pl.col("number").cast(pl.Float64), gap_seconds=pl.col("gap_seconds").fill_null(-1.0),
        previous=pl.col("previous").fill_null("none"),
    )  # fmt: skip


@peer("LightGBM, processor as a feature")
def pooled(train: pl.DataFrame, test: pl.DataFrame, names: list[str]) -> np.ndarray:
    model = mt.LightGBM(trees=200, leaves=15, rate=0.03, l2=0.0)
    model.fit(_columns(train).with_columns(train["processor"]), train["approved"].to_numpy())
    return np.column_stack([model.score(_columns(test).with_columns(pl.lit(n).alias("processor"))) for n in names])


@peer("LightGBM per processor")
def apart(train: pl.DataFrame, test: pl.DataFrame, names: list[str]) -> np.ndarray:
    found = []
    for name in names:
        rows = train.filter(pl.col("processor") == name)
        model = mt.LightGBM(trees=150, leaves=7, rate=0.03, l2=0.0).fit(_columns(rows), rows["approved"].to_numpy())
        found.append(model.score(_columns(test)))
    return np.column_stack(found)


@peer("logistic per processor")
def logistic(train: pl.DataFrame, test: pl.DataFrame, names: list[str]) -> np.ndarray:
    found = []
    for name in names:
        rows = train.filter(pl.col("processor") == name)
        found.append(mt.Logistic().fit(_columns(rows), rows["approved"].to_numpy()).score(_columns(test)))
    return np.column_stack(found)


def run(args: argparse.Namespace) -> list[Row]:
    if (args.test is None) == (args.validate is None):
        raise mt.MatineeError("give --test FILE, or --validate weeks|days to value inside the training log")
    log = read(args.train, args.fees)
    attempts = log.usable.head(6_000) if args.smoke else log.usable
    if args.test is not None:
        later = read(args.test, args.fees).usable
        later = later.head(4_000) if args.smoke else later
        trials = [Trial(attempts, later, log.fees, seed=args.seed, learner=_learner(args))]
        dataset = args.test.name
    else:
        trials = _carved(attempts, log, args)
        how = {"weeks": "each week held out in turn", "days": "last third of the days"}[args.validate]
        dataset = f"{args.train.name}, {how}"
    return judged(trials, dataset, peers=not args.smoke)


def _learner(args: argparse.Namespace) -> RoutingModel:
    return RoutingModel(extras=(), variants=SMOKE) if args.smoke else RoutingModel()


def _carved(attempts: pl.DataFrame, log: ProcessorLog, args: argparse.Namespace) -> list[Trial]:
    day = (attempts["at"].dt.date() - attempts["at"].dt.date().min()).dt.total_days()
    if args.validate == "days":
        cut = round(2 / 3 * (int(day.max()) + 1))
        before, after = attempts.filter(day < cut), attempts.filter(day >= cut)
        return [Trial(before, after, log.fees, seed=args.seed, learner=_learner(args))]
    weeks = day // 7
    return [
        Trial(
            attempts.filter(weeks != w), attempts.filter(weeks == w), log.fees, later=False, seed=args.seed,
            learner=_learner(args),
        )
        for w in weeks.unique().sort().to_list()
    ]  # fmt: skip


def judged(trials: list[Trial], dataset: str, *, peers: bool = True) -> list[Row]:
    """A row a system. Cost is that of fitting and choosing; the judging models are counted in no row."""
    sheet = pool([t.sheet for t in trials])
    names = sheet.processors
    mine: Row = {"system": "matinee", "dataset": dataset}
    with measured(mine):
        live = [t.live for t in trials]
        thrifty = [t.within_budget(t.live, t.fitted.crossfitted) for t in trials]
    frozen: Row = {"system": "matinee, frozen", "dataset": dataset}
    with measured(frozen):
        still = [t.frozen for t in trials]
        cheap = [t.within_budget(t.frozen, t.fitted.outside) for t in trials]
    # The same fit serves both rows, and each is charged for it.
    frozen |= {k: mine[k] + frozen[k] for k in ("seconds", "cpu_seconds")}
    judge = np.concatenate([t.judge for t in trials])
    rows = [mine, frozen]
    _value(mine, sheet, judge, live, thrifty)
    _value(frozen, sheet, judge, still, cheap)
    for name, fit in PEERS.items() if peers else ():
        row: Row = {"system": name, "dataset": dataset}
        with measured(row):
            q = [fit(t.train, t.test, names) for t in trials]
            cheap = [t.within_budget(x, _crossfit(fit, t.train, names)) for t, x in zip(trials, q, strict=True)]
        _value(row, sheet, judge, q, cheap)
        rows.append(row)
    single: Row = {
        "system": "best single processor",
        "dataset": dataset,
        "seconds": 0.0,
        "cpu_seconds": 0.0,
        "peak_mb": 0.0,
    }
    for margin in MARGINS:
        always = {n: sheet.value(np.full(len(judge), i), margin / 100, judge, n) for i, n in enumerate(names)}
        best = max(always, key=lambda n: always[n].headline.value or -np.inf)
        _put(single, f"net_{margin}", always[best], 100)
        single[f"processor_{margin}"] = best
    as_logged: Row = {"system": "logged", "dataset": dataset, "seconds": 0.0, "cpu_seconds": 0.0, "peak_mb": 0.0}
    for margin in MARGINS:
        as_logged |= _mean(f"net_{margin}", _reward(sheet, margin / 100) / 100, sheet)
    as_logged |= _mean("success", sheet.approved, sheet) | {"fee": float(sheet.fee.mean() / 100)}
    return [*rows, single, as_logged]


def _crossfit(fit: Fit, train: pl.DataFrame, names: list[str], folds: int = 5) -> np.ndarray:
    fold = train["at"].dt.epoch("d").to_numpy() % folds
    out = np.empty((len(train), len(names)))
    for f in np.unique(fold):
        out[fold == f] = fit(train.filter(fold != f), train.filter(fold == f), names)
    return out


def _value(row: Row, sheet: Sheet, judge: np.ndarray, q: list[np.ndarray], thrifty: list[np.ndarray]) -> None:
    """Adds net values, their interval, the other estimators, and success at the logged fee."""
    together = np.concatenate(q)
    for margin in MARGINS:
        found = sheet.value(sheet.richest(together, margin / 100), margin / 100, judge, row["system"])
        _put(row, f"net_{margin}", found, 100)
        for method in ("ips", "snips", "dm"):
            row[f"{method}_{margin}"] = None if found[method].value is None else found[method].value / 100
    action = np.concatenate(thrifty)
    _put(row, "success_at_logged_fee", sheet.success(action, judge, row["system"]), 1)
    spent = sheet.spent(action, judge).headline.value
    row["fee"] = None if spent is None else spent / 100
    log = sheet.logged(sheet.richest(together, 0.10), *sheet.net(0.10), judge, row["system"])
    gain = compare(log)
    for name, value in (("", gain.difference), ("_low", gain.low), ("_high", gain.high)):
        row[f"over_logged_10{name}"] = None if value is None else value / 100


def _put(row: Row, name: str, found: EvidenceTable, unit: float) -> None:
    head = found.headline
    row[name] = None if head.value is None else head.value / unit
    row[f"{name}_low"] = None if head.low is None else head.low / unit
    row[f"{name}_high"] = None if head.high is None else head.high / unit
    row[f"{name}_effective_n"] = round(head.effective_n)
    if head.refused:
        row[f"{name}_refused"] = head.refused


def _reward(sheet: Sheet, margin: float) -> np.ndarray:
    success, failure = sheet.net(margin)
    rows = np.arange(len(sheet.action))
    return np.where(sheet.approved == 1, success[rows, sheet.action], failure[rows, sheet.action])


def _mean(name: str, values: np.ndarray, sheet: Sheet) -> Row:
    """A mean with its interval, clustered by purchase."""
    from matinee.evaluate import Logged, estimate

    ones = np.ones(len(values))
    found = estimate(Logged(values, ones, ones, cluster=sheet.purchase), "ips")
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


COLUMNS = [
    "system", "net_5", "net_5_low", "net_5_high", "net_10", "net_10_low", "net_10_high", "net_20", "net_20_low",
    "net_20_high", "success_at_logged_fee", "success_at_logged_fee_low", "success_at_logged_fee_high", "fee",
    "net_10_effective_n", "ips_10", "snips_10", "dm_10", "cpu_seconds",
]  # fmt: skip

if __name__ == "__main__":
    main("routing", run, options, columns=COLUMNS)
