"""Point in time: last value, 7-day sum and count as of each label, bitemporal, against hand-written Polars and DuckDB.

The events lie in one Parquet file a bucket of members (16), in the order in which they were learned; a tenth of them is
late by six hours on average. A label is a random event's member, up to an hour after it. Every system reads the same
files and the same labels in a process of its own, after one small run that loads what it loads once; all must agree.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import Row, main, measured
from matinee.facts import Fact

BUCKETS = 16
WEEK_US = 7 * 86_400_000_000


class Played(Fact, key="member"):
    """A play, as in the field's log."""

    member: int
    title: int
    seconds: float


def write_data(folder: Path, events: int, labels: int, seed: int) -> None:
    """Events over 90 days, bucketed, and labels: `played/*.parquet`, `labels.parquet`."""
    import numpy as np
    import polars as pl

    from matinee.features import ParquetSource

    rng = np.random.default_rng(seed)
    start, span = 1_780_000_000_000_000, 90 * 86_400_000_000
    at = np.sort(rng.integers(start, start + span, events))
    late = rng.random(events) < 0.1
    known = at + np.where(late, rng.exponential(6 * 3_600_000_000, events), 0).astype(np.int64)
    member = np.minimum(rng.pareto(1.2, events) * 20_000, 1e15).astype(np.int64) % 1_000_000
    title = np.minimum(rng.pareto(0.9, events) * 30, 7_999).astype(np.int64)
    order = np.argsort(known, kind="stable")
    stamp = pl.Datetime("us", "UTC")
    frame = pl.DataFrame(
        {
            "member": member[order],
            "title": title[order],
            "seconds": (rng.gamma(1.3, 1, events) * 1_500)[order],
            "at": pl.Series(at[order]).cast(stamp),
            "known": pl.Series(known[order]).cast(stamp),
        }
    )
    ParquetSource(folder, buckets=BUCKETS).write(Played, frame)
    chosen = rng.integers(0, events, labels)
    t = at[chosen] + rng.integers(0, 3_600_000_000, labels)
    asked = pl.DataFrame({"row": np.arange(labels), "member": member[chosen], "at": pl.Series(t).cast(stamp)})
    asked.write_parquet(folder / "labels.parquet")


def matinee(folder: Path) -> Any:
    """Ours, through the public API."""
    import polars as pl

    from matinee.features import Features, ParquetSource, count, last, sum

    taste = Features(
        "member",
        last=last(Played.title),
        seconds_7d=sum(Played.seconds, "7d"),
        plays_7d=count(Played, "7d"),
    )
    return taste.batch(ParquetSource(folder, buckets=BUCKETS), pl.read_parquet(folder / "labels.parquet"))


def _polars(events: Any, labels: Any) -> Any:
    """The plan of two cumulative sums and two as-of joins, and the running maximum, as one would write it by hand.

    One sort and one join serve the last value and K; it relies on the files being in the order of `known` and `seq`.
    """
    import polars as pl

    week = pl.duration(microseconds=WEEK_US)
    asof: dict[str, Any] = {"by": "member", "check_sortedness": False}
    rows = events.with_columns(v=pl.max_horizontal("at", "known"))
    in_time = pl.col("v") - pl.col("at") <= week
    rows = rows.with_columns(x=pl.when(in_time).then("seconds").otherwise(0.0), n=in_time.cast(pl.Int64))
    seen = rows.sort("member", "v", maintain_order=True).select(
        "member",
        "v",
        last=pl.when(pl.col("at") == pl.col("at").cum_max().over("member")).then("title").forward_fill(),
        k=pl.col("x").cum_sum().over("member"),
        kn=pl.col("n").cum_sum().over("member"),
    )
    gone = rows.sort("member", "at", maintain_order=True).select(
        "member", gone="at", a=pl.col("x").cum_sum().over("member"), an=pl.col("n").cum_sum().over("member")
    )
    asked = labels.with_columns(left=pl.col("at") - week).sort("member", "at")
    found = asked.join_asof(seen, left_on="at", right_on="v", **asof)
    found = found.join_asof(gone, left_on="left", right_on="gone", allow_exact_matches=False, **asof)
    return found.select(
        "row", "last", seconds_7d=pl.col("k").fill_null(0) - pl.col("a").fill_null(0),
        plays_7d=pl.col("kn").fill_null(0) - pl.col("an").fill_null(0),
    )  # fmt: skip


def polars_whole(folder: Path) -> Any:
    """Hand-written Polars over all files at once."""
    import polars as pl

    events = pl.read_parquet(folder / "played" / "*.parquet", columns=["member", "title", "seconds", "at", "known"])
    return _polars(events, pl.read_parquet(folder / "labels.parquet"))


def polars_buckets(folder: Path) -> Any:
    """Hand-written Polars, bucket by bucket."""
    import polars as pl

    from matinee.features import ParquetSource

    source = ParquetSource(folder, buckets=BUCKETS)
    labels = pl.read_parquet(folder / "labels.parquet")
    part = source.bucket_of(labels["member"].to_numpy())
    columns = ["member", "title", "seconds", "at", "known"]
    return pl.concat(
        _polars(pl.read_parquet(folder / "played" / f"{b}.parquet", columns=columns), labels.filter(part == b))
        for b in range(BUCKETS)
    )


def duckdb(folder: Path) -> Any:
    """DuckDB: window functions and ASOF joins."""
    import duckdb
    import polars as pl

    week = "INTERVAL 7 DAY"
    found = (
        duckdb.connect()
        .sql(f"""
        WITH r AS (SELECT *, greatest("at", known) AS v FROM '{folder}/played/*.parquet'),
        m AS (SELECT member, v, "at", known, seq, title, max("at") OVER w AS top FROM r
              WINDOW w AS (PARTITION BY member ORDER BY v, "at", known, seq ROWS UNBOUNDED PRECEDING)),
        l AS (SELECT member, v, arg_max(title, (known, seq)) AS title FROM m WHERE "at" = top GROUP BY member, v),
        i AS (SELECT * FROM r WHERE v - "at" <= {week}),
        k AS (SELECT member, v, max_by(s, n) AS s, max(n) AS n FROM (
              SELECT member, v, sum(seconds) OVER w AS s, count(*) OVER w AS n FROM i
              WINDOW w AS (PARTITION BY member ORDER BY v, seq ROWS UNBOUNDED PRECEDING)) GROUP BY member, v),
        a AS (SELECT member, "at", max_by(s, n) AS s, max(n) AS n FROM (
              SELECT member, "at", sum(seconds) OVER w AS s, count(*) OVER w AS n FROM i
              WINDOW w AS (PARTITION BY member ORDER BY "at", seq ROWS UNBOUNDED PRECEDING)) GROUP BY member, "at"),
        q AS (SELECT *, "at" - {week} AS gone FROM '{folder}/labels.parquet')
        SELECT q."row" AS "row", l.title AS "last", coalesce(k.s, 0) - coalesce(a.s, 0) AS seconds_7d,
               coalesce(k.n, 0) - coalesce(a.n, 0) AS plays_7d
        FROM q ASOF LEFT JOIN l ON q.member = l.member AND q."at" >= l.v
        ASOF LEFT JOIN k ON q.member = k.member AND q."at" >= k.v
        ASOF LEFT JOIN a ON q.member = a.member AND q.gone > a."at"
    """)
        .to_arrow_table()
    )
    return pl.from_arrow(found)


SYSTEMS: dict[str, Callable[[Path], Any]] = {
    "matinee": matinee,
    "polars, by bucket": polars_buckets,
    "polars, whole": polars_whole,
    "duckdb": duckdb,
}


def _measure(system: str, folder: Path, small: Path) -> Row:
    """One system's row and its sums, in a process of its own."""
    import polars as pl

    row: Row = {"system": system}
    try:
        SYSTEMS[system](small)
    except ImportError as error:
        return {**row, "absent": str(error)}
    with measured(row):
        found = SYSTEMS[system](folder)
    row["labels"] = found.height
    row["last_hash"] = found.select(((pl.col("row") % 997 + 1) * pl.col("last").fill_null(-1)).sum()).item()
    row["plays"] = int(found["plays_7d"].sum())
    row["plays_squared"] = int((found["plays_7d"].cast(pl.Int64) ** 2).sum())
    row["hours"] = round(found["seconds_7d"].sum() / 3600, 1)
    return row


def run(args: argparse.Namespace) -> list[Row]:
    """Measures every system on the same files.

    Raises:
        AssertionError: If two systems disagree.
    """
    events, labels = (200_000, 10_000) if args.smoke else (args.events, args.labels)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        full, small = Path(folder) / "full", Path(folder) / "small"
        warm = min(events, 500_000), min(labels, 50_000)
        for where, n, m in ((full, events, labels), (small, *warm)):
            where.mkdir()
            write_data(where, n, m, args.seed)
        for system in args.systems:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows.append(pool.apply(_measure, (system, full, small)))
            rows[-1]["dataset"] = f"{events:,} x {labels:,}"
    present = [r for r in rows if "absent" not in r]
    for other in present[1:]:
        for name in ("labels", "last_hash", "plays", "plays_squared", "hours"):
            said = f"{other['system']}: {name} {other[name]}, not {present[0][name]}"
            assert abs(other[name] - present[0][name]) <= 0.1, said
    by_hand = [r["seconds"] for r in present if r["system"].startswith("polars")]
    for row in present if by_hand else []:
        row["times_polars"] = row["seconds"] / min(by_hand)
    return rows


def options(parser: argparse.ArgumentParser) -> None:
    """Sizes and places."""
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--labels", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where to put the files while it runs (a temporary folder)")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--smoke", action="store_true", help="200,000 events and 10,000 labels")


COLUMNS = ["system", "dataset", "seconds", "times_polars", "cpu_seconds", "peak_mb", "plays", "hours", "absent"]

if __name__ == "__main__":
    main("point_in_time", run, options, columns=COLUMNS)
