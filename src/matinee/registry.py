"""The studio's own small database: registry, lineage, releases, evidence. One SQLite file, written in short
transactions, safe for several processes. Facts never live here.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from matinee.exceptions import StorageError, TableBusyError
from matinee.times import utc_now

_SCHEMA = """
CREATE TABLE IF NOT EXISTS nodes (
    uri TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, data TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS edges (
    source TEXT NOT NULL, target TEXT NOT NULL, kind TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (source, target, kind));
CREATE INDEX IF NOT EXISTS edges_target ON edges (target);
CREATE TABLE IF NOT EXISTS runs (key TEXT PRIMARY KEY, verb TEXT NOT NULL, result TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS releases (
    decision TEXT NOT NULL, number INTEGER NOT NULL, kind TEXT NOT NULL, arms TEXT NOT NULL, note TEXT NOT NULL,
    by TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (decision, number));
CREATE TABLE IF NOT EXISTS evidence (
    id INTEGER PRIMARY KEY AUTOINCREMENT, decision TEXT NOT NULL, policy TEXT NOT NULL, against TEXT NOT NULL,
    method TEXT NOT NULL, data TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""


class Registry:
    """A connection a thread to the studio's database.

    Args:
        path: The SQLite file; made when absent.
        clock: Stamps what is recorded.
        timeout: Seconds to wait for another writer.

    Example:
        >>> import tempfile
        >>> registry = Registry(Path(tempfile.mkdtemp()) / "studio.db")
        >>> registry.reserve("seq", 10), registry.reserve("seq")
        (1, 11)
    """

    def __init__(self, path: Path, clock: Callable[[], datetime] = utc_now, *, timeout: float = 10.0) -> None:
        self.path, self.clock, self._timeout, self._local = path, clock, timeout, threading.local()
        # With each connection a lock: SQLite crashes the process when one thread closes what another is reading.
        self._all: list[tuple[sqlite3.Connection, threading.RLock]] = []
        with self.transaction() as db:
            # executescript would commit by itself; the statements are run one by one inside the transaction.
            for statement in _SCHEMA.split(";"):
                if statement.strip():
                    db.execute(statement)

    def _connection(self) -> tuple[sqlite3.Connection, threading.RLock]:
        mine: tuple[sqlite3.Connection, threading.RLock] | None = getattr(self._local, "mine", None)
        if mine is None:
            try:
                db = sqlite3.connect(self.path, timeout=self._timeout, isolation_level=None, check_same_thread=False)
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=FULL")
            except sqlite3.Error as error:
                raise self._worded(error) from error
            mine = self._local.mine = db, threading.RLock()
            self._all.append(mine)
        return mine

    def _worded(self, error: sqlite3.Error) -> TableBusyError | StorageError:
        text = str(error)
        if "locked" in text or "busy" in text:
            return TableBusyError(
                f"{self.path.name} is held by another process for more than {self._timeout:g} s, "
                "must be let go first; see who has it open with `matinee doctor`"
            )
        if "full" in text or "disk I/O" in text:
            return StorageError(f"{self.path.name}: {text}; nothing was recorded, free some space and try again")
        return StorageError(f"{self.path.name}: {text}; `matinee doctor` says how to mend it")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, alone among writers; one within another of the same thread is part of it."""
        db, lock = self._connection()
        with lock:
            try:
                if db.in_transaction:
                    yield db
                    return
                db.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                raise self._worded(error) from error
            try:
                yield db
            except BaseException as error:
                db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise self._worded(error) from error
                raise
            try:
                db.execute("COMMIT")
            except sqlite3.Error as error:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise self._worded(error) from error

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a reading statement."""
        db, lock = self._connection()
        try:
            with lock:
                return db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._worded(error) from error

    def reserve(self, counter: str, n: int = 1) -> int:
        """Take `n` consecutive numbers; returns the first. No two processes get the same."""
        with self.transaction() as db:
            row = db.execute(
                "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value "
                "RETURNING value",
                (counter, n),
            ).fetchone()
        return int(row[0]) - n + 1

    def remember(self, key: str, verb: str, result: dict[str, Any]) -> None:
        """Record that a verb ran on these inputs, so that a rerun is free."""
        with self.transaction() as db:
            row = (key, verb, json.dumps(result), self.clock().timestamp())
            db.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?)", row)

    def recall(self, key: str) -> dict[str, Any] | None:
        """What the verb gave when it ran on these inputs, or None."""
        rows = self.query("SELECT result FROM runs WHERE key = ?", key)
        return None if not rows else dict(json.loads(rows[0][0]))

    def close(self) -> None:
        """Close every connection, once nobody is using it."""
        self._local = threading.local()
        while self._all:
            db, lock = self._all.pop()
            with lock:
                db.close()
