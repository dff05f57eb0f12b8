"""What every benchmark shares: options, measured rows, the readable table, the JSON file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matinee.results import text_table

Row = dict[str, Any]


def _rss_mb() -> float:
    with Path("/proc/self/statm").open() as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def measured(row: Row) -> Iterator[Row]:
    """Adds `seconds`, `cpu_seconds` (children included) and `peak_mb` (resident, sampled every 5 ms) to the row."""
    peak, done = _rss_mb(), threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, _rss_mb())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    wall, cpu = time.perf_counter(), _cpu()
    try:
        yield row
    finally:
        row["seconds"], row["cpu_seconds"] = time.perf_counter() - wall, _cpu() - cpu
        done.set()
        watcher.join()
        row["peak_mb"] = max(peak, _rss_mb())


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def main(
    name: str,
    run: Callable[[argparse.Namespace], list[Row]],
    options: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
    *,
    columns: list[str] | None = None,
    argv: list[str] | None = None,
) -> list[Row]:
    """Parses options, runs, prints the table and writes the JSON file that `benchmarks.report` reads.

    Every row carries `system` (ours is "matinee"), `dataset` and the metrics; a peer that cannot be installed is a
    row with `absent` saying why.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    options(parser)
    parser.add_argument("--json", type=Path, help="write the rows here")
    args = parser.parse_args(argv)
    rows = run(args)
    shown = [{c: r.get(c) for c in columns if any(c in other for other in rows)} for r in rows] if columns else rows
    print(text_table(shown))
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k != "json"}
    settings |= {"cores": os.cpu_count(), "python": platform.python_version(), "machine": platform.machine()}
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"benchmark": name, "rows": rows, "settings": settings}, indent=1, default=str))
    sys.stdout.flush()
    return rows
