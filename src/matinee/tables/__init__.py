"""The only part that knows Iceberg: tables of facts with atomic appends, pins, compaction and physical erasure."""

from __future__ import annotations

from matinee.tables.hashing import BUCKETS, bucket_of
from matinee.tables.reports import CompactReport, DataFile, EraseReport, Pin, Snapshot
from matinee.tables.store import Tables

__all__ = ["BUCKETS", "CompactReport", "DataFile", "EraseReport", "Pin", "Snapshot", "Tables", "bucket_of"]
