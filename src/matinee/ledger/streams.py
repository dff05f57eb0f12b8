"""What lies in a log folder: streams, their segments, who owns them, and what a crash left behind.

    log/web-3f9a2c11/owner          locked for as long as the writing process lives
    log/web-3f9a2c11/000016.sealed  empty: everything up to 16 is in the tables
    log/web-3f9a2c11/000017.wal     closed: never written again
    log/web-3f9a2c11/000018.open    being written

A stream is alive while its `owner` file is locked (`flock`). The kernel drops the lock with the process, so neither
kill -9 nor a process id that is used again can be mistaken for a living writer. Local file systems only: neither
`O_APPEND` nor the lock can be trusted on a network share.

The random part of the name is drawn when the folder is made. Marks in the tables carry it, so a log folder that was
lost and made again, or the same name on another machine, is never taken for one whose rows are sealed already.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from io import FileIO
from pathlib import Path

import msgspec

from matinee.choices import Choice
from matinee.disk import sync
from matinee.exceptions import MatineeError, StorageError, TableBusyError, UnknownNameError
from matinee.ledger.lines import BadLine, Record, decode, payloads

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_STREAM = re.compile(r"(.+)-[0-9a-f]{8}")
_SEGMENT = re.compile(r"(\d{6,})\.(open|wal|sealed)")
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of a stream. Closed ones are never written again."""

    stream: str
    number: int
    path: Path
    closed: bool


@dataclass(frozen=True, slots=True)
class Torn:
    """What recovery cut off: the bytes of a record that was being written, and was never acknowledged."""

    path: Path
    offset: int
    line: bytes


class Owned:
    """The lock on a stream. Held by its writer while it lives, and by the sealer while it empties a dead one."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path = path
        self.stream = path.name
        self._file = file

    def release(self) -> None:
        """Let go; also what the kernel does when the process dies."""
        self._file.close()


def streams(folder: Path | str) -> list[str]:
    """Names of the streams of a log folder, alive or dead, in order."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if _STREAM.fullmatch(p.name) and p.is_dir())


def segments(folder: Path | str, stream: str) -> list[Segment]:
    """The segments of a stream that hold records, in the order they were written.

    Raises:
        UnknownNameError: If the folder has no such stream.
    """
    found: dict[int, Segment] = {}
    for number, kind, path in files(Path(folder), stream):
        # A segment that is closed while the folder is listed may show under both names.
        if kind == "wal" or (kind == "open" and number not in found):
            found[number] = Segment(stream, number, path, kind == "wal")
    return [found[n] for n in sorted(found)]


def last_number(folder: Path | str, stream: str) -> int:
    """The highest number a segment of this stream ever had; 0 for a new stream."""
    return max((number for number, _, _ in files(Path(folder), stream)), default=0)


def own(folder: Path | str, stream: str) -> Owned | None:
    """The lock on a stream, or None while a living process holds it."""
    path = Path(folder) / stream
    file = FileIO(path / "owner", "a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError as error:
        file.close()
        raise StorageError(f"{path} cannot be locked ({error.strerror}): the log must lie on a local disk") from error
    return Owned(path, file)


def is_live(folder: Path | str, stream: str) -> bool:
    """Whether a process is writing this stream."""
    owned = own(folder, stream)
    if owned is None:
        return True
    owned.release()
    return False


def claim(folder: Path | str, name: str, now: datetime) -> Owned:
    """The lock on a stream of this name: one whose writer is gone, or else a new one. Two processes get two streams."""
    if not _NAME.fullmatch(name):
        raise MatineeError(f"stream == {name!r}, must be letters, digits, '_', '.' and '-', 64 at most")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for stream in streams(folder):
        match = _STREAM.fullmatch(stream)
        if match is not None and match[1] == name and (owned := own(folder, stream)) is not None:
            cut_tail(folder, stream)
            break
    else:
        while True:
            path = folder / f"{name}-{secrets.token_hex(4)}"
            path.mkdir()
            sync(folder)
            # A sealer that looks whether this stream is alive may hold the lock for an instant: draw again.
            if (new := own(folder, path.name)) is not None:
                owned = new
                break
    about = {"pid": os.getpid(), "host": socket.gethostname(), "since": now.isoformat()}
    (owned.path / "owner").write_text(json.dumps(about))  # for people; the lock is what counts
    return owned


def recover(folder: Path | str, stream: str) -> Torn | None:
    """Repair what a killed writer left: cut the torn tail of its last segment, and close its segments.

    Bytes after the last newline of the last segment are a record whose writing was cut short; nobody was told that
    it is safe. They are cut. Everything else stays: a damaged line that is whole goes to quarantine when it is
    sealed. Opening a `Ledger` and `seal` both call this; running it twice changes nothing.

    Returns:
        What was cut, or None.

    Raises:
        TableBusyError: If the stream's writer is alive.
    """
    owned = own(folder, stream)
    if owned is None:
        raise TableBusyError(f"stream == {stream!r} is being written, must be dead to be recovered")
    try:
        return cut_tail(folder, stream)
    finally:
        owned.release()


def cut_tail(folder: Path | str, stream: str) -> Torn | None:
    """`recover` for a caller that owns the stream."""
    torn = None
    held = segments(folder, stream)
    still_open = [s for s in held if not s.closed]
    for segment in still_open:
        # Only the last one can have been in the middle of a write; an earlier one was whole and waited to be closed.
        if segment is held[-1]:
            data = segment.path.read_bytes()
            keep = data.rfind(b"\n") + 1
            if keep < len(data):
                torn = Torn(segment.path.with_suffix(".wal"), keep, data[keep:])
                with segment.path.open("r+b") as file:
                    file.truncate(keep)
                    os.fsync(file.fileno())
        segment.path.rename(segment.path.with_suffix(".wal"))
    (Path(folder) / stream / "rotate").unlink(missing_ok=True)
    if still_open:
        sync(Path(folder) / stream)
    return torn


def read(path: Path | str, bad: Callable[[BadLine], None] | None = None) -> Iterator[Record]:
    """The records of one segment, in order.

    Args:
        path: The segment's file.
        bad: Is given each line that cannot be read; without it the first one raises.

    Raises:
        StorageError: For a bad line, where `bad` is absent. The unfinished last line of an open segment is not bad.
    """
    path = Path(path)
    for offset, payload in payloads(_bytes(path), path):
        if isinstance(payload, BadLine):
            if path.suffix == ".open" and payload.reason == "the line has no end":
                return
            wrong = payload
        else:
            try:
                yield decode(payload)
                continue
            except msgspec.DecodeError as error:
                wrong = BadLine(path, offset, payload, str(error))
        if bad is None:
            raise StorageError(f"{path} at byte {offset}: {wrong.reason}; `matinee seal` moves the line to quarantine")
        bad(wrong)


def recent(folder: Path | str, limit: int = 50) -> list[Record]:
    """The newest records that are not sealed yet, newest first: choices by `at`, outcomes by `known`.

    Reads the segments from their ends, so its cost grows with `limit` and not with the log. Lines that cannot be
    read are passed over; sealing reports them.
    """
    found: list[Record] = []
    for stream in streams(folder):
        wanted = limit
        for segment in reversed(segments(folder, stream)):
            if wanted <= 0:
                break
            newest = _last_records(segment.path, wanted)
            found += newest
            wanted -= len(newest)
    return heapq.nlargest(limit, found, key=lambda r: r.at if isinstance(r, Choice) else r.known)


def files(folder: Path, stream: str) -> list[tuple[int, str, Path]]:
    """Number, kind and path of every segment file of a stream, sealed ones included, in no order."""
    try:
        paths = list((folder / stream).iterdir())
    except FileNotFoundError:
        raise UnknownNameError("stream", stream, streams(folder)) from None
    matches = ((_SEGMENT.fullmatch(path.name), path) for path in paths)
    return [(int(m[1]), m[2], path) for m, path in matches if m is not None]


def _bytes(path: Path) -> bytes:
    """The file, also if it is closed (renamed) just now; empty if it is sealed (deleted) just now."""
    for one in (path, path.with_suffix(".wal")):
        try:
            return one.read_bytes()
        except FileNotFoundError:
            continue
    return b""


def _last_records(path: Path, limit: int) -> list[Record]:
    """Up to `limit` records from the end of a segment, newest first."""
    for one in (path, path.with_suffix(".wal")):
        try:
            with one.open("rb") as file:
                start = file.seek(0, os.SEEK_END)
                data = b""
                while start > 0 and data.count(b"\n") <= limit:
                    size = min(_BLOCK, start)
                    start -= size
                    data = os.pread(file.fileno(), size, start) + data
            break
        except FileNotFoundError:
            continue
    else:
        return []
    found: list[Record] = []
    for _, payload in payloads(data, path):
        if not isinstance(payload, BadLine):  # as is the piece of a line that the block begins with
            try:
                found.append(decode(payload))
            except msgspec.DecodeError:
                continue  # reported, with its place, when it is sealed
    return found[::-1][:limit]
