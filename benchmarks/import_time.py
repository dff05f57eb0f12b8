"""What `import matinee` costs: seconds of a fresh interpreter, beside one that imports nothing.

    python -m benchmarks.import_time [--runs N] [--json FILE]

`import_seconds` is the cumulative time that `python -X importtime` gives for the package; `seconds` is the whole process
from start to end. `heavy` names the heavy libraries that were imported: there must be none.
"""

from __future__ import annotations

import argparse
import re
import resource
import statistics
import subprocess
import sys
import time

from benchmarks.harness import Row, main

HEAVY = (
    "numpy", "polars", "pyarrow", "pyiceberg", "sqlalchemy", "lightgbm", "scipy", "numba", "lmdb", "duckdb", "ray", "sklearn",
    "pandas", "torch", "matplotlib", "starlette", "uvicorn", "jinja2", "safetensors",
)  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    """How often."""
    parser.add_argument("--runs", type=int, default=9, help="fresh interpreters of each kind, by turns")
    parser.add_argument("--smoke", action="store_true", help="two of each")


def once(code: str) -> tuple[float, float, float, str]:
    """Wall and processor seconds, resident MB of the largest child so far, and what the interpreter said of its imports."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, after.ru_maxrss / 1e3, done.stderr


def imported(report: str) -> dict[str, float]:
    """Cumulative seconds by module, from the report of `-X importtime`."""
    lines = re.findall(r"^import time:\s+\d+ \|\s+(\d+) \| +(\S+)$", report, re.MULTILINE)
    return {name: int(us) / 1e6 for us, name in lines}


def run(args: argparse.Namespace) -> list[Row]:
    """One row for us, one for the bare interpreter."""
    runs = 2 if args.smoke else args.runs
    code = {"bare python": "pass", "matinee": "import matinee"}
    once(code["matinee"])  # byte code is written, files are in memory
    found: dict[str, list[tuple[float, float, float, str]]] = {name: [] for name in code}
    for _ in range(runs):
        for name, text in code.items():
            found[name].append(once(text))
    rows: list[Row] = []
    for name, times in found.items():
        modules = [imported(report) for *_, report in times]
        own = [m.get("matinee", 0.0) for m in modules]
        heavy = sorted({m.split(".")[0] for m in modules[-1]} & set(HEAVY))
        rows.append(
            {
                "system": name, "dataset": "fresh interpreter", "import_seconds": min(own),
                "import_median_seconds": statistics.median(own), "process_seconds": min(t[0] for t in times),
                "process_median_seconds": statistics.median(t[0] for t in times), "modules": len(modules[-1]),
                "heavy": ", ".join(heavy) or "none", "seconds": sum(t[0] for t in times),
                "cpu_seconds": sum(t[1] for t in times), "peak_mb": max(t[2] for t in times),
            }
        )  # fmt: skip
    return rows[::-1]


COLUMNS = [
    "system", "import_seconds", "import_median_seconds", "process_seconds", "process_median_seconds", "modules", "heavy", "peak_mb",
]  # fmt: skip

if __name__ == "__main__":
    main("import_time", run, options, columns=COLUMNS)
