"""Appending: what is acknowledged is there, and nothing else; full disks, many threads, rotation, forks."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from matinee.exceptions import MatineeError, StorageError, TableBusyError
from matinee.ledger import Ledger, close_open_segments, is_live, read, recent, recover, segments, streams
from matinee.ledger.wal import Durability

from .records import NOW, choice, outcome

BOTH = pytest.mark.parametrize("durability", ["process", "disk"])


def logged(folder: Path) -> list[str]:
    """Ids of all records of the log, stream by stream, in order."""
    return [r.id for s in streams(folder) for segment in segments(folder, s) for r in read(segment.path)]


@BOTH
def test_what_was_appended_is_read_back_in_order(tmp_path: Path, durability: Durability) -> None:
    records = [choice(unit=i) if i % 2 else outcome() for i in range(20)]
    with Ledger(tmp_path, "web", durability=durability, gather=0.0) as ledger:
        for record in records:
            ledger.append(record)
            assert logged(tmp_path)[-1] == record.id  # before the ledger is closed
    assert logged(tmp_path) == [r.id for r in records]


@BOTH
def test_append_async_acknowledges_many_at_once(tmp_path: Path, durability: Durability) -> None:
    async def main() -> None:
        with Ledger(tmp_path, "web", durability=durability) as ledger:
            await asyncio.gather(*(ledger.append_async(choice(id=str(i))) for i in range(500)))
            assert sorted(map(int, logged(tmp_path))) == list(range(500))

    asyncio.run(main())


def test_group_commit_syncs_once_for_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []

    async def main() -> None:
        with Ledger(tmp_path, "web", durability="disk") as ledger:
            await ledger.append_async(choice())
            plain = os.fsync
            monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(fd), plain(fd))[1])
            await asyncio.gather(*(ledger.append_async(choice()) for _ in range(200)))
            assert 1 <= len(synced) <= 20

    asyncio.run(main())


def test_disk_acknowledges_only_after_the_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_sync, done = threading.Event(), threading.Event()
    with Ledger(tmp_path, "web", durability="disk") as ledger:
        ledger.append(choice())
        plain = os.fsync
        monkeypatch.setattr(os, "fsync", lambda fd: (may_sync.wait(10), plain(fd))[1])
        caller = threading.Thread(target=lambda: (ledger.append(choice(id="waits")), done.set()), daemon=True)
        caller.start()
        while "waits" not in logged(tmp_path):
            pass
        assert not done.is_set()
        may_sync.set()
        caller.join(10)
        assert done.is_set()


def test_a_sync_that_fails_acknowledges_nobody_and_the_ledger_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger(tmp_path, "web", durability="disk", gather=0.0) as ledger:
        ledger.append(choice(id="before"))
        plain, broken = os.fsync, [True]

        def fsync(fd: int) -> None:
            if broken[0]:
                raise OSError(errno.EIO, "Input/output error")
            plain(fd)

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(StorageError, match=r"cannot be synced .* not acknowledged"):
            ledger.append(choice(id="during"))
        broken[0] = False
        ledger.append(choice(id="after"))
        first, second = segments(tmp_path, ledger.stream)
        # Never again into pages that the kernel may have forgotten.
        assert [r.id for r in read(first.path)] == ["before", "during"]
        assert [r.id for r in read(second.path)] == ["after"]


def test_who_writes_while_a_sync_fails_is_not_acknowledged_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go, failed = threading.Event(), threading.Event(), list[str]()
    plain = os.fsync

    def fsync(fd: int) -> None:
        if not started.is_set():
            started.set()
            go.wait(10)
            raise OSError(errno.EIO, "Input/output error")
        plain(fd)

    def append(name: str) -> None:
        try:
            ledger.append(choice(id=name))
        except StorageError:
            failed.append(name)

    with Ledger(tmp_path, "web", durability="disk", gather=0.0) as ledger:
        ledger.append(choice(id="before"))
        monkeypatch.setattr(os, "fsync", fsync)
        callers = [threading.Thread(target=append, args=(name,), daemon=True) for name in ("first", "second")]
        callers[0].start()
        started.wait(10)
        callers[1].start()
        while "second" not in logged(tmp_path):
            pass
        go.set()
        for caller in callers:
            caller.join(10)
    assert sorted(failed) == ["first", "second"]


def test_a_new_segment_is_entered_in_its_folder_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    plain = os.fsync

    def fsync(fd: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        plain(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with Ledger(tmp_path, "web") as ledger:
        synced.clear()
        ledger.append(choice())
        assert synced == [str(tmp_path / ledger.stream)]
        ledger.append(choice())
        assert len(synced) == 1


def test_nobody_waits_for_a_writer_thread_that_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda failure: None)
    times = iter([NOW] * 3)  # the next look at the clock fails

    def clock() -> datetime:
        return next(times)

    ledger = Ledger(tmp_path, "web", durability="disk", clock=clock)
    for _ in range(2):
        with pytest.raises(StorageError, match="its writer thread ended"):
            ledger.append(choice())
    ledger.close()
    assert not is_live(tmp_path, ledger.stream)


def test_an_event_loop_gets_the_error_of_its_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async def main() -> None:
        unhandled: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unhandled.append(context))
        ledger = Ledger(tmp_path, "web", durability="disk")
        await ledger.append_async(choice())
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fsync)
            waiting = [asyncio.create_task(ledger.append_async(choice())) for _ in range(5)]
            await asyncio.sleep(0)  # each has written and waits
            waiting[0].cancel()
            found = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
        assert isinstance(found[0], asyncio.CancelledError)
        assert all(isinstance(f, StorageError) for f in found[1:])
        assert unhandled == []  # nobody answers one who has left
        await ledger.append_async(choice())
        ledger.close()

    asyncio.run(main())


@BOTH
def test_threads_do_not_mix_their_lines(tmp_path: Path, durability: Durability) -> None:
    with Ledger(tmp_path, "web", durability=durability, segment_bytes=5000, gather=0.0) as ledger:

        def write(k: int) -> None:
            for i in range(50):
                ledger.append(choice(id=f"{k}-{i}"))

        threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(segments(tmp_path, ledger.stream)) > 5
    found = logged(tmp_path)
    assert sorted(found) == sorted(f"{k}-{i}" for k in range(4) for i in range(50))
    for k in range(4):  # each thread's records in its own order
        assert [f for f in found if f.startswith(f"{k}-")] == [f"{k}-{i}" for i in range(50)]


def test_segments_are_numbered_and_closed_by_size(tmp_path: Path) -> None:
    with Ledger(tmp_path, "web", segment_bytes=1000) as ledger:
        for _ in range(20):
            ledger.append(choice())
        found = segments(tmp_path, ledger.stream)
        assert [s.number for s in found] == list(range(1, len(found) + 1))
        assert [s.closed for s in found] == [True] * (len(found) - 1) + [False]
        assert all(1000 <= s.path.stat().st_size < 2000 for s in found[:-1])
    assert all(s.closed for s in segments(tmp_path, ledger.stream))


class Clock:
    """A wall clock that the test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def until(met: Callable[[], bool]) -> None:
    """Wait for the writer thread, at most ten seconds."""
    ended = threading.Event()
    timer = threading.Timer(10, ended.set)
    timer.start()
    while not met():
        assert not ended.is_set(), "the writer thread did not act"
    timer.cancel()


@BOTH
@pytest.mark.parametrize("later", [timedelta(minutes=16), timedelta(hours=-1)])
def test_an_old_segment_is_closed_though_nobody_writes_and_also_if_the_clock_goes_back(
    tmp_path: Path, durability: Durability, later: timedelta
) -> None:
    clock = Clock()
    with Ledger(tmp_path, "web", durability=durability, clock=clock, tick=0.005) as ledger:
        ledger.append(choice(id="a"))
        assert [s.closed for s in segments(tmp_path, ledger.stream)] == [False]
        clock.now += later
        until(lambda: segments(tmp_path, ledger.stream)[0].closed)
        ledger.append(choice(id="b"))
        assert [s.number for s in segments(tmp_path, ledger.stream)] == [1, 2]
    assert logged(tmp_path) == ["a", "b"]


@BOTH
def test_rotate_closes_the_segment_and_an_empty_one_is_not_made(tmp_path: Path, durability: Durability) -> None:
    with Ledger(tmp_path, "web", durability=durability) as ledger:
        ledger.rotate()
        assert segments(tmp_path, ledger.stream) == []
        ledger.append(choice())
        ledger.rotate()
        ledger.rotate()
        assert [s.closed for s in segments(tmp_path, ledger.stream)] == [True]


@BOTH
def test_a_sealer_may_ask_living_writers_to_close(tmp_path: Path, durability: Durability) -> None:
    with Ledger(tmp_path, "web", durability=durability, tick=0.005) as ledger:
        ledger.append(choice())
        assert close_open_segments(tmp_path) == []
        assert [s.closed for s in segments(tmp_path, ledger.stream)] == [True]
    assert close_open_segments(tmp_path) == []  # nobody is left to ask


def test_a_writer_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with Ledger(tmp_path, "web", tick=3600) as ledger:
        assert close_open_segments(tmp_path, timeout=0.0) == [ledger.stream]


# A disk that fills


class FullDisk:
    """Stands for `os.write` on a disk with so many bytes left; a write that does not fit is cut short."""

    def __init__(self, room: int) -> None:
        self.room, self._write = room, os.write

    def __call__(self, fd: int, data: bytes) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._write(fd, data[: self.room])
        self.room -= written
        return written


@BOTH
@pytest.mark.parametrize("room", [0, 1, 9, 150])
def test_a_line_cut_short_by_a_full_disk_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Durability, room: int
) -> None:
    with Ledger(tmp_path, "web", durability=durability, gather=0.0) as ledger:
        ledger.append(choice(id="before"))
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", FullDisk(room))
            for _ in range(3):
                with pytest.raises(StorageError, match=r"cannot be written .*nothing was logged"):
                    ledger.append(choice(id="during"))
                assert logged(tmp_path) == ["before"]
        ledger.append(choice(id="after"))
    assert logged(tmp_path) == ["before", "after"]
    assert len(segments(tmp_path, ledger.stream)) == 1


def test_a_cut_that_cannot_be_taken_back_is_not_written_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ftruncate(fd: int, size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Ledger(tmp_path, "web") as ledger:
        ledger.append(choice(id="before"))
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", FullDisk(20))
            patched.setattr(os, "ftruncate", ftruncate)
            with pytest.raises(StorageError, match="cannot be repaired"):
                ledger.append(choice(id="during"))
            patched.setattr(os, "write", FullDisk(10**6))
            with pytest.raises(StorageError, match="cannot be repaired"):
                ledger.append(choice(id="too early"))
            with pytest.raises(StorageError, match="cannot be repaired"):
                ledger.rotate()
        ledger.append(choice(id="after"))
    assert logged(tmp_path) == ["before", "after"]


def test_an_interrupt_within_a_write_does_not_shift_what_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = os.write

    def interrupted(fd: int, data: bytes) -> int:
        plain(fd, data)
        raise KeyboardInterrupt

    with Ledger(tmp_path, "web") as ledger:
        ledger.append(choice(id="before"))
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", interrupted)
            with pytest.raises(KeyboardInterrupt):
                ledger.append(choice(id="never acknowledged"))
        ledger.append(choice(id="after"))
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", FullDisk(5))
            with pytest.raises(StorageError):
                ledger.append(choice(id="full"))
    assert logged(tmp_path) == ["before", "after"]


def test_a_segment_that_cannot_be_made_is_said_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = os.open

    def no_room(path: Any, flags: int, *mode: int) -> int:
        if str(path).endswith(".open"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain(path, flags, *mode)

    with Ledger(tmp_path, "web") as ledger:
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", no_room)
            with pytest.raises(StorageError, match=r"cannot be created .No space left"):
                ledger.append(choice())
        ledger.append(choice(id="after"))
        assert [s.number for s in segments(tmp_path, ledger.stream)] == [1]
    assert logged(tmp_path) == ["after"]


def test_a_real_limit_on_the_file_cuts_a_line_and_it_is_taken_back(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from matinee.ledger import Ledger
from matinee.exceptions import StorageError
from records import choice
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Ledger(sys.argv[1], "web") as ledger:
    ledger.append(choice(id="a"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, resource.RLIM_INFINITY))
    n = 0
    try:
        for n in range(100):
            ledger.append(choice(id=f"b{n}"))
    except StorageError as error:
        assert "nothing was logged" in str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    ledger.append(choice(id="c"))
print(n)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    call = [sys.executable, "-c", code, str(tmp_path)]
    ran = subprocess.run(call, capture_output=True, text=True, check=True, env=environment)
    failed = int(ran.stdout)
    assert 0 < failed < 99
    assert logged(tmp_path) == ["a", *(f"b{i}" for i in range(failed)), "c"]


# Streams and their owners


def test_two_writers_of_one_name_get_two_streams(tmp_path: Path) -> None:
    with Ledger(tmp_path, "web") as one, Ledger(tmp_path, "web") as two:
        assert one.stream != two.stream
        assert streams(tmp_path) == sorted([one.stream, two.stream])
        one.append(choice(id="1"))
        two.append(choice(id="2"))
    assert sorted(logged(tmp_path)) == ["1", "2"]


def test_a_stream_whose_writer_is_gone_is_continued_with_the_next_number(tmp_path: Path) -> None:
    names = []
    for i in range(3):
        with Ledger(tmp_path, "web") as ledger:
            ledger.append(choice(id=str(i)))
            names.append(ledger.stream)
    assert len(set(names)) == 1
    assert [s.number for s in segments(tmp_path, names[0])] == [1, 2, 3]
    with Ledger(tmp_path, "worker") as other:
        assert other.stream not in names


def test_a_stream_is_alive_while_its_writer_is_and_cannot_be_recovered_then(tmp_path: Path) -> None:
    with Ledger(tmp_path, "web") as ledger:
        assert is_live(tmp_path, ledger.stream)
        with pytest.raises(TableBusyError, match="is being written, must be dead"):
            recover(tmp_path, ledger.stream)
    assert not is_live(tmp_path, ledger.stream)
    assert recover(tmp_path, ledger.stream) is None


def test_a_process_id_that_is_used_again_does_not_keep_a_stream_alive(tmp_path: Path) -> None:
    with Ledger(tmp_path, "web") as ledger:
        ledger.append(choice())
    owner = tmp_path / ledger.stream / "owner"
    owner.write_text(f'{{"pid": {os.getpid()}}}')  # a living process with the writer's number
    assert not is_live(tmp_path, ledger.stream)


def test_a_forked_child_must_open_its_own(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "web")
    ledger.append(choice(id="parent"))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            ledger.append(choice(id="child"))
        except StorageError as error:
            with Ledger(tmp_path, "web") as own:
                own.append(choice(id="own"))
            code = 0 if "before a fork" in str(error) and own.stream != ledger.stream else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert is_live(tmp_path, ledger.stream)
    ledger.append(choice(id="parent again"))
    ledger.close()
    assert sorted(logged(tmp_path)) == ["own", "parent", "parent again"]


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path, "web")
    ledger.close()
    yield ledger


def test_a_closed_ledger_says_so(closed: Ledger) -> None:
    closed.close()
    for use in (lambda: closed.append(choice()), closed.rotate):
        with pytest.raises(StorageError, match="it is closed"):
            use()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"stream": "a/b"}, "stream == 'a/b', must be letters"),
        ({"stream": ""}, "stream == '', must be letters"),
        ({"durability": "disc"}, "durability == 'disc', must be one of .*did you mean 'disk'"),
        ({"segment_bytes": 0}, "segment_bytes == 0, must be > 0"),
        ({"segment_age": "soon"}, "duration == 'soon', must be"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(MatineeError, match=words):
        Ledger(tmp_path, **{"stream": "web", **given})


def test_a_refused_record_writes_nothing(tmp_path: Path) -> None:
    with Ledger(tmp_path, "web") as ledger:
        with pytest.raises(MatineeError, match="must be finite"):
            ledger.append(choice(context={"x": float("nan")}))
        assert segments(tmp_path, ledger.stream) == []


def test_recent_gives_the_newest_of_all_streams_first(tmp_path: Path) -> None:
    assert recent(tmp_path) == []
    at = [NOW + timedelta(seconds=i) for i in range(60)]
    with Ledger(tmp_path, "web", segment_bytes=2000) as one, Ledger(tmp_path, "web") as two:
        for i in range(60):
            (one if i % 3 else two).append(choice(id=str(i), at=at[i]) if i % 2 else outcome(id=str(i), known=at[i]))
        assert [r.id for r in recent(tmp_path, 7)] == [str(i) for i in range(59, 52, -1)]
        assert [r.id for r in recent(tmp_path, 1000)] == [str(i) for i in range(59, -1, -1)]
        assert recent(tmp_path, 0) == []


def test_recent_reads_the_end_only_and_passes_over_a_line_being_written(tmp_path: Path) -> None:
    with Ledger(tmp_path, "web") as ledger:
        for i in range(1000):
            ledger.append(choice(id=str(i), at=NOW + timedelta(seconds=i), context={"pad": "x" * 200}))
        path = segments(tmp_path, ledger.stream)[0].path
        with path.open("r+b") as file:
            file.write(b"\0" * 1000)  # damage far from the end
        with path.open("ab") as file:
            file.write(b"0000")  # another write under way
        assert [r.id for r in recent(tmp_path, 3)] == ["999", "998", "997"]
