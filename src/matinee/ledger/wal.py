"""The write-ahead log of choices and outcomes: one stream per process, one write per record."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from matinee.checks import must
from matinee.disk import sync
from matinee.exceptions import StorageError
from matinee.ledger.lines import Record, encode, to_line
from matinee.ledger.streams import claim, is_live, last_number, streams
from matinee.times import duration, utc_now

Durability = Literal["process", "disk"]
_Waiter = tuple[asyncio.AbstractEventLoop | None, "Future[None] | asyncio.Future[None]"]

_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: a plain fsync stops at the drive's cache
_OPEN: weakref.WeakSet[Ledger] = weakref.WeakSet()


class Ledger:
    """Appends choices and outcomes to the log of this process, each in one write.

    **What is acknowledged.** `append` returns, or `await append_async` resumes, when

    - `durability="process"`: the whole record has been handed to the kernel. It survives `kill -9` of this process,
      at any moment; it does not survive a power cut or a kernel crash within the seconds until the kernel writes it.
    - `durability="disk"`: the record and every record before it in this stream have been synced to the disk. It
      survives a power cut, as far as the disk keeps its word. A writer thread syncs once for all who wait (group
      commit), so a hundred waiting requests pay for one sync.

    When either raises, the record is not acknowledged. After `StorageError` from a write (a full disk) nothing of it
    is in the log: a line that was cut short is taken back before anything else is written, and appending works again
    when there is space. After `StorageError` from a sync it may or may not be in the log; the ledger goes on in a new
    segment, because a kernel may forget pages that it failed to sync. Retry with the same `id`: an outcome counts once.

    Safe to call from many threads. Not inherited by `fork`: a child must open its own, and gets its own stream.

    Args:
        folder: The log folder, on a local disk.
        stream: What the process is, such as `"web"`; see `stream` for the stream it got. A stream whose writer is
            gone is recovered and continued.
        durability: See above.
        segment_bytes: A segment is closed, and can be sealed, when it has grown to this size,
        segment_age: or is this old, also when nobody writes.
        gather: Seconds that the writer thread lets requests gather before a sync.
        tick: Seconds between looks at the segment's age.
        clock: The wall clock. Only the age of a segment depends on it: numbers come from the folder, so a clock that
            goes backwards closes a segment early and breaks nothing.

    Raises:
        StorageError: If the folder cannot be written or locked.

    Example:
        >>> import tempfile
        >>> from matinee.choices import Choice, new_id
        >>> from matinee.ledger import recent
        >>> folder = tempfile.mkdtemp()
        >>> with Ledger(folder, "web") as ledger:
        ...     ledger.append(Choice(id=new_id(), decision="home", unit=42, at=utc_now(), policy="home@13"))
        ...     recent(folder)[0].unit
        42
    """

    def __init__(
        self,
        folder: Path | str,
        stream: str,
        *,
        durability: Durability = "process",
        segment_bytes: int = 16 << 20,
        segment_age: str | timedelta = "15m",
        gather: float = 0.002,
        tick: float = 0.5,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.durability = must(durability, "durability", one_of=("process", "disk"))
        self._limit = must(segment_bytes, "segment_bytes", typ=int, gt=0)
        self._age = duration(segment_age)
        self._gather = must(gather, "gather", ge=0)
        self._tick = must(tick, "tick", gt=0)
        self._clock = clock
        self._disk = durability == "disk"
        try:
            self._owned = claim(folder, stream, clock())
            self._number = last_number(folder, self._owned.stream)
        except OSError as error:
            raise StorageError(f"folder == {str(folder)!r} cannot hold a log: {error.strerror}") from error
        self._fd = -1  # the open segment; -1 between segments
        self._path = self._owned.path
        self._size = 0  # bytes of whole lines in the open segment
        self._torn = False  # a cut line could not be taken back yet
        self._since = clock()
        self._closed = ""  # why nothing can be appended any more
        self._released = False  # whether the stream has been let go of
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._waiting: list[_Waiter] = []
        self._retired: list[tuple[int, Path]] = []  # full; to be synced and closed by the writer thread
        self._thread = threading.Thread(target=self._run, name=f"matinee-log-{self.stream}", daemon=True)
        self._thread.start()
        _OPEN.add(self)

    @property
    def stream(self) -> str:
        """The stream this process writes, such as `web-3f9a2c11`."""
        return self._owned.stream

    @property
    def segment(self) -> int:
        """Number of the segment that holds the latest record; a seal mark at or above it covers all so far."""
        return self._number

    def append(self, record: Record) -> int:
        """Log one record; returns when it is acknowledged (see the class). With `"disk"` this blocks for a sync.

        Returns:
            The number of the segment that holds it; a seal mark at or above it covers it.

        Raises:
            MatineeError: If the record holds what the log cannot keep (NaN, a naive datetime); nothing is written.
            StorageError: If the disk is full or failing; the record is not acknowledged.
        """
        line = to_line(encode(record))
        if not self._disk:
            with self._lock:
                self._put(line)
                return self._number
        synced: Future[None] = Future()
        with self._lock:
            self._put(line)
            number = self._number
            self._waiting.append((None, synced))
            self._wake.notify()
        synced.result()
        return number

    async def append_async(self, record: Record) -> None:
        """`append` for an event loop: other requests run while this one waits for its sync.

        If the waiting task is cancelled the record stays in the log.

        Raises:
            As `append`.
        """
        if not self._disk:
            self.append(record)
            return
        line = to_line(encode(record))
        loop = asyncio.get_running_loop()
        synced = loop.create_future()
        with self._lock:
            self._put(line)
            self._waiting.append((loop, synced))
            self._wake.notify()
        await synced

    def rotate(self) -> None:
        """Close the open segment, so that it can be sealed. Does nothing while the segment is empty."""
        with self._lock:
            self._check_open()
            if self._fd < 0:
                return
            self._retire()
            if not self._disk:
                return
            synced: Future[None] = Future()
            self._waiting.append((None, synced))
            self._wake.notify()
        synced.result()

    def close(self) -> None:
        """Acknowledge what waits, close the segment and let go of the stream. Closing twice does nothing."""
        with self._lock:
            if self._released:
                return
            self._released, self._closed = True, self._closed or "it is closed"
            self._wake.notify()
        self._thread.join()
        try:
            with self._lock:
                if self._fd >= 0:
                    self._retire()
        finally:
            self._sync_group()
            self._owned.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Ledger({str(self._owned.path)!r}, durability={self.durability!r})"

    # Everything below that changes the segment is called with the lock held.

    def _put(self, line: bytes) -> None:
        if self._closed:
            self._check_open()
        if self._fd < 0:
            self._open_segment()
        elif self._torn or self._size >= self._limit:
            self._take_back()
            if self._size >= self._limit:
                self._retire()
                self._open_segment()
        # Torn until proven whole: an exception from a signal handler may strike between any two of these lines.
        self._torn = True
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            self._take_back()
            raise StorageError(f"{self._path} cannot be written ({error.strerror}); nothing was logged") from error
        if written != len(line):
            # A full disk takes the first part of a line. Nothing may follow it, or it would lie torn in the middle.
            self._take_back()
            raise StorageError(f"{self._path} cannot be written (the disk is full); nothing was logged")
        self._size += written
        self._torn = False

    def _take_back(self) -> None:
        """Cut the segment to its last whole line; tried again before the next write if the disk refuses."""
        if not self._torn:
            return
        try:
            os.ftruncate(self._fd, self._size)
        except OSError as error:
            raise StorageError(f"{self._path} cannot be repaired ({error.strerror}); nothing was logged") from error
        self._torn = False

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError(f"the ledger {self.stream!r} cannot be used: {self._closed}")

    def _open_segment(self) -> None:
        path = self._owned.path / f"{self._number + 1:06d}.open"
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)
            sync(self._owned.path)
        except OSError as error:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
                path.unlink()
            raise StorageError(f"{path} cannot be created ({error.strerror}); nothing was logged") from error
        self._number += 1
        self._path, self._size, self._torn, self._since = path, 0, False, self._clock()

    def _retire(self) -> None:
        """Stop appending to the open segment. What must be synced first is closed by the writer thread."""
        self._take_back()
        if self._disk:
            self._retired.append((self._fd, self._path))
        else:
            try:
                _close(self._fd, self._path)
            except OSError as error:
                raise StorageError(f"{self._path} cannot be closed ({error.strerror}); nothing was logged") from error
        self._fd = -1

    def _run(self) -> None:
        """The writer thread: syncs for those who wait, and closes a segment that is old or that a sealer asks for."""
        try:
            while True:
                with self._lock:
                    self._wake.wait_for(lambda: bool(self._waiting or self._closed), self._tick)
                    if self._closed:
                        return
                    gathering = bool(self._waiting)
                if gathering and self._gather:
                    time.sleep(self._gather)
                self._close_if_due()
                self._sync_group()
        finally:
            # Ended by an error nobody foresaw: whoever waits for a sync must not wait for ever.
            with self._lock:
                if not self._closed:
                    self._closed = "its writer thread ended"
                    _release(self._waiting, StorageError(f"the ledger {self.stream!r}: {self._closed}"))
                    self._waiting = []

    def _close_if_due(self) -> None:
        asked = self._owned.path / "rotate"
        wanted = asked.exists()
        with self._lock:
            age = self._clock() - self._since
            # A negative age is a clock that went backwards: closing early is harmless, never closing is not.
            if self._fd >= 0 and (wanted or age >= self._age or age < timedelta(0)):
                try:
                    self._retire()
                except StorageError:
                    return  # nobody waits here; the next append meets the same disk and reports it
        if wanted:
            self._sync_group()
            if not self._retired:
                asked.unlink(missing_ok=True)

    def _sync_group(self) -> None:
        """One sync for everything that was written when it began; then release all who waited for it."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            retired, self._retired = self._retired, []
            fd, path = self._fd, self._path
        failed: StorageError | None = None
        for old_fd, old_path in retired:
            try:
                _sync(old_fd)
            except OSError as error:
                failed = _not_synced(old_path, error)
            try:
                _close(old_fd, old_path)
            except OSError:
                # Synced but not renamed: its records are safe, and it is tried again at the next look.
                with self._lock:
                    self._retired.append((old_fd, old_path))
        if waiting and fd >= 0:
            try:
                # Only this thread closes segments in this mode, so the file is still open.
                _sync(fd)
            except OSError as error:
                failed = _not_synced(path, error)
                with self._lock:
                    # Also those who wrote while the sync failed: a second sync of these pages may lie.
                    waiting += self._waiting
                    self._waiting = []
                    if self._fd == fd:
                        self._fd = -1
                        self._retired.append((fd, path))
        _release(waiting, failed)

    def _forget_after_fork(self) -> None:
        # The parent keeps writing: letting go of the copies of its files changes nothing for it, and its stream is
        # then free the moment it dies. Its locks may have been held in the instant of the fork, so they are not used.
        if self._released:
            return
        self._released, self._closed = True, "it was opened before a fork; open one in each process"
        for fd in (self._fd, *(fd for fd, _ in self._retired)):
            if fd >= 0:
                os.close(fd)
        self._fd, self._retired, self._waiting = -1, [], []
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._owned.release()


def close_open_segments(folder: Path | str, *, timeout: float = 5.0, poll: float = 0.02) -> list[str]:
    """Ask every living writer of the log to close its segment, so that a seal that follows leaves no record behind.

    Erasure needs this: what lies in an open segment cannot be removed.

    Returns:
        The streams that did not answer within `timeout` seconds.
    """
    asked = [Path(folder) / stream / "rotate" for stream in streams(folder) if is_live(folder, stream)]
    for path in asked:
        path.touch()
    until = time.monotonic() + timeout
    while True:
        silent = [p for p in asked if p.exists() and is_live(folder, p.parent.name)]
        if not silent or time.monotonic() >= until:
            return [p.parent.name for p in silent]
        time.sleep(poll)


def _sync(fd: int) -> None:
    if _FULL_SYNC is not None:
        fcntl.fcntl(fd, _FULL_SYNC)
    else:
        os.fsync(fd)


def _close(fd: int, path: Path) -> None:
    path.rename(path.with_suffix(".wal"))
    os.close(fd)


def _not_synced(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path} cannot be synced ({error.strerror}); the record is not acknowledged")


def _release(waiting: list[_Waiter], failed: StorageError | None) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for loop, waiter in waiting:
        if isinstance(waiter, Future):
            _settle(waiter, failed)
        elif loop is not None:
            by_loop.setdefault(loop, []).append(waiter)
    for loop, futures in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle_all, futures, failed)
        except RuntimeError:
            continue  # the loop was closed: nobody waits any more


def _settle_all(waiters: list[asyncio.Future[None]], failed: StorageError | None) -> None:
    for waiter in waiters:
        _settle(waiter, failed)


def _settle(waiter: Future[None] | asyncio.Future[None], failed: StorageError | None) -> None:
    if waiter.done():
        return  # cancelled while it waited; the record stays in the log
    if failed is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(failed)


def _after_fork() -> None:
    for ledger in list(_OPEN):
        ledger._forget_after_fork()


os.register_at_fork(after_in_child=_after_fork)
