"""Tables under faults: killed processes, several writers at once, a full disk, and a search for erased bytes."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from matinee.exceptions import StorageError
from matinee.tables import Tables, bucket_of

pytestmark = pytest.mark.faults

STAMP = pa.timestamp("us", "UTC")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 60  # of a batch
SCHEMA = pa.schema(
    [
        pa.field("member", pa.int64(), nullable=False),
        pa.field("batch", pa.int64()),
        pa.field("name", pa.large_string()),
        pa.field("at", STAMP, nullable=False),
        pa.field("known", STAMP, nullable=False),
        pa.field("seq", pa.int64(), nullable=False),
    ]
)


def batch(number: int) -> pl.DataFrame:
    at = pl.Series([NOW] * ROWS, dtype=pl.Datetime("us", "UTC"))
    names = [f"name-{number}-{i}" for i in range(ROWS)]
    return pl.DataFrame({"member": range(ROWS), "batch": [number] * ROWS, "name": names, "at": at, "known": at})


def counts(tables: Tables, snapshot: str | None = None) -> dict[int, int]:
    """Rows of each batch."""
    frame = tables.scan("played", snapshot=snapshot).group_by("batch").agg(rows=pl.col("seq").n_unique()).collect()
    return dict(frame.sort("batch").iter_rows())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    Tables(tmp_path).create("played", SCHEMA, key="member", personal=["name"])
    return tmp_path


# -- Processes ---------------------------------------------------------------------------------------------------------


def append_batches(root: Path, numbers: range, acks: Connection) -> None:
    """Appends batches one by one; says each number when its append has returned."""
    tables = Tables(root)
    for number in numbers:
        tables.append("played", batch(number), mark={"last": str(number)})
        acks.send(number)


def compact_again_and_again(root: Path, acks: Connection) -> None:
    tables = Tables(root)
    for turn in range(10**6):
        tables.append("played", batch(-1))
        acks.send(turn)
        tables.compact("played", min_files=2)


def erase_one_by_one(root: Path, members: range, acks: Connection) -> None:
    tables = Tables(root)
    for member in members:
        tables.erase("played", "member", [member])
        acks.send(member)


class Workers:
    """Processes that report what was acknowledged to them. They fork from one server that has imported everything."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["matinee.tables.appending", "matinee.tables.declaring"])
        self._running: list[ForkServerProcess] = []

    def start(self, function: Callable[..., None], *arguments: Any) -> tuple[ForkServerProcess, Connection]:
        mine, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=function, args=(*arguments, theirs))
        process.start()
        theirs.close()
        self._running.append(process)
        return process, mine

    def stop(self) -> None:
        for process in self._running:
            process.kill()
            process.join()


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    made = Workers()
    yield made
    made.stop()


def acknowledged(acks: Connection) -> list[int]:
    """What the process said until it ended."""
    said = []
    while True:
        try:
            said.append(acks.recv())
        except EOFError:
            return said


def kill_later(process: ForkServerProcess, acks: Connection, rng: random.Random) -> list[int]:
    """Kills the process at a random moment after it got going; returns what was acknowledged to it."""
    said = [acks.recv()]
    time.sleep(rng.uniform(0, 0.15))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return said + acknowledged(acks)


def test_a_killed_process_loses_no_acknowledged_append_and_leaves_no_part_of_one(root: Path, workers: Workers) -> None:
    rng = random.Random(7)
    acked: list[int] = []
    tables = Tables(root)
    for turn in range(6):
        process, acks = workers.start(append_batches, root, range(1000 * turn, 1000 * turn + 999))
        acked += kill_later(process, acks, rng)
        have = counts(tables)
        assert set(have.values()) == {ROWS}
        assert set(acked) <= set(have)
        assert len(set(have) - set(acked)) <= turn + 1  # committed, and killed before it could say so
        assert tables.properties("played")["last"] == str(max(have))  # the mark moved with the rows
        tables.append("played", batch(1000 * turn + 999), mark={"last": str(1000 * turn + 999)})
        acked.append(1000 * turn + 999)
    assert tables.scan("played").select(pl.col("seq").is_duplicated().any()).collect().item() is False
    tables.sweep("played", grace=-timedelta(minutes=1))
    on_disk = {str(path) for path in (root / "tables" / "played" / "data").iterdir()}
    now, former = tables.files("played"), tables.rows("played")
    assert {file.path for file in now} <= on_disk
    tables.expire("played", grace=-timedelta(minutes=1))
    assert {str(path) for path in (root / "tables" / "played" / "data").iterdir()} == {file.path for file in now}
    assert tables.rows("played") == former


def test_a_killed_compaction_changes_nothing(root: Path, workers: Workers) -> None:
    rng = random.Random(8)
    tables = Tables(root)
    tables.append("played", batch(1))
    tables.pin("played", "train", max_age=timedelta(days=1))
    for _ in range(4):
        process, acks = workers.start(compact_again_and_again, root)
        kill_later(process, acks, rng)
        have = counts(tables)
        assert have.pop(1) == ROWS
        assert all(rows % ROWS == 0 for rows in have.values())
        assert counts(tables, "train") == {1: ROWS}
    tables.compact("played", min_files=2)
    tables.sweep("played", grace=-timedelta(minutes=1))
    assert counts(tables)[1] == ROWS


def test_a_killed_erasure_takes_whole_people_and_is_finished_by_repeating_it(root: Path, workers: Workers) -> None:
    rng = random.Random(9)
    tables = Tables(root)
    for number in range(3):
        tables.append("played", batch(number))
    tables.pin("played", "train", max_age=timedelta(days=1))
    tables.append("played", batch(3))
    start = 0
    for _ in range(4):
        process, acks = workers.start(erase_one_by_one, root, range(start, ROWS))
        gone = set(kill_later(process, acks, rng))
        rows = tables.scan("played").collect()
        pinned = tables.scan("played", snapshot="train").collect()
        left = set(rows["member"])
        assert not gone & left
        assert left == set(pinned["member"])  # the table and its pin have forgotten the same people
        assert rows.height == 4 * len(left)
        assert pinned.height == 3 * len(left)
        start = max(gone) + 1
        tables.erase("played", "member", list(range(start)))
        for path in (root / "tables" / "played" / "data").iterdir():
            assert pq.read_table(path)["member"].to_numpy().min(initial=ROWS) >= start
    # One more may be gone than was acknowledged: the kill can fall between a commit and its acknowledgement.
    left = set(tables.scan("played").collect()["member"])
    assert len(left) in (ROWS - start, ROWS - start - 1)
    assert tables.pins("played")[0].erased == 3 * (ROWS - len(left))


def test_four_processes_append_at_once_and_none_is_lost(root: Path, workers: Workers) -> None:
    started = [workers.start(append_batches, root, range(100 * w, 100 * w + 25)) for w in range(4)]
    for worker, (process, acks) in enumerate(started):
        assert acknowledged(acks) == list(range(100 * worker, 100 * worker + 25))
        process.join()
    tables = Tables(root)
    assert counts(tables) == {100 * w + i: ROWS for w in range(4) for i in range(25)}
    assert tables.scan("played").collect()["seq"].sort().to_list() == list(range(100 * ROWS))


def test_an_erasure_while_another_process_appends(root: Path, workers: Workers) -> None:
    tables = Tables(root)
    tables.append("played", batch(1000))
    process, acks = workers.start(append_batches, root, range(15))
    acks.recv()
    for member in range(1, 8):
        assert tables.erase("played", "member", [member]).rows >= 1
        tables.compact("played", min_files=2)
    assert acknowledged(acks) == list(range(1, 15))
    process.join()
    tables.erase("played", "member", list(range(1, 8)))
    assert counts(tables) == dict.fromkeys([*range(15), 1000], ROWS - 7)


def append_past_the_lock(root: Path, number: int) -> None:
    """What another engine does: commits through the catalog, and knows nothing of our lock."""
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("matinee", uri=f"sqlite:///{root}/tables.db")
    # Not in the bucket of member 5: a conflict in a bucket that an erasure rewrites is noticed by pyiceberg itself.
    others = batch(number).filter(bucket_of(range(ROWS)) != bucket_of([5]))
    rows = others.with_columns(seq=pl.int_range(pl.len()) + 10**6)
    catalog.load_table("matinee.played").append(rows.to_arrow().cast(SCHEMA))


def test_an_engine_that_takes_no_lock_makes_the_commit_start_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyiceberg.catalog.sql import SqlCatalog

    from matinee.tables.warehouse import Attempt

    tables = Tables(root)
    tables.append("played", batch(0))
    tables.pin("played", "train", max_age=timedelta(days=1))
    real, foreign = Attempt.commit_transaction, iter(range(100, 200))

    def overtaken(attempt: Attempt) -> Any:
        """The other engine commits in the moment before we do, every other time."""
        number = next(foreign)
        if number % 2 == 0:
            append_past_the_lock(root, number)
        return real(attempt)

    monkeypatch.setattr(Attempt, "commit_transaction", overtaken)
    tables.append("played", batch(1), mark={"last": "1"})
    tables.compact("played", min_files=2)
    report = tables.erase("played", "member", [5])
    SqlCatalog("matinee", uri=f"sqlite:///{root}/tables.db").load_table("matinee.played").delete("member == 6")
    only_pinned = tables.erase("played", "member", [6])
    monkeypatch.undo()
    have = counts(tables)
    assert {number: rows for number, rows in have.items() if number < 100} == {0: ROWS - 2, 1: ROWS - 2}
    assert set(have) > {0, 1, 100}
    assert report.per_pin == only_pinned.per_pin == {"train": 1}
    assert counts(tables, "train") == {0: ROWS - 2}
    assert tables.pins("played")[0].erased == 2
    assert tables.properties("played")["last"] == "1"
    tables.sweep("played", grace=-timedelta(minutes=1))
    assert counts(tables) == have


@pytest.mark.parametrize("operation", ["append", "compact", "erase"])
def test_an_interrupt_just_after_a_commit_leaves_the_table_whole(
    root: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """The caller cannot know that the commit was made: files that it refers to must not be cleaned up."""
    from matinee.tables.warehouse import Attempt

    tables = Tables(root)
    tables.append("played", batch(0))
    tables.append("played", batch(1))
    real = Attempt.commit_transaction

    def interrupted(attempt: Attempt) -> None:
        real(attempt)
        raise KeyboardInterrupt

    monkeypatch.setattr(Attempt, "commit_transaction", interrupted)
    with pytest.raises(KeyboardInterrupt):
        if operation == "append":
            tables.append("played", batch(2))
        elif operation == "compact":
            tables.compact("played", min_files=2)
        else:
            tables.erase("played", "batch", [1])
    monkeypatch.undo()
    expected = {"append": [0, 1, 2], "compact": [0, 1], "erase": [0]}[operation]
    assert counts(tables) == dict.fromkeys(expected, ROWS)


# -- A full disk -------------------------------------------------------------------------------------------------------

FILL = """
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from test_tables_faults import *
import polars as pl
tables = Tables(Path({root!r}))
tables.create("played", SCHEMA, key="member")
acked = 0
try:
    for number in range(10_000):
        rows = pl.concat([batch(number)] * 20).with_columns(name=pl.col("name").shuffle() + str(number * 7919))
        tables.append("played", rows, mark={{"last": str(number)}})
        acked += 1
except StorageError as error:
    print("refused:", error, "| caused by", repr(error.__cause__))
have = counts(tables)
assert have == {{n: 20 * ROWS for n in range(acked)}}, (acked, have)
assert tables.properties("played")["last"] == str(acked - 1)
files = set(map(str, Path({root!r}, "tables/played/data").iterdir()))
assert files == {{f.path for f in tables.files("played")}}, "the failed append left files"
print("acknowledged", acked)
"""


def fill(root: Path, *before: str) -> str:
    code = FILL.format(folder=str(Path(__file__).parent), root=str(root))
    done = subprocess.run([*before, sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_full_disk_refuses_the_append_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    small = [
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        'mount -t tmpfs -o size=3m none "$0" && exec "$@"',
        str(tmp_path),
    ]
    if shutil.which("unshare") is None or subprocess.run([*small, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    said = fill(tmp_path / "studio", *small)
    assert re.search(
        r"refused: table 'played': the disk of .*studio is full, must have room: nothing of this write was ack", said
    )
    assert int(said.split("acknowledged")[-1]) >= 1


def test_a_file_size_limit_is_reported_like_a_full_disk(tmp_path: Path) -> None:
    """Reaches the Parquet writer even where no small disk can be mounted."""
    Tables(tmp_path).create("played", SCHEMA, key="member")
    tables = Tables(tmp_path)
    tables.append("played", batch(0))
    code = (
        "import resource, signal, sys; from pathlib import Path; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_tables_faults import *\n"
        f"tables = Tables(Path({str(tmp_path)!r})); "
        "rows = pl.concat([batch(0)] * 5000).with_columns(seq=pl.int_range(300_000).shuffle(seed=1))\n"
        "tables.rows('played')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\n"
        "try: tables.append('played', rows)\n"
        "except StorageError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "is full, must have room: nothing of this write was acknowledged" in done.stdout
    assert counts(tables) == {0: ROWS}
    assert {str(p) for p in (tmp_path / "tables/played/data").iterdir()} == {f.path for f in tables.files("played")}
    tables.append("played", batch(1))
    assert counts(tables) == {0: ROWS, 1: ROWS}


# -- Are the bytes gone? -----------------------------------------------------------------------------------------------


def avro_blocks(data: bytes) -> bytes:
    """The header and the unpacked blocks of an Avro file, read without the library that wrote it (Avro 1.11, 5.2)."""
    position = 4

    def number() -> int:
        nonlocal position
        shift = value = 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return (value >> 1) ^ -(value & 1)

    def taken(size: int) -> bytes:
        nonlocal position
        position += size
        return data[position - size : position]

    header = {}
    while count := number():
        for _ in range(count):
            name = taken(number())
            header[name] = taken(number())
    taken(16)
    out = [repr(header).encode()]
    while position < len(data):
        number()
        block = taken(number())
        out.append(zlib.decompress(block, -15) if header[b"avro.codec"] == b"deflate" else block)
        taken(16)
    return b"".join(out)


def readable(path: Path) -> Iterator[bytes]:
    """Everything that can be read out of a file, as it is and decoded."""
    data = path.read_bytes()
    yield data
    if data[:4] == b"Obj\x01":
        yield avro_blocks(data)
    if data[:4] == b"PAR1":
        file = pq.ParquetFile(path)
        yield repr(file.read().to_pylist()).encode()
        for group in range(file.metadata.num_row_groups):
            for column in range(file.metadata.num_columns):
                yield repr(file.metadata.row_group(group).column(column).statistics).encode()
    if data[:6] == b"SQLite":
        import sqlite3

        with sqlite3.connect(path) as connection:
            yield "\n".join(connection.iterdump()).encode()


def files_with(root: Path, *markers: bytes) -> list[Path]:
    every = [path for path in root.rglob("*") if path.is_file()]
    return [path for path in every if any(marker in text for text in readable(path) for marker in markers)]


def test_nothing_of_an_erased_person_can_be_read_out_of_any_file(tmp_path: Path) -> None:
    """An integer key that is the greatest of all, so that it is a bound wherever bounds are kept, and a text key."""
    member, name = 8_765_432_101_234, "zzz-erased-person"
    tables = Tables(tmp_path)
    tables.create("played", SCHEMA, key="member", personal=["name"])
    tables.create("billed", pa.schema([f for f in SCHEMA if f.name != "member"]), key="name")
    person = batch(0).head(3).with_columns(member=pl.lit(member), name=pl.lit(name))
    for number in range(4):
        rows = pl.concat([batch(number), person])
        tables.append("played", rows)
        tables.append("billed", rows.drop("member"))
        if number == 1:
            tables.pin("played", "train", max_age=timedelta(days=1))
            tables.pin("billed", "train", max_age=timedelta(days=1))
        if number == 2:
            tables.compact("played", min_files=2)
            tables.compact("billed", min_files=2)
    markers = (name.encode(), str(member).encode(), struct.pack("<q", member))
    assert len(files_with(tmp_path, *markers)) > 4  # the search does find them
    assert tables.erase("played", "member", [member]).per_pin == {"train": 6}
    assert tables.erase("billed", "name", [name]).rows == 12
    assert files_with(tmp_path, *markers) == []
    assert counts(tables) == dict.fromkeys(range(4), ROWS)
    assert counts(tables, "train") == dict.fromkeys(range(2), ROWS)
    tables.append("played", batch(4))
    assert files_with(tmp_path, *markers) == []


def test_the_search_reads_what_iceberg_packs(tmp_path: Path) -> None:
    """The checker itself: a bound kept by a table that keeps them is found, inside a compressed manifest."""
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("other", uri=f"sqlite:///{tmp_path}/other.db", warehouse=f"file://{tmp_path}/w")
    catalog.create_namespace("n")
    rows = pa.table({"name": ["zzz-erased-person"]})
    catalog.create_table("n.t", rows.schema).append(rows)
    found = files_with(tmp_path, b"zzz-erased-perso")
    assert {path.suffix for path in found} == {".avro", ".parquet"}


@pytest.mark.parametrize("damage", [b"PAR1" + b"\0" * 100, None], ids=["zeros", "gone"])
def test_a_damaged_file_is_named(root: Path, damage: bytes | None) -> None:
    tables = Tables(root)
    tables.append("played", batch(0))
    tables.append("played", batch(1))
    path = Path(tables.files("played")[5].path)
    path.unlink() if damage is None else path.write_bytes(damage)
    before = tables.snapshot("played")
    with pytest.raises(StorageError, match=re.escape(f"{path} cannot be read")):
        tables.erase("played", "batch", [0])
    with pytest.raises(StorageError, match=re.escape(f"{path} cannot be read")):
        tables.compact("played", min_files=2)
    assert tables.snapshot("played") == before
