"""What the tables answer: snapshots, files, pins and reports of upkeep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a table after an append.

    `appended` is False where nothing was written: an empty frame, or one that `if_absent` found to be there already.
    """

    id: int | None
    rows: int  # rows of this append
    appended: bool


@dataclass(frozen=True, slots=True)
class DataFile:
    """One Parquet file of a snapshot. `bucket` is None in a table without buckets, -1 where the key is null."""

    path: str
    bucket: int | None
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Pin:
    """A snapshot that upkeep must keep until the pin is `max_age` old. `erased` rows have left it since it was set."""

    tag: str
    snapshot: int
    created: datetime
    max_age: timedelta
    erased: int = 0


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What a compaction did: buckets rewritten, their files before and after, the rows in them."""

    buckets: int
    files_before: int
    files_after: int
    rows: int


@dataclass(frozen=True, slots=True)
class EraseReport:
    """What an erasure removed: rows of the table as it was, rows of each pinned snapshot, files deleted from disk."""

    rows: int
    per_pin: Mapping[str, int] = field(default_factory=dict)
    files_removed: int = 0
