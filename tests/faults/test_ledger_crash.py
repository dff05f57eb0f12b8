"""Kill the writer and the sealer anywhere: nothing acknowledged is lost, nothing is counted twice."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import types
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from matinee.ledger import BadLine, Ledger, read, recover, segments, streams
from matinee.ledger.wal import Durability

sys.path.insert(0, str(Path(__file__).parents[1] / "ledger"))
from records import Held, MemorySink, choice, outcome, sealed

pytestmark = pytest.mark.faults


def logged(folder: Path) -> list[str]:
    """Ids of all records of the log; a bad line anywhere fails the test."""
    return [r.id for s in streams(folder) for segment in segments(folder, s) for r in read(segment.path)]


def in_child(work: Callable[[int], None]) -> tuple[int, int]:
    """Fork; the child works with a pipe to write acknowledgements to. Returns its process id and our end."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        try:
            work(theirs)
        finally:
            os._exit(0)
    os.close(theirs)
    return child, ours


def all_of(pipe: int, data: bytes = b"") -> list[str]:
    """What the child had acknowledged: whole lines only."""
    while more := os.read(pipe, 1 << 16):
        data += more
    os.close(pipe)
    return data.decode().split("\n")[:-1]


@pytest.mark.parametrize(("durability", "rounds"), [("process", 120), ("disk", 40)])
def test_kill_9_at_any_moment_loses_no_acknowledged_record(
    tmp_path: Path, durability: Durability, rounds: int
) -> None:
    state = random.Random(7)
    acknowledged: list[str] = []
    for k in range(rounds):
        padding = "x" * state.choice([0, 0, 300, 9000])

        def write(pipe: int, k: int = k, padding: str = padding) -> None:
            ledger = Ledger(tmp_path, "web", durability=durability, segment_bytes=20_000, gather=0.0)
            for i in range(100_000):
                record = choice(id=f"{k}-{i}", context={"pad": padding}) if i % 2 else outcome(id=f"{k}-{i}")
                ledger.append(record)
                os.write(pipe, record.id.encode() + b"\n")

        child, pipe = in_child(write)
        data = b""
        wanted = state.randrange(1, 400 if durability == "process" else 60)
        while len(data) < wanted:
            data += os.read(pipe, 1 << 16)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        acknowledged += all_of(pipe, data)
        (stream,) = streams(tmp_path)  # the next writer continues it, so no second one ever appears
        recover(tmp_path, stream)
    found = Counter(logged(tmp_path))
    assert len(acknowledged) > rounds
    assert all(found[one] == 1 for one in acknowledged)
    assert set(found.values()) == {1}
    sink = sealed(tmp_path)
    assert Counter(sink.ids("choices") + sink.ids("outcomes")) == found


def test_kill_9_after_any_byte_of_a_write(tmp_path: Path) -> None:
    state = random.Random(11)
    acknowledged = []
    for k in range(150):
        cut_at, records = state.randrange(4), state.random()

        def write(pipe: int, k: int = k, cut_at: int = cut_at, share: float = records) -> None:
            ledger = Ledger(tmp_path, "web")
            plain = os.write

            def die(fd: int, data: bytes) -> int:
                plain(fd, data[: int(len(data) * share)])
                os.kill(os.getpid(), signal.SIGKILL)
                return 0

            for i in range(cut_at):
                ledger.append(outcome(id=f"{k}-{i}"))
                plain(pipe, f"{k}-{i}\n".encode())
            os.write = die  # type: ignore[assignment]  # in the child only
            ledger.append(choice(id=f"{k}-torn"))

        child, pipe = in_child(write)
        os.waitpid(child, 0)
        acknowledged += all_of(pipe)
        (stream,) = streams(tmp_path)
        recover(tmp_path, stream)
    assert logged(tmp_path) == acknowledged


def test_a_flipped_bit_anywhere_costs_one_line_and_is_reported(tmp_path: Path) -> None:
    state = random.Random(13)
    with Ledger(tmp_path, "web") as ledger:
        for i in range(20):
            ledger.append(choice(id=str(i)))
    path = segments(tmp_path, ledger.stream)[0].path
    sound = path.read_bytes()
    for _ in range(300):
        broken = bytearray(sound)
        bit = state.randrange(len(sound) * 8)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        bad: list[BadLine] = []
        found = [r.id for r in read(path, bad.append)]
        lost = 20 - len(found)
        # A flipped newline joins two lines; any other bit costs its own line. All bytes are in the report.
        assert lost in (1, 2)
        assert 1 <= len(bad) <= 2
        hit = [b for b in bad if b.offset <= bit // 8 <= b.offset + len(b.line)]
        assert hit
        assert all(bytes(broken[b.offset : b.offset + len(b.line)]) == b.line for b in bad)


# Sealing


class KilledHereError(Exception):
    """Stands for the end of the process."""


def tracing(at_line: Callable[[str, int], None]) -> Callable[..., Any]:
    """A trace function that tells of each line that sealing runs."""

    def line(frame: types.FrameType, event: str, arg: Any) -> Any:
        if event == "line":
            at_line(frame.f_code.co_filename, frame.f_lineno)
        return line

    def call(frame: types.FrameType, event: str, arg: Any) -> Any:
        path = frame.f_code.co_filename
        return line if path.endswith(("ledger/sealing.py", "ledger/answers.py", "ledger/streams.py")) else None

    return call


def killing(at: int, kill: Callable[[], None]) -> Callable[..., Any]:
    """A trace function that kills at the nth line that sealing runs."""
    left = [at]

    def at_line(path: str, number: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            kill()

    return tracing(at_line)


def each_line(folder: Path, times: int, **given: Any) -> list[int]:
    """The first `times` moments at which each line of sealing runs, counted as `killing` counts."""
    seen: Counter[tuple[str, int]] = Counter()
    moments: list[int] = []
    total = [0]

    def at_line(path: str, number: int) -> None:
        total[0] += 1
        seen[path, number] += 1
        if seen[path, number] <= times:
            moments.append(total[0])

    sys.settrace(tracing(at_line))
    try:
        sealed(folder, MemorySink(), Held(), **given)
    finally:
        sys.settrace(None)
    return moments


def write_log(folder: Path) -> None:
    """Three streams with copies of each other's outcomes, rows that are bad, and a torn tail."""
    with Ledger(folder, "m", segment_bytes=700) as one, Ledger(folder, "z") as two:
        for i in range(4):
            one.append(choice(id=f"c{i}"))
            one.append(outcome(id=f"o{i}"))
            two.append(outcome(id=f"o{(i + 1) % 6}"))
        two.append(outcome(id="p", fact="paid", row={"invoice": "i", "number": 1}))
        two.append(outcome(id="bad", row={"member": "x"}))
    path = segments(folder, two.stream)[0].path
    path.rename(path.with_suffix(".open"))
    with path.with_suffix(".open").open("ab") as file:
        file.write(b"00000000 {")


def write_more(folder: Path) -> None:
    """Every outcome once more, in a stream that sorts before the others: a seal after a crash meets these first."""
    with Ledger(folder, "a") as ledger:
        for i in (3, 2, 1, 0, 4, 5):
            ledger.append(outcome(id=f"o{i}"))
        ledger.append(outcome(id="p", fact="paid", row={"invoice": "i", "number": 1}))


def check(ids: Callable[[str], list[str]], held: Held) -> None:
    """All there, once."""
    assert sorted(ids("choices")) == [f"c{i}" for i in range(4)]
    assert sorted(ids("outcomes")) == ["o0", "o1", "o2", "o3", "o4", "o5", "p"]
    assert sorted(ids("played")) == sorted(i for i in ids("outcomes") if i != "p")
    assert ids("paid") == ["p"]
    assert len({source for *_, source in held}) == 1  # perhaps told twice, with the same place in the log
    assert {row["outcome"] for _, row, *_ in held} == {"bad"}


@pytest.mark.parametrize(
    ("batch_bytes", "times"),
    [(1 << 20, 1), pytest.param(1 << 20, 3, marks=pytest.mark.slow), pytest.param(1, 2, marks=pytest.mark.slow)],
)
def test_sealing_killed_at_every_line_seals_all_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_bytes: int, times: int
) -> None:
    # Syncs matter when the machine dies; here processes do, often, and should not take long over it.
    monkeypatch.setattr(os, "fsync", lambda fd: None)

    def kill() -> None:
        raise KilledHereError

    write_log(tmp_path / "log")
    shutil.copytree(tmp_path / "log", tmp_path / "dry")
    moments = each_line(tmp_path / "dry", times, batch_bytes=batch_bytes)
    assert len(moments) > 150 * times
    for at in moments:
        folder, sink, held = tmp_path / str(at), MemorySink(), Held()
        shutil.copytree(tmp_path / "log", folder)
        sys.settrace(killing(at, kill))
        try:
            with pytest.raises(KilledHereError):
                sealed(folder, sink, held, batch_bytes=batch_bytes)
        finally:
            sys.settrace(None)
        write_more(folder)
        sealed(folder, sink, held, batch_bytes=batch_bytes)
        check(sink.ids, held)
        assert all(not segments(folder, s) for s in streams(folder))


def test_a_sink_that_fails_before_or_after_any_call(tmp_path: Path) -> None:
    for after in (False, True):
        at, failed = 1, True
        while failed:
            folder, held, sink = tmp_path / f"{after}{at}", Held(), _Failing(at, after)
            write_log(folder)
            try:
                sealed(folder, sink, held)
                failed = False
            except KilledHereError:
                pass
            sink.at = 0
            write_more(folder)
            sealed(folder, sink, held)
            check(sink.ids, held)
            at += 1
        assert at > 12


class _Failing(MemorySink):
    """The nth call fails, before or after it has done its work."""

    def __init__(self, at: int, after: bool) -> None:
        super().__init__()
        self.at, self.after, self.calls = at, after, 0

    def __getattribute__(self, name: str) -> Any:
        plain = super().__getattribute__(name)
        if name not in ("marks", "write", "counted", "schema", "present"):
            return plain

        def call(*given: Any) -> Any:
            self.calls += 1
            now = self.calls == self.at
            if now and not self.after:
                raise KilledHereError
            result = plain(*given)
            if now:
                raise KilledHereError
            return result

        return call


def test_a_quarantine_that_cannot_hold_stops_the_seal_and_nothing_is_lost(tmp_path: Path) -> None:
    write_log(tmp_path)

    class Full(Held):
        def __call__(self, *given: Any) -> None:
            raise KilledHereError

    sink, held = MemorySink(), Held()
    with pytest.raises(KilledHereError):
        sealed(tmp_path, sink, Full())
    write_more(tmp_path)
    sealed(tmp_path, sink, held)
    check(sink.ids, held)


class SqliteSink(MemorySink):
    """`MemorySink` that survives kill -9: every write is one transaction."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS rows (tab TEXT, row TEXT)")
        self.db.execute("CREATE TABLE IF NOT EXISTS marks (tab, stream, number INT, PRIMARY KEY (tab, stream))")
        for tab, row in self.db.execute("SELECT tab, row FROM rows"):
            self.tables.setdefault(tab, []).append(json.loads(row))
        for tab, stream, number in self.db.execute("SELECT tab, stream, number FROM marks"):
            self.sealed.setdefault(tab, {})[stream] = number

    def write(self, table: str, data: Any, marks: Mapping[str, int]) -> None:
        before = len(self.tables.get(table, []))
        super().write(table, data, marks)
        self.db.execute("BEGIN IMMEDIATE")
        for row in self.tables[table][before:]:
            self.db.execute("INSERT INTO rows VALUES (?, ?)", (table, json.dumps(row, default=str)))
        for stream, number in marks.items():
            self.db.execute("INSERT OR REPLACE INTO marks VALUES (?, ?, ?)", (table, stream, number))
        self.db.execute("COMMIT")


def seal_and_die(folder: Path, first: int, step: int) -> None:
    """Run in a process of its own (Polars does not survive a fork once it has worked): children that are killed."""
    at = first
    while True:
        child = os.fork()
        if child == 0:
            sys.settrace(killing(at, lambda: os.kill(os.getpid(), signal.SIGKILL)))
            sealed(folder / "log", SqliteSink(folder / "tables.db"), Held())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(os.waitstatus_to_exitcode(status))
        at += step  # the same log again: what the killed ones have done stays done


@pytest.mark.parametrize(("first", "step"), [(5, 31), (300, 17)])
def test_sealing_killed_with_kill_9_again_and_again(tmp_path: Path, first: int, step: int) -> None:
    write_log(tmp_path / "log")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    code = f"import test_ledger_crash as t, pathlib, sys; t.seal_and_die(pathlib.Path(sys.argv[1]), {first}, {step})"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)
    write_more(tmp_path / "log")
    held = Held([("played", {"outcome": "bad"}, "", "")])
    sink = SqliteSink(tmp_path / "tables.db")
    sealed(tmp_path / "log", sink, held)
    check(sink.ids, held)


def test_a_writer_killed_while_it_is_sealed_loses_nothing(tmp_path: Path) -> None:
    sink = MemorySink()
    acknowledged: list[str] = []
    for k in range(15):

        def write(pipe: int, k: int = k) -> None:
            ledger = Ledger(tmp_path, "web", segment_bytes=2000, tick=0.01)
            for i in range(100_000):
                ledger.append(choice(id=f"{k}-{i}"))
                os.write(pipe, f"{k}-{i}\n".encode())

        child, pipe = in_child(write)
        data = os.read(pipe, 1 << 16)
        for _ in range(3):
            sealed(tmp_path, sink)
            data += os.read(pipe, 1 << 16)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        acknowledged += all_of(pipe, data)
    sealed(tmp_path, sink)
    found = Counter(sink.ids("choices"))
    assert set(found.values()) == {1}
    assert set(acknowledged) <= set(found)
    assert len(found) - len(acknowledged) <= 15  # at most the one in each child's hand
