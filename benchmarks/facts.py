"""Facts in tables: one big append, many small ones, scans, an erasure with its bytes, several processes at once.

Events over 90 days as in a service's log (members and titles follow heavy tails), known some seconds after they
happened, bucketed 16 by member. Every system writes and reads the same rows in the same run:

- `append`: all events in one atomic commit, on disk (matinee forces files to disk; the peers leave them to the system).
- `small appends`: 400 appends of 1,000 rows; the median of the first and the last twenty.
- `scan`: seconds watched by title, best of five: after the big append ("fresh"), after the small ones, once compacted.
  The compacted table takes turns with a second one that was appended at once: what else the machine does, both pay.
- `erase`: one member with an ordinary number of events; then every data file on disk is opened and searched.
- `processes`: 4 processes append 25 times each; appends that were acknowledged and are not there are lost.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Row, main, measured

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

SMALL_ROWS = 1_000
BUCKETS = 16
COLUMNS = ["system", "task", "seconds", "cpu_seconds", "peak_mb", "rows_per_second", "first_ms", "last_ms", "vs_fresh"]
COLUMNS += ["rows", "rows_left_on_disk", "lost", "absent"]


def events(rows: int, seed: int) -> pl.DataFrame:
    """Play events, ordered by time: member, title, seconds, device, country, at, known."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(seed)
    at = np.sort(rng.integers(0, 90 * 86_400_000_000, rows)) + 1_780_000_000_000_000
    known = at + rng.exponential(2_000_000, rows).astype(np.int64)
    stamp = pl.Datetime("us", "UTC")
    devices = pl.Series(["tv", "phone", "tablet", "web", "console", "car"])
    countries = pl.Series(["US", "GB", "DE", "FR", "BR", "JP", "IN", "MX"])
    return pl.DataFrame(
        {
            "member": np.minimum(rng.pareto(1.2, rows) * 20_000, 1e15).astype(np.int64) % 1_000_000,
            "title": np.minimum(rng.pareto(0.9, rows) * 30, 7_999).astype(np.int64),
            "seconds": rng.gamma(1.3, 1_500, rows),
            "device": devices.gather(rng.integers(0, len(devices), rows)),
            "country": countries.gather(rng.integers(0, len(countries), rows)),
            "at": pl.Series(at).cast(stamp),
            "known": pl.Series(known).cast(stamp),
        }
    )


def schema() -> pa.Schema:
    """The table's columns: the events', and those that come with every fact."""
    import pyarrow as pa

    stamp = pa.timestamp("us", "UTC")
    return pa.schema(
        [
            pa.field("member", pa.int64(), nullable=False),
            pa.field("title", pa.int64()),
            pa.field("seconds", pa.float64()),
            pa.field("device", pa.large_string()),
            pa.field("country", pa.large_string()),
            pa.field("at", stamp, nullable=False),
            pa.field("known", stamp, nullable=False),
            pa.field("seq", pa.int64(), nullable=False),
            pa.field("choice", pa.large_string()),
            pa.field("outcome", pa.large_string()),
        ]
    )


class Matinee:
    """Ours, through the public tables."""

    name = "matinee"
    compacts = True

    def __init__(self, folder: Path) -> None:
        from matinee.tables import Tables

        self.folder = folder
        self._tables = Tables(folder)
        self._tables.create("played", schema(), key="member", buckets=BUCKETS)

    def append(self, frame: pl.DataFrame) -> None:
        self._tables.append("played", frame)

    def scan(self) -> pl.LazyFrame:
        return self._tables.scan("played")

    def compact(self) -> None:
        self._tables.compact("played")

    def erase(self, member: int) -> None:
        self._tables.erase("played", "member", [member])


class PyIceberg:
    """The table library by itself: default settings, bucketed; it has no compaction."""

    name = "pyiceberg"
    compacts = False

    def __init__(self, folder: Path) -> None:
        from pyiceberg.catalog.sql import SqlCatalog
        from pyiceberg.transforms import BucketTransform

        self.folder = folder
        folder.mkdir()
        catalog = SqlCatalog("peer", uri=f"sqlite:///{folder}/peer.db", warehouse=f"file://{folder}")
        catalog.create_namespace("peer")
        self._table = catalog.create_table("peer.played", _nullable())
        with self._table.update_spec() as spec:
            spec.add_field("member", BucketTransform(BUCKETS), "member_bucket")

    def append(self, frame: pl.DataFrame) -> None:
        self._table.append(_with_all(frame).to_arrow().cast(_nullable()))

    def scan(self) -> pl.LazyFrame:
        import polars as pl

        return pl.scan_iceberg(self._table)

    def compact(self) -> None:
        raise RuntimeError("pyiceberg has no compaction")

    def erase(self, member: int) -> None:
        self._table.delete(f"member == {member}")


class DeltaLake:
    """delta-rs, unpartitioned (it has no buckets); erasure with the vacuum that removes the bytes."""

    name = "deltalake"
    compacts = True

    def __init__(self, folder: Path) -> None:
        from deltalake import DeltaTable

        self.folder = folder
        self._table = DeltaTable.create(str(folder), _nullable())

    def append(self, frame: pl.DataFrame) -> None:
        from deltalake import write_deltalake

        write_deltalake(self._table, _with_all(frame).to_arrow().cast(_nullable()), mode="append")

    def scan(self) -> pl.LazyFrame:
        import polars as pl

        return pl.scan_delta(self._table)

    def compact(self) -> None:
        self._table.optimize.compact()

    def erase(self, member: int) -> None:
        self._table.delete(f"member = {member}")
        self._table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)


def _nullable() -> pa.Schema:
    import pyarrow as pa

    return pa.schema([field.with_nullable(True) for field in schema()])


def _with_all(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns that our tables fill by themselves."""
    import polars as pl

    none = pl.lit(None, pl.String)
    return frame.with_columns(seq=pl.int_range(frame.height), choice=none, outcome=none)


def measure(system: Any, args: argparse.Namespace, frame: pl.DataFrame) -> list[Row]:
    """All tasks of one system but the last, on one table."""
    rows: list[Row] = []

    def task(name: str, function: Callable[[], Any]) -> Row:
        row: Row = {"system": system.name, "dataset": f"{frame.height:,} events", "task": name}
        with measured(row):
            function()
        rows.append(row)
        return row

    row = task("append", lambda: system.append(frame))
    row["rows_per_second"] = round(frame.height / row["seconds"])
    fresh = _scan(task, "scan, fresh", system)

    small = frame.tail(50 * SMALL_ROWS)
    took: list[float] = []

    def append_small() -> None:
        for i in range(args.appends):
            start = time.perf_counter()
            system.append(small.slice(i % 50 * SMALL_ROWS, SMALL_ROWS))
            took.append(1000 * (time.perf_counter() - start))

    row = task(f"{args.appends} small appends", append_small)
    row["first_ms"], row["last_ms"] = statistics.median(took[:20]), statistics.median(took[-20:])
    _scan(task, "scan, after small appends", system, fresh)
    if system.compacts:
        task("compact", system.compact)
        other = type(system)(system.folder.with_name(f"{system.folder.name}-again"))
        other.append(frame)
        _scan(task, "scan, compacted", system, other=other)
        shutil.rmtree(other.folder)

    member = _ordinary_member(frame)
    row = task("erase one member", lambda: system.erase(member))
    row["rows"] = frame.filter(member=member).height
    row["rows_left_on_disk"] = _on_disk(system.folder, member)
    return rows


def _scan(
    task: Callable[[str, Callable[[], Any]], Row],
    name: str,
    system: Any,
    fresh: Row | None = None,
    other: Any | None = None,
) -> Row:
    """Best of five (the first reads what the disk may not have at hand), planning included.

    `vs_fresh` is against an earlier row, or against another table that is scanned in turn.
    """
    import polars as pl

    best: list[float] = []
    others: list[float] = []
    cpu = 0.0

    def scan(one: Any, took: list[float]) -> None:
        start = time.perf_counter()
        one.scan().group_by("title").agg(pl.col("seconds").sum()).collect()
        took.append(time.perf_counter() - start)

    def run() -> None:
        nonlocal cpu
        for _ in range(5):
            if other is not None:
                scan(other, others)
            start = time.process_time()
            scan(system, best)
            cpu += time.process_time() - start

    os.environ.setdefault("POLARS_ICEBERG_PLANNER", "pyiceberg")  # the peer's faster planner is a package of its own
    row = task(name, run)
    row["seconds"], row["cpu_seconds"] = min(best), cpu / len(best)
    if others:
        row["vs_fresh"] = min(best) / min(others)
    elif fresh is not None:
        row["vs_fresh"] = row["seconds"] / fresh["seconds"]
    return row


def _ordinary_member(frame: pl.DataFrame) -> int:
    """The member whose number of events is the median."""
    counts = frame["member"].value_counts(sort=True)
    return int(counts["member"][counts.height // 2])


def _on_disk(folder: Path, member: int) -> int:
    """Rows of the member in any Parquet file of data that is still there, referred to or not."""
    import polars as pl

    files = [str(path) for path in folder.rglob("*.parquet") if "_delta_log" not in path.parts]
    return sum(pl.read_parquet(path, columns=["member"]).filter(member=member).height for path in files)


def append_in_process(folder: Path, worker: int, appends: int, seed: int) -> None:
    """One of the processes that append at once; each append has a title of its own."""
    import polars as pl

    system = Matinee(folder)
    frame = events(SMALL_ROWS, seed)
    for i in range(appends):
        system.append(frame.with_columns(title=pl.lit(worker * appends + i, pl.Int64)))


def several_processes(folder: Path, processes: int, appends: int, seed: int) -> Row:
    """Appends of several processes at once, and how many of them are not there afterwards, whole."""
    import polars as pl

    system = Matinee(folder)
    context = multiprocessing.get_context("spawn")
    row: Row = {"system": system.name, "dataset": f"{processes} x {appends} appends", "task": "processes"}
    with measured(row):
        workers = [context.Process(target=append_in_process, args=(folder, w, appends, seed)) for w in range(processes)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    failed = sum(1 for worker in workers if worker.exitcode)
    found = system.scan().group_by("title").agg(rows=pl.col("seq").n_unique()).filter(rows=SMALL_ROWS).collect()
    row["lost"] = processes * appends - found.height + failed
    return row


def run(args: argparse.Namespace) -> list[Row]:
    """All rows."""
    if args.smoke:
        args.events, args.appends, args.processes, args.process_appends = 20_000, 8, 2, 3
    root = Path(tempfile.mkdtemp(prefix="facts-", dir=args.folder))
    rows: list[Row] = []
    try:
        frame = events(args.events, args.seed)
        for kind in (Matinee, PyIceberg, DeltaLake):
            try:
                kind(root / "warm").append(events(1_000, args.seed))  # loads what a process loads once
            except ModuleNotFoundError as missing:
                rows.append({"system": kind.name, "dataset": f"{args.events:,} events", "absent": f"no {missing.name}"})
                continue
            finally:
                shutil.rmtree(root / "warm", ignore_errors=True)
            rows += measure(kind(root / kind.name), args, frame)
            shutil.rmtree(root / kind.name)
        del frame
        rows.append(several_processes(root / "processes", args.processes, args.process_appends, args.seed))
    finally:
        shutil.rmtree(root)
    return rows


def options(parser: argparse.ArgumentParser) -> None:
    """The benchmark's own options."""
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--appends", type=int, default=400, help="small appends of 1,000 rows")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--process-appends", type=int, default=25, help="appends of each process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to write; the system's temporary folder unless given")
    parser.add_argument("--smoke", action="store_true", help="a small run that tests the benchmark itself")


if __name__ == "__main__":
    main("facts", run, options, columns=COLUMNS)
