"""`kill -9` of the service under load, again and again: what was acknowledged is in the tables, and exactly once.

Starting Python and its libraries takes seconds, so one process (the nursery) imports them once and forks a child for
each life of the server. The child opens the studio, recovers the log and serves over HTTP, as any other start does; it
shares nothing with the children before it but the files.

`MATINEE_KILLS=100` sets the number of kills; 6 by default.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import matinee as mt

KILLS = int(os.environ.get("MATINEE_KILLS", "6"))
CLIENTS = 3
FILMS = Path(__file__).parents[1] / "serve" / "real_domain.py"

NURSERY = """
import gc, os, signal, sys
import matinee as mt
import numpy, polars, pyarrow, pyiceberg.catalog.sql, uvicorn, starlette.routing
import matinee.live, matinee.ledger, matinee.studio, matinee.console.app, matinee.draw
from matinee.serve.server import serve
from matinee.serve.settings import ServeSettings
from matinee.draw import SOFTMAX, Component, Limit, fill_slots
flat = [Component(1.0, SOFTMAX, numpy.zeros(4))]
fill_slots(flat, numpy.ones(4, bool), 3, uniforms=numpy.full(3, 0.5))  # compiled, or read from where that was kept
gc.freeze()
print("loaded", flush=True)
for line in sys.stdin:
    port = int(line)
    pid = os.fork()
    if pid == 0:
        serve(mt.open(sys.argv[1]), port=port, settings=ServeSettings(refresh=0.2, drain=0.0))
        os._exit(0)
    print(pid, flush=True)
    done, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@dataclass
class Seen:
    """What the clients were told, and what they sent without an answer."""

    choices: list[str] = field(default_factory=list)
    outcomes: set[str] = field(default_factory=set)
    unanswered: list[dict[str, Any]] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    cut_off: int = 0
    number: int = 0
    answered: threading.Event = field(default_factory=threading.Event)  # in this life
    lock: threading.Lock = field(default_factory=threading.Lock)


class Client:
    """One connection; a request that gets no answer raises OSError or HTTPException."""

    def __init__(self, port: int) -> None:
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.http.connect()
        self.http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and answer."""
        self.http.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        reply = self.http.getresponse()
        return reply.status, json.loads(reply.read())


def load(port: int, seen: Seen, viewer: int) -> None:
    """Ask, answer twice, until the server dies; first send again what had no answer in its earlier lives."""
    pending: dict[str, Any] | None = None
    try:
        client = Client(port)
        while True:
            with seen.lock:
                pending = seen.unanswered.pop() if seen.unanswered else None
            if pending is None:
                status, made = client.post("/decide/front", {"unit": viewer, "context": {"age": 18}})
                with seen.lock:
                    if status != 200:
                        seen.refused.append((status, json.dumps(made)))
                        return
                    seen.choices.append(made["id"])
                    seen.answered.set()
                    seen.number += 1
                    row = {"viewer": viewer, "film": made["action"][0], "seconds": float(seen.number)}
                pending = {"choice": made["id"], "fact": "watched", "row": row, "id": f"o-{made['id']}"}
            for _ in range(2):
                status, made = client.post("/outcome", pending)
                with seen.lock:
                    if status != 200:
                        seen.refused.append((status, json.dumps(made)))
                        return
                    seen.outcomes.add(pending["id"])
            pending = None
    except (OSError, http.client.HTTPException, ValueError):  # ValueError: half an answer
        with seen.lock:
            seen.cut_off += 1
            if pending is not None:
                seen.unanswered.append(pending)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A studio with films, one released policy and published features."""
    root = tmp_path / "films"
    mt.open(root).close()
    shutil.copy(FILMS, root / "films.py")
    (root / "matinee.toml").write_text('domains = []\nmodules = ["films.py"]\n')
    at = datetime.now(UTC) - timedelta(days=1)
    with mt.open(root) as studio:
        films = {"film": [1, 2, 3, 4], "maturity": [0, 6, 12, 16], "at": [at] * 4}
        studio.append("film", pl.DataFrame(films))
        rows = {"viewer": list(range(CLIENTS)), "film": [1] * CLIENTS, "seconds": [0.5] * CLIENTS, "at": [at] * CLIENTS}
        studio.append("watched", pl.DataFrame(rows))
        studio.release("front", mt.Uniform(), 1.0, by="tests")
        studio.publish()
        studio.decide("front", 0, dry=True)  # the draw is compiled
    return root


@pytest.fixture
def nursery(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The process that forks servers."""
    command = [sys.executable, "-c", NURSERY, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "loaded\n"
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # a server of it too, where the test failed
        process.wait()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_ready(port: int, deadline: float) -> None:
    """Return when the server says it is ready."""
    while True:
        try:
            http_ = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            http_.request("GET", "/ready")
            if http_.getresponse().status == 200:
                return
        except OSError:
            assert time.monotonic() < deadline, "the server did not become ready in time"
        finally:
            http_.close()
        time.sleep(0.02)


def life(nursery: subprocess.Popen[str], seen: Seen, seconds: float) -> None:
    """One life of the server: start, load, kill."""
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    port = free_port()
    nursery.stdin.write(f"{port}\n")
    nursery.stdin.flush()
    pid = int(nursery.stdout.readline())
    wait_ready(port, time.monotonic() + 120)
    seen.answered.clear()
    clients = [threading.Thread(target=load, args=(port, seen, viewer)) for viewer in range(CLIENTS)]
    for client in clients:
        client.start()
    assert seen.answered.wait(60), f"no decision was answered: {seen.refused}"
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    for client in clients:
        client.join()
    assert int(nursery.stdout.readline()) == -signal.SIGKILL, "the server ended before it was killed"


@pytest.mark.faults
def test_what_a_killed_server_acknowledged_is_in_the_tables_once(
    folder: Path, nursery: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    seen, rng = Seen(), random.Random(7)
    began = time.monotonic()
    for kill in range(KILLS):
        life(nursery, seen, rng.uniform(0.0, 0.4))
        if kill % 25 == 24:
            with mt.open(folder) as studio:
                studio.seal()  # between lives, too: a stream is sealed in parts
    assert seen.refused == []
    with mt.open(folder) as studio:
        studio.seal()
        choices = Counter(studio.tables.scan("choices", columns=["id"]).collect()["id"].to_list())
        outcomes = Counter(studio.tables.scan("outcomes", columns=["id"]).collect()["id"].to_list())
        facts = studio.tables.scan("watched", columns=["outcome", "choice"]).collect().drop_nulls("outcome")
        assert studio.quarantine.count() == 0
    watched = Counter(facts["outcome"].to_list())
    lost = {
        "choices": [i for i in seen.choices if i not in choices],
        "outcomes": [i for i in seen.outcomes if i not in outcomes],
        "facts": [i for i in seen.outcomes if i not in watched],
    }
    doubled = {
        name: [i for i, n in found.items() if n > 1]
        for name, found in (("choices", choices), ("outcomes", outcomes), ("facts", watched))
    }
    with capsys.disabled():
        print(  # noqa: T201  # the figures are what one runs a hundred kills for
            f"\n{KILLS} kills in {time.monotonic() - began:.0f} s, {seen.cut_off} requests cut off; acknowledged "
            f"{len(seen.choices)} choices and {len(seen.outcomes)} outcomes; in the tables {len(choices)} choices, "
            f"{len(outcomes)} outcomes, {len(watched)} facts; lost {sum(map(len, lost.values()))}, "
            f"doubled {sum(map(len, doubled.values()))}"
        )
    assert len(seen.choices) > KILLS
    assert seen.cut_off == CLIENTS * KILLS, "each kill strikes while every client asks"
    assert lost == {"choices": [], "outcomes": [], "facts": []}
    assert doubled == {"choices": [], "outcomes": [], "facts": []}
    assert set(facts["choice"].to_list()) <= set(choices), "an outcome answers a choice that was logged"
    assert len(set(seen.choices)) == len(seen.choices)
