"""Serving: the top 100 and a whole page in process; requests a second over HTTP from a separate load process.

    python -m benchmarks.serving [--smoke] [--json FILE]

The first rows are in process, on one core (`benchmarks.serving_pages`): the top 100 from a raw history, a page of
40 x 40. The HTTP server is `matinee serve` itself, pinned to one core; the load comes from `benchmarks.load`, pinned to
another. The peer in the same run is what HTTP alone costs: uvicorn, Starlette and msgspec echoing the same request and an answer of
the same length. `cpu_us_per_request` is the server's own processor time, which a busy machine disturbs least.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks import serving_pages
from benchmarks.harness import Row, main, measured

ECHO = """
import socket, sys, msgspec, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
answer = b"x" * int(sys.argv[1])
async def echo(request):
    body = await request.body()
    if body:
        msgspec.json.decode(body)
    return Response(answer, media_type="application/json")
app = Starlette(routes=[Route("/{path:path}", echo, methods=["GET", "POST"])])
sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
sock.bind(("127.0.0.1", int(sys.argv[2])))
uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[sock])
"""


def options(parser: argparse.ArgumentParser) -> None:
    """Sizes; those of the protocol by default."""
    parser.add_argument("--titles", type=int, default=20_000)
    parser.add_argument("--members", type=int, default=2_000)
    parser.add_argument("--history", type=int, default=200, help="events a member")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0, help="of load, for each row")
    parser.add_argument("--requests", type=int, default=1000, help="in process, for each row")
    parser.add_argument("--page", type=int, nargs=2, default=(40, 40), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--no-http", action="store_true", help="only the rows in process")
    parser.add_argument("--smoke", action="store_true", help="a small studio, half a second of load")


def build(folder: Path, titles: int, members: int, history: int) -> None:
    """A studio with published features and two released policies. Everything from one seed."""
    import matinee as mt
    from benchmarks.serving_domain import Nearest, domain

    rng = np.random.default_rng(0)
    mt.open(folder).close()
    shutil.copy(Path(__file__).with_name("serving_domain.py"), folder / "serving_domain.py")
    (folder / "matinee.toml").write_text('domains = []\nmodules = ["serving_domain.py"]\n')
    at = datetime.now(UTC) - timedelta(days=1)
    groups = rng.integers(0, 40, titles)
    vectors = (rng.normal(size=(40, 64))[groups] + rng.normal(size=(titles, 64))).astype(np.float32) / 8
    providers = np.array([f"provider {i}" for i in range(12)])
    films = {
        "film": np.arange(1, titles + 1), "maturity": rng.choice([0, 6, 12, 16, 18], titles),
        "provider": providers[rng.integers(0, 12, titles)].tolist(), "at": [at] * titles,
    }  # fmt: skip
    likes = rng.integers(0, 40, members)
    film = np.concatenate([_history(rng, groups, like, history) for like in likes]) + 1
    minutes = pl.Series(np.tile(np.arange(history), members) * 60_000).cast(pl.Duration("ms"))
    seen = {
        "viewer": np.repeat(np.arange(1, members + 1), history), "film": film,
        "seconds": rng.uniform(60, 7_000, len(film)),
        "at": minutes + (at - timedelta(days=20)),
    }  # fmt: skip
    with mt.open(folder) as studio:
        assert "top" in studio.decisions, domain
        studio.append("film", pl.DataFrame(films))
        studio.append("seen", pl.DataFrame(seen))
        scorer = Nearest(vectors)
        scorer.name = studio.keep("nearest", scorer)
        studio.publish()
        studio.release("top", mt.Softmax(scorer, temperature=0.05), 1.0, by="benchmark")
        studio.release("route", mt.Uniform(), 1.0, by="benchmark")
        studio.publish()


def _history(rng: np.random.Generator, groups: np.ndarray[Any, Any], like: int, length: int) -> np.ndarray[Any, Any]:
    own = np.flatnonzero(groups == like)
    return np.where(rng.random(length) < 0.7, rng.choice(own, length), rng.integers(0, len(groups), length))


def free_port() -> int:
    """A port that nobody listens on now."""
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def served(command: list[str], port: int, path: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process of its own, pinned to the first core, ready when `path` answers."""
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, preexec_fn=lambda: _pin(0))
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data=None, timeout=5):
                    break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(20)


def _pin(core: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_mb(pid: int) -> float:
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1e3


def under_load(
    process: subprocess.Popen[bytes], port: int, path: str, bodies: Path, row: Row, args: argparse.Namespace
) -> Row:
    """Loads a running server and completes the row.

    First every body once on one connection (`p50_first_ms`: the unit's features come from the disk), then one
    connection alone, then all of them: that is the row's `requests_per_s`, `p50_ms` and `p99_ms`.
    """
    command = [sys.executable, "-m", "benchmarks.load", "--port", str(port), "--path", path, "--bodies", str(bodies)]
    units = len(json.loads(bodies.read_text()))

    def run(connections: int, seconds: float, requests: int = 0) -> dict[str, Any]:
        more = ["--connections", str(connections), "--seconds", str(seconds), "--requests", str(requests)]
        done = subprocess.run([*command, *more], check=True, stdout=subprocess.PIPE, preexec_fn=lambda: _pin(1))
        return dict(json.loads(done.stdout))

    first = run(1, 60.0, units)
    alone = run(1, min(args.seconds, 2.0))
    with measured(row):
        before = _cpu_seconds(process.pid)
        found = run(args.connections, args.seconds)
        spent = _cpu_seconds(process.pid) - before
    row |= {k: found[k] for k in ("requests_per_s", "p50_ms", "p99_ms", "failed")}
    row |= {"p50_alone_ms": alone["p50_ms"], "p99_alone_ms": alone["p99_ms"], "connections": args.connections}
    row |= {"p50_first_ms": first["p50_ms"], "cpu_us_per_request": 1e6 * spent / max(found["requests"], 1)}
    row |= {"cpu_seconds": spent, "peak_mb": _peak_mb(process.pid)}
    return row


def run(args: argparse.Namespace) -> list[Row]:
    """The rows in process, then one row a decision over HTTP, and one for HTTP alone."""
    if args.smoke:
        args.titles, args.members, args.history, args.seconds, args.requests, args.page = 500, 50, 40, 0.5, 20, (5, 6)
    rows = serving_pages.run(args.titles, args.members, args.history, args.requests, *args.page)
    if args.no_http:
        return rows
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "studio"
        build(folder, args.titles, args.members, args.history)
        top, route = Path(temporary) / "top.json", Path(temporary) / "route.json"
        top.write_text(json.dumps([{"unit": u, "context": {"age": 16}} for u in range(1, args.members + 1)]))
        route.write_text(json.dumps([{"unit": f"inv-{u}", "context": {"country": "DE"}} for u in range(500)]))
        port = free_port()
        command = [sys.executable, "-m", "matinee", "serve", "--studio", str(folder), "--port", str(port)]
        with served(command, port, "/ready") as process:
            length = _length(port, "/decide/top", json.loads(top.read_text())[0])
            for name, path, bodies in (
                (f"top-100 of {args.titles:,}", "/decide/top", top), ("1 of 4", "/decide/route", route),
            ):  # fmt: skip
                rows.append(under_load(process, port, path, bodies, {"system": "matinee", "dataset": name}, args))
        for name, bytes_, bodies in ((f"top-100 of {args.titles:,}", length, top), ("1 of 4", 400, route)):
            port = free_port()
            with served([sys.executable, "-c", ECHO, str(bytes_), str(port)], port, "/") as process:
                row: Row = {"system": "HTTP alone (uvicorn, Starlette, msgspec)", "dataset": name}
                rows.append(under_load(process, port, "/echo", bodies, row, args))
    return rows


def _length(port: int, path: str, body: Any) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=30) as reply:
        answer = reply.read()
    made = json.loads(answer)
    if made["fallback"] is not None:
        raise RuntimeError(f"the studio fell back: {made['fallback']}")
    return len(answer)


COLUMNS = [
    "system", "dataset", "requests_per_s", "p50_ms", "p99_ms", "cpu_p50_ms", "cpu_p99_ms",
    "p50_alone_ms", "p99_alone_ms", "p50_first_ms",
    "cpu_us_per_request", "failed", "peak_mb",
]  # fmt: skip

if __name__ == "__main__":
    main("serving", run, options, columns=COLUMNS)
