"""The online store: what serving reads for a member or a title, published by the batch job as whole generations.

    online/CURRENT                         the number of the generation that is served
    online/000042/states-taste.mdb         LMDB: key -> bytes, one file for each set of features
    online/000042/items-runtime.npy        one array a file, memory-mapped
    online/000042/manifest.json            what it was made of, and the size and checksum of each file

A generation is never changed once `CURRENT` names it: a reader that is in the middle of a request keeps the files it
has open, whatever is published meanwhile.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from matinee.checks import must
from matinee.disk import sync, write_whole
from matinee.exceptions import MatineeError, StorageError, UnknownNameError
from matinee.locks import exclusive

if TYPE_CHECKING:
    import lmdb
    import numpy.typing as npt

Key = int | str
States = Mapping[str, Iterable[tuple[Key, bytes]]]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_GENERATION = re.compile(r"\d{6,}")
_CHUNK = 50_000  # rows a transaction: large enough to be fast, small enough to be sorted and retried in memory
_MAP = 1 << 28
_LONGEST = 511  # bytes of a key in LMDB
_READ = 1 << 20


class _File(msgspec.Struct, frozen=True):
    """What a file must be like to be served: a cut one would end the process when its map is read past its end."""

    size: int
    crc32: int
    rows: int = 0


class _Manifest(msgspec.Struct, frozen=True):
    generation: int
    states: dict[str, _File]
    items: dict[str, _File]
    about: dict[str, Any]


def publish(
    folder: Path | str,
    states: States,
    items: Mapping[str, npt.NDArray[Any]] | None = None,
    manifest: Mapping[str, Any] | None = None,
    *,
    keep: int = 2,
) -> int:
    """Write a new generation and make it the one that is served. Readers see all of it or nothing.

    Args:
        folder: The online store's folder.
        states: Features name -> (key, bytes) of each key, in any order; in order of key it is several times faster.
            Integers are in order of size, text in order of its UTF-8.
        items: Name -> array of plain numbers or text, such as one row a title.
        manifest: What it was made of: the time, hashes of the features, marks of what was sealed.
        keep: Generations to leave on disk, the new one included.

    Returns:
        The number of the generation.

    Raises:
        MatineeError: If a key is given twice or is neither int nor str, a value is no bytes, an array holds objects.
        StorageError: If the disk is full; what was served before still is.
        TableBusyError: If another process is publishing.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> publish(folder, {"taste": [(7, b"drama"), (42, b"noir")]}, manifest={"as_of": "2026-11-22T18:00:00Z"})
        1
        >>> OnlineStore(folder).get("taste", 42)
        b'noir'
    """
    folder = Path(folder)
    for name in (*states, *(items or {})):
        _checked_name(name)
    must(keep, "keep", typ=int, ge=1)
    with exclusive(folder / ".publish.lock", "the online store"):
        _sweep(folder)
        number = max(_generations(folder), default=0) + 1
        with _building(folder, number) as part:
            written = _Manifest(
                number,
                {name: _write_states(_states_file(part, name), name, rows) for name, rows in states.items()},
                {name: _write_array(_items_file(part, name), name, array) for name, array in (items or {}).items()},
                dict(manifest or {}),
            )
            _finish(folder, part, written)
        for old in sorted(_generations(folder))[:-keep]:
            shutil.rmtree(folder / f"{old:06d}")
    return number


def erase(folder: Path | str, keys: Mapping[str, Collection[Key]]) -> int:
    """Remove keys so that their bytes are gone from the disk; returns how many states were removed.

    LMDB keeps the bytes of what is deleted in free pages, so the files that hold one of the keys are written anew,
    without them, as another generation; older generations are deleted at once. A running server lets go of the old
    files at its next `refresh`. If it is interrupted, repeat it.

    Args:
        folder: The online store's folder.
        keys: Features name -> keys to remove. Names that no generation has are passed over.

    Raises:
        StorageError: If the disk is full or the served generation is damaged; nothing was removed.
        TableBusyError: If another process is publishing.
    """
    folder = Path(folder)
    with exclusive(folder / ".publish.lock", "the online store"):
        _sweep(folder)
        current = _current(folder)
        if not current:
            return 0
        held = _opened(folder, current, verify=True)
        gone = {
            name: {k for k in map(_key, wanted) if name in held.states and held.states[name].raw(k) is not None}
            for name, wanted in keys.items()
        }
        number = current
        if any(gone.values()):
            number = max(_generations(folder)) + 1
            with _building(folder, number) as part:
                states = {}
                for name, file in held.manifest.states.items():
                    if gone.get(name):
                        rows = ((k, v) for k, v in held.states[name].rows() if k not in gone[name])
                        states[name] = _write_raw(_states_file(part, name), name, rows)
                    else:
                        _link(_states_file(held.path, name), _states_file(part, name))
                        states[name] = file
                for name in held.manifest.items:
                    _link(_items_file(held.path, name), _items_file(part, name))
                _finish(folder, part, _Manifest(number, states, held.manifest.items, held.manifest.about))
        # An older generation may hold a key that the served one no longer has.
        for old in _generations(folder):
            if old != number:
                shutil.rmtree(folder / f"{old:06d}")
        sync(folder)
    return sum(map(len, gone.values()))


class OnlineStore:
    """Reads the served generation. Safe for many threads; several stores of one folder share their files.

    Args:
        folder: The online store's folder. While nothing is published, `generation` is 0 and every `get` is None.
        verify: Check the checksum of each file when a generation is opened (about 2 GB a second). Without it only
            sizes are checked.

    Raises:
        StorageError: If the served generation is cut short or damaged.
    """

    def __init__(self, folder: Path | str, *, verify: bool = True) -> None:
        self._folder, self._verify = Path(folder), verify
        self._refreshing = threading.Lock()
        self._generation: _Generation | None = None
        self.refresh()

    @property
    def generation(self) -> int:
        """The number of the generation that is being read; 0 before anything was published."""
        held = self._generation
        return 0 if held is None else held.manifest.generation

    @property
    def manifest(self) -> dict[str, Any]:
        """What the generation was made of, as given to `publish`."""
        held = self._generation
        return {} if held is None else dict(held.manifest.about)

    @property
    def features(self) -> list[str]:
        """Names of the features whose states are held."""
        held = self._generation
        return [] if held is None else sorted(held.states)

    def get(self, features: str, key: Key) -> bytes | None:
        """The state of one key; None for a key that was not published. About a microsecond.

        Raises:
            UnknownNameError: If the generation has no such features.
        """
        held = self._generation
        if held is None:
            return None
        states = held.states.get(features)
        if states is None:
            raise UnknownNameError("features", features, held.states)
        return states.raw(_key(key))

    def items(self, name: str) -> npt.NDArray[Any]:
        """An array, mapped from the disk and read-only. It stays valid when another generation is published.

        Raises:
            UnknownNameError: If the generation has no such array.
        """
        held = self._generation
        if held is None or name not in held.items:
            raise UnknownNameError("items", name, {} if held is None else held.items)
        return held.items[name]

    def refresh(self) -> bool:
        """Turn to the newest generation; returns whether there was a newer one.

        Requests under way keep the generation they began with; its files are closed when the last of them is done.

        Raises:
            StorageError: If the newest generation is damaged; the one that was read before is still read.
        """
        with self._refreshing:
            for last_try in (False, False, True):
                number = _current(self._folder)
                if number == self.generation:
                    return False
                try:
                    self._generation = _opened(self._folder, number, verify=self._verify)
                except StorageError:
                    # Perhaps removed by a publisher since CURRENT was read: then CURRENT has moved on.
                    if last_try or _current(self._folder) == number:
                        raise
                else:
                    return True
        raise AssertionError("unreachable")

    def newer(self) -> OnlineStore | None:
        """A store of the newest generation, where that is another than this store reads; this one stays on its own.

        Raises:
            StorageError: If the newest generation is damaged.
        """
        if _current(self._folder) == self.generation:
            return None
        found = OnlineStore(self._folder, verify=self._verify)
        return found if found.generation != self.generation else None

    def erase_key(self, features: str, key: Key) -> bool:
        """Remove one key, its bytes included, and read on without it; returns whether it was there. See `erase`."""
        removed = erase(self._folder, {features: [key]})
        self.refresh()
        return removed > 0

    def __repr__(self) -> str:
        return f"OnlineStore({str(self._folder)!r}, generation={self.generation})"


class _States:
    """One open LMDB file. A file may be open once in a process, so whoever wants it shares this."""

    def __init__(self, path: Path) -> None:
        import lmdb

        self._env: lmdb.Environment = lmdb.open(
            str(path), subdir=False, readonly=True, lock=False, max_spare_txns=16
        )

    def raw(self, key: bytes) -> bytes | None:
        """The value, copied out of the map while the transaction still holds it."""
        with self._env.begin() as transaction:
            value: bytes | None = transaction.get(key)
            return value

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """All rows in order of their keys."""
        with self._env.begin() as transaction:
            yield from transaction.cursor()


_shared: weakref.WeakValueDictionary[tuple[int, int], _States] = weakref.WeakValueDictionary()
_sharing = threading.Lock()


def _open_states(path: Path) -> _States:
    about = path.stat()
    with _sharing:
        # By file and not by name: after an erasure two generations may hold the same file under two names.
        states = _shared.get((about.st_dev, about.st_ino))
        if states is None:
            states = _shared[about.st_dev, about.st_ino] = _States(path)
        return states


@dataclass(frozen=True, eq=False)
class _Generation:
    """One generation, open. It closes when nobody refers to it any more, requests under way included."""

    path: Path
    manifest: _Manifest
    states: dict[str, _States]
    items: dict[str, npt.NDArray[Any]]


def _opened(folder: Path, number: int, *, verify: bool) -> _Generation:
    import lmdb

    path = folder / f"{number:06d}"
    try:
        manifest = msgspec.json.decode((path / "manifest.json").read_bytes(), type=_Manifest)
        files = {_states_file(path, n): f for n, f in manifest.states.items()}
        files |= {_items_file(path, n): f for n, f in manifest.items.items()}
        for file, wanted in files.items():
            size = file.stat().st_size
            if size != wanted.size:
                raise _damaged(folder, number, f"{file.name} has {size:,} bytes, must have {wanted.size:,}")
            if verify and _checksum(file) != wanted.crc32:
                raise _damaged(folder, number, f"the checksum of {file.name} does not match")
        return _Generation(
            path,
            manifest,
            {name: _open_states(_states_file(path, name)) for name in manifest.states},
            {name: _mapped(_items_file(path, name)) for name in manifest.items},
        )
    except FileNotFoundError as error:
        raise _damaged(folder, number, f"{Path(error.filename).name} is missing") from error
    except msgspec.DecodeError as error:
        raise _damaged(folder, number, f"manifest.json cannot be read: {error}") from error
    except (lmdb.Error, OSError, EOFError) as error:
        raise _damaged(folder, number, str(error)) from error


def _damaged(folder: Path, number: int, what: str) -> StorageError:
    return StorageError(f"generation {number} of {folder} is damaged ({what}); `matinee publish` builds a new one")


def _current(folder: Path) -> int:
    try:
        text = (folder / "CURRENT").read_text()
    except FileNotFoundError:
        return 0
    if not _GENERATION.fullmatch(text):
        raise StorageError(f"{folder / 'CURRENT'} holds {text[:40]!r}, must be a number; `matinee publish` mends it")
    return int(text)


def _generations(folder: Path) -> list[int]:
    return [int(p.name) for p in folder.iterdir() if _GENERATION.fullmatch(p.name)] if folder.is_dir() else []


def _sweep(folder: Path) -> None:
    """Remove what a publisher that was killed left behind."""
    for part in folder.glob("*.partial"):
        shutil.rmtree(part)


@contextmanager
def _building(folder: Path, number: int) -> Iterator[Path]:
    """A folder to build a generation in; gone again when the block fails."""
    part = folder / f"{number:06d}.partial"
    try:
        part.mkdir(parents=True)
        yield part
    except OSError as error:
        raise StorageError(f"{part} cannot be written ({error.strerror}); nothing was changed") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _finish(folder: Path, part: Path, manifest: _Manifest) -> None:
    """Make a built generation the served one. Each step is on disk before the next one refers to it."""
    try:
        text = msgspec.json.encode(manifest)
    except (TypeError, UnicodeEncodeError) as error:
        raise MatineeError(f"manifest == {manifest.about!r}, must be plain values: {error}") from error
    write_whole(part / "manifest.json", text)
    for path in part.iterdir():
        sync(path)
    sync(part)
    part.rename(folder / f"{manifest.generation:06d}")
    sync(folder)
    write_whole(folder / "CURRENT", f"{manifest.generation:06d}".encode())
    sync(folder)


def _checked_name(name: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise MatineeError(f"name == {name!r}, must be letters, digits, '_', '.' and '-', 100 at most")


def _states_file(path: Path, name: str) -> Path:
    return path / f"states-{name}.mdb"


def _items_file(path: Path, name: str) -> Path:
    return path / f"items-{name}.npy"


def _link(old: Path, new: Path) -> None:
    try:
        os.link(old, new)
    except PermissionError:  # a file system without links
        shutil.copyfile(old, new)


def _checksum(path: Path) -> int:
    total = 0
    with path.open("rb") as file:
        while data := file.read(_READ):
            total = crc32(data, total)
    return total


def _key(key: Key) -> bytes:
    """The key as LMDB sorts it: integers by size, then text; long text by its hash, as a key has 511 bytes at most."""
    if type(key) is int:
        if not -(1 << 63) <= key < 1 << 63:
            raise MatineeError(f"key == {key}, must fit in 64 bits")
        return b"i" + (key + (1 << 63)).to_bytes(8, "big")
    if isinstance(key, str):
        text = key.encode("utf-8", "surrogatepass")
        return b"s" + text if len(text) < _LONGEST else b"t" + blake2b(text, digest_size=32).digest()
    if hasattr(key, "__index__") and not isinstance(key, bool):  # a NumPy integer
        return _key(key.__index__())
    raise MatineeError(f"key == {key!r}, must be int or str, not {type(key).__name__}")


def _write_states(path: Path, features: str, rows: Iterable[tuple[Key, bytes]]) -> _File:
    def raw() -> Iterator[tuple[bytes, bytes]]:
        for key, value in rows:
            if not isinstance(value, bytes):
                raise MatineeError(f"{features}[{key!r}] == {value!r}, must be bytes, not {type(value).__name__}")
            yield _key(key), value

    return _write_raw(path, features, raw())


def _write_raw(path: Path, features: str, rows: Iterator[tuple[bytes, bytes]]) -> _File:
    import lmdb

    try:
        # Not through a writable map, although that is the usual advice: on a full disk a map ends the process with a
        # bus error, a write raises. It is no slower here (2.1 s against 3.1 s for a million rows of 256 bytes).
        with lmdb.open(
            str(path), subdir=False, map_size=_MAP, sync=False, metasync=False, lock=False
        ) as env:
            count, last = 0, b""
            while chunk := sorted(islice(rows, _CHUNK)):
                _put(env, features, chunk, append=chunk[0][0] > last)
                count, last = count + len(chunk), max(last, chunk[-1][0])
            env.sync(True)
    except lmdb.Error as error:
        raise StorageError(f"{path.name} cannot be written ({error}); nothing was changed") from error
    return _File(path.stat().st_size, _checksum(path), count)


def _put(env: lmdb.Environment, features: str, chunk: list[tuple[bytes, bytes]], *, append: bool) -> None:
    """Write sorted rows: at the end, which is fast, or between those that are there."""
    import lmdb

    while True:
        try:
            with env.begin(write=True) as transaction:
                cursor = transaction.cursor()
                _, added = cursor.putmulti(chunk, dupdata=False, overwrite=False, append=append)
                if added == len(chunk):
                    return
                # Said by a count and not by an error: rows that were left out are keys that were there already.
                raise MatineeError(f"features == {features!r}: {len(chunk) - added} keys are given twice, must be once")
        except lmdb.MapFullError:
            env.set_mapsize(env.info()["map_size"] * 2)


def _write_array(path: Path, name: str, array: npt.NDArray[Any]) -> _File:
    import numpy as np

    if array.dtype.hasobject:
        raise MatineeError(f"items[{name!r}] has the type {array.dtype}, must be plain numbers or text of fixed width")
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    return _File(path.stat().st_size, _checksum(path), len(array) if array.ndim else 1)


def _mapped(path: Path) -> npt.NDArray[Any]:
    import numpy as np

    # A plain array over the map: the subclass runs code of its own at every slice, a twentieth of a decision's time.
    mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    return mapped
