"""The online store: what a batch job publishes and serving maps into memory. One folder a generation, swapped whole.

    online/CURRENT                  the number of the generation that serves
    online/000042/manifest.json     as of when, which features, how far the log was sealed
    online/000042/taste.mdb         LMDB: key -> state of a unit's features
    online/000042/home/*.npy        candidates of a decision, one array a column, memory-mapped

A generation is built beside the others under a temporary name and renamed into place; readers keep the one they opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, unquote

from matinee.choices import Id
from matinee.exceptions import StorageError
from matinee.quarantine import write_whole

if TYPE_CHECKING:
    import lmdb
    import numpy as np

    Array = np.ndarray[Any, Any]

KEEP = 2  # generations on disk: the one that serves, and the one before it for readers that are about to let go
_LONGEST_KEY = 480  # bytes; LMDB takes 511
_MAP = 1 << 34  # ceiling of a file, not its size: it is sparse


def key_bytes(key: Id) -> bytes:
    """A key as LMDB sorts it: big-endian for numbers, text as it is, hashed where it is too long.

    Example:
        >>> key_bytes(7) < key_bytes(8) < key_bytes(300)
        True
    """
    if isinstance(key, int):
        # The offset puts negative numbers before positive ones, as bytes sort.
        return b"i" + (key + (1 << 63)).to_bytes(8, "big")
    text = str(key).encode()
    return b"s" + text if len(text) <= _LONGEST_KEY else b"h" + hashlib.blake2b(text, digest_size=32).digest()


def publish(
    folder: Path,
    *,
    states: Mapping[str, Iterable[tuple[Id, bytes]]],
    items: Mapping[str, Mapping[str, Array]],
    joins: Mapping[str, bytes],
    manifest: Mapping[str, Any],
) -> int:
    """Build a generation and make it the current one; returns its number.

    Args:
        folder: The store.
        states: Feature set -> (key, state) of every unit, in any order.
        items: Decision -> columns of its candidates.
        joins: Feature set -> state of the entities it joins.
        manifest: What else readers must know.

    Raises:
        StorageError: If it could not be written; the generation that serves is untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = max([*_numbers(folder), _current(folder) or 0]) + 1
    part = folder / f".{number:06d}.{os.getpid()}.part"
    try:
        part.mkdir()
        counts = {name: _write_states(part / f"{quote(name, safe='')}.mdb", rows) for name, rows in states.items()}
        for name, state in joins.items():
            (part / f"{quote(name, safe='')}.joins").write_bytes(state)
        for decision, columns in items.items():
            _write_items(part / quote(decision, safe=""), columns)
        body = {**manifest, "states": counts, "items": {d: sorted(c) for d, c in items.items()}}
        write_whole(part / "manifest.json", json.dumps(body, indent=1).encode())
        while True:
            try:
                part.rename(folder / f"{number:06d}")
                break
            except OSError:  # another publisher took the number
                if not (folder / f"{number:06d}").exists():
                    raise
                number += 1
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise StorageError(f"publishing failed ({error.strerror}); the generation that serves is untouched") from error
    write_whole(folder / "CURRENT", str(number).encode())
    for old in _numbers(folder)[:-KEEP]:
        shutil.rmtree(folder / f"{old:06d}", ignore_errors=True)
    return number


def _numbers(folder: Path) -> list[int]:
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []


def _current(folder: Path) -> int | None:
    try:
        text = (folder / "CURRENT").read_text().strip()
    except FileNotFoundError:
        return None
    if not text.isdigit():
        raise StorageError(f"online/CURRENT == {text[:40]!r}, must be a number; rebuild it with `matinee publish`")
    return int(text)


def _write_states(path: Path, rows: Iterable[tuple[Id, bytes]]) -> int:
    import lmdb

    pairs = sorted((key_bytes(key), state) for key, state in rows)
    environment = lmdb.open(str(path), subdir=False, map_size=_MAP, writemap=True, map_async=True, lock=False, sync=False)
    try:
        with environment.begin(write=True) as transaction:
            _, added = transaction.cursor().putmulti(pairs, append=True)
        if added != len(pairs):
            raise StorageError(f"{path.name}: {added} of {len(pairs)} keys were stored: some key came twice")
        environment.sync(True)
    finally:
        environment.close()
    return len(pairs)


def _write_items(folder: Path, columns: Mapping[str, Array]) -> None:
    import numpy as np

    folder.mkdir()
    for name, column in columns.items():
        np.save(folder / f"{quote(name, safe='')}.npy", np.ascontiguousarray(column), allow_pickle=False)


class OnlineStore:
    """Reads the current generation. One environment a generation and process; `refresh` takes up a newer one.

    Args:
        folder: The store; it need not exist yet.

    Raises:
        StorageError: If the generation is damaged; the message says which, and that `matinee publish` rebuilds it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.generation: int | None = None
        self.manifest: Mapping[str, Any] = {}
        self._environments: dict[str, lmdb.Environment] = {}
        self.refresh()

    @property
    def names(self) -> frozenset[str]:
        """Feature sets that are published."""
        return frozenset(self.manifest.get("states", {}))

    def refresh(self) -> bool:
        """Take up a newer generation where there is one."""
        number = _current(self.folder)
        if number is None or number == self.generation:
            return False
        manifest = self._manifest(number)
        self._let_go()
        self.generation, self.manifest = number, manifest
        return True

    def get(self, features: str, key: Id) -> bytes | None:
        """The state of a unit, or None. The bytes are a copy: they outlive the transaction."""
        environment = self._environments.get(features) or self._open(features)
        with environment.begin() as transaction:
            found: bytes | None = transaction.get(key_bytes(key))
        return found

    def joins(self, features: str) -> bytes | None:
        """The state of the entities that a feature set joins, or None."""
        path = self._path(f"{quote(features, safe='')}.joins")
        return path.read_bytes() if path.exists() else None

    def items(self, decision: str) -> dict[str, Array]:
        """The candidates' columns of a decision, memory-mapped; empty where none were published."""
        import numpy as np

        folder = self._path(quote(decision, safe=""))
        columns: dict[str, Array] = {}
        for name in self.manifest.get("items", {}).get(decision, []):
            path = folder / f"{quote(name, safe='')}.npy"
            try:
                columns[name] = np.load(path, mmap_mode="r" if path.stat().st_size > 4096 else None, allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise self._damaged(f"{decision}/{unquote(path.stem)}", error) from error
        return columns

    def erase_key(self, features: str, key: Id) -> int:
        """Remove a unit from every generation on disk; returns in how many it was.

        LMDB keeps the bytes of what is deleted in its free pages, so the file is built anew without the key.
        """
        found = 0
        for number in _numbers(self.folder):
            path = self.folder / f"{number:06d}" / f"{quote(features, safe='')}.mdb"
            if path.exists():
                found += self._rebuild(path, key_bytes(key), current=number == self.generation)
        return found

    def _rebuild(self, path: Path, key: bytes, *, current: bool) -> int:
        import lmdb

        own = self._environments.pop(unquote(path.stem), None) if current else None
        if own is not None:
            own.close()
        environment = lmdb.open(str(path), subdir=False, readonly=True, lock=False, map_size=_MAP)
        fresh = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with environment.begin() as transaction:
                if transaction.get(key) is None:
                    return 0
                kept = [(bytes(k), bytes(v)) for k, v in transaction.cursor() if bytes(k) != key]
            made = lmdb.open(str(fresh), subdir=False, map_size=_MAP, writemap=True, map_async=True, lock=False, sync=False)
            with made.begin(write=True) as transaction:
                transaction.cursor().putmulti(kept, append=True)
            made.sync(True)
            made.close()
        finally:
            environment.close()
        fresh.replace(path)
        return 1

    def _open(self, features: str) -> lmdb.Environment:
        import lmdb

        path = self._path(f"{quote(features, safe='')}.mdb")
        try:
            environment = lmdb.open(str(path), subdir=False, readonly=True, lock=False, map_size=_MAP, readahead=False)
        except lmdb.Error as error:
            raise self._damaged(features, error) from error
        self._environments[features] = environment
        return environment

    def _path(self, name: str) -> Path:
        return self.folder / f"{self.generation or 0:06d}" / name

    def _manifest(self, number: int) -> Mapping[str, Any]:
        path = self.folder / f"{number:06d}" / "manifest.json"
        try:
            return dict(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise StorageError(
                f"online generation {number} is missing or cut short ({error}); rebuild it with `matinee publish`"
            ) from error

    def _damaged(self, what: str, error: Exception) -> StorageError:
        return StorageError(
            f"online generation {self.generation}: {what} is missing or damaged ({error}); rebuild it with `matinee publish`"
        )

    def _let_go(self) -> None:
        for environment in self._environments.values():
            environment.close()
        self._environments.clear()

    def close(self) -> None:
        """Let go of every file."""
        self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
