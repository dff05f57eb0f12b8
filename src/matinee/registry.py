"""The studio's own small database: registry, lineage, releases, evidence, leases. One SQLite file, written in short
transactions, safe for several processes. Facts never live here.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matinee.exceptions import StorageError, TableBusyError

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
CREATE TABLE IF NOT EXISTS leases (name TEXT PRIMARY KEY, holder TEXT NOT NULL, token INTEGER NOT NULL, until REAL NOT NULL);
"""


class Registry:
    """A connection a thread to the studio's database."""

    def __init__(self, path: Path, *, timeout: float = 10.0) -> None:
        self.path, self._timeout, self._local = path, timeout, threading.local()
        self._all: list[sqlite3.Connection] = []
        with self.transaction() as db:
            # executescript would commit by itself; the statements are run one by one inside the transaction.
            for statement in _SCHEMA.split(";"):
                if statement.strip():
                    db.execute(statement)

    def _connection(self) -> sqlite3.Connection:
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        if db is None:
            try:
                db = sqlite3.connect(self.path, timeout=self._timeout, isolation_level=None, check_same_thread=False)
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=FULL")
            except sqlite3.Error as error:
                raise self._worded(error) from error
            self._local.db = db
            self._all.append(db)
        return db

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
        """All of it or nothing, alone among writers."""
        db = self._connection()
        try:
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
        try:
            return self._connection().execute(sql, values).fetchall()
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

    @contextmanager
    def lease(self, name: str, *, seconds: float = 120.0, wait: float = 0.0) -> Iterator[int]:
        """Be the only holder of a name, until done or until the time runs out; yields a fencing token that only grows.

        Raises:
            TableBusyError: If another holder has it and keeps it for longer than `wait`.
        """
        holder = f"{os.getpid()}-{threading.get_ident()}"
        give_up = time.monotonic() + wait
        while True:
            now = time.time()
            with self.transaction() as db:
                row = db.execute("SELECT holder, token, until FROM leases WHERE name = ?", (name,)).fetchone()
                free = row is None or row[2] <= now or not _alive(row[0])
                if free:
                    token = 1 if row is None else row[1] + 1
                    db.execute(
                        "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?)", (name, holder, token, now + seconds)
                    )
            if free:
                break
            if time.monotonic() >= give_up:
                raise TableBusyError(
                    f"{name!r} is held by process {row[0].split('-')[0]}, must be free; wait for it, or stop that process"
                )
            time.sleep(0.05)
        try:
            yield token
        finally:
            with self.transaction() as db:
                db.execute("UPDATE leases SET until = 0 WHERE name = ? AND token = ?", (name, token))

    def remember(self, key: str, verb: str, result: dict[str, Any]) -> None:
        """Record that a verb ran on these inputs, so that a rerun is free."""
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?)", (key, verb, json.dumps(result), time.time()))

    def recall(self, key: str) -> dict[str, Any] | None:
        """What the verb gave when it ran on these inputs, or None."""
        rows = self.query("SELECT result FROM runs WHERE key = ?", key)
        return None if not rows else dict(json.loads(rows[0][0]))

    def close(self) -> None:
        """Close every connection."""
        for db in self._all:
            db.close()
        self._all.clear()
        self._local = threading.local()


def _alive(holder: str) -> bool:
    """Whether the process that holds a lease still runs; a lease of a process that died is free at once."""
    try:
        os.kill(int(holder.split("-")[0]), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):
        return True
    return True
