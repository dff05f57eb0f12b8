"""The ledger: a write-ahead log of choices and outcomes, and the sealing of it into tables.

    Ledger(folder, "web").append(choice)      # on the serving path: one write, no commit
    seal(folder, TableSink(tables, facts), quarantine=...)   # every quarter of an hour: exactly once, whatever crashes
    recent(folder)                            # what is not sealed yet, newest first
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matinee.ledger.lines import BadLine, Record
from matinee.ledger.streams import Segment, Torn, is_live, read, recent, recover, segments, streams
from matinee.ledger.wal import Ledger, close_open_segments

if TYPE_CHECKING:
    from matinee.ledger.columns import CHOICES_SCHEMA, OUTCOMES_SCHEMA, choice_from_row
    from matinee.ledger.sealing import SealReport, seal
    from matinee.ledger.sink import SealSink, TableSink

__all__ = [
    "CHOICES_SCHEMA",
    "OUTCOMES_SCHEMA",
    "BadLine",
    "Ledger",
    "Record",
    "SealReport",
    "SealSink",
    "Segment",
    "TableSink",
    "Torn",
    "choice_from_row",
    "close_open_segments",
    "is_live",
    "read",
    "recent",
    "recover",
    "seal",
    "segments",
    "streams",
]

# Writing needs none of the table libraries; a server that only logs never loads them.
_LATER = {
    "CHOICES_SCHEMA": "columns",
    "OUTCOMES_SCHEMA": "columns",
    "choice_from_row": "columns",
    "SealReport": "sealing",
    "seal": "sealing",
    "SealSink": "sink",
    "TableSink": "sink",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value
