"""Pins: snapshots that upkeep must keep, each with its age and the rows an erasure took from it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta

from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.update.snapshot import ManageSnapshots

from matinee.exceptions import MatineeError, UnknownNameError
from matinee.tables.reading import snapshot_of
from matinee.tables.reports import Pin
from matinee.tables.warehouse import Attempt
from matinee.times import from_us, to_us

_PROPERTY = "matinee.pin."
_US = timedelta(microseconds=1)


def pins(table: Table) -> list[Pin]:
    """The table's pins, oldest first."""
    found = []
    for tag, ref in table.metadata.refs.items():
        noted = table.properties.get(_PROPERTY + tag)
        if ref.snapshot_ref_type == SnapshotRefType.TAG and noted is not None:
            note = json.loads(noted)
            created, age = from_us(note["created_us"]), timedelta(microseconds=note["max_age_us"])
            found.append(Pin(tag, ref.snapshot_id, created, age, note["erased"]))
    return sorted(found, key=lambda pin: (pin.created, pin.tag))


def pin(table: Table, name: str, tag: str, snapshot: int | None, max_age: timedelta, now: datetime) -> int:
    """Sets the pin; see `Tables.pin`."""
    found = snapshot_of(table, name, snapshot)
    if found is None:
        raise MatineeError(f"table {name!r} has no rows yet, must have some before it is pinned as {tag!r}")
    held = table.metadata.refs.get(tag)
    if tag == MAIN_BRANCH or (held is not None and held.snapshot_id != found.snapshot_id):
        raise MatineeError(
            f"tag == {tag!r}, must be a new name: it pins another snapshot of table {name!r}; unpin it first"
        )
    erased = next((one.erased for one in pins(table) if one.tag == tag), 0)
    attempt = Attempt(table)
    stage(attempt, Pin(tag, found.snapshot_id, now, max_age, erased))
    attempt.commit_transaction()
    return found.snapshot_id


def unpin(table: Table, name: str, tag: str) -> None:
    """Removes the pin; see `Tables.unpin`."""
    known = [one.tag for one in pins(table)]
    if tag not in known:
        raise UnknownNameError(f"pin of {name}", tag, known)
    attempt = Attempt(table)
    drop(attempt, [tag])
    attempt.commit_transaction()


def stage(attempt: Attempt, pin: Pin) -> None:
    """Stages a pin: the tag, and beside it what a tag cannot hold, when it was set and the rows that left it since."""
    age_ms = pin.max_age // timedelta(milliseconds=1)
    ManageSnapshots(attempt).create_tag(pin.snapshot, pin.tag, age_ms).commit()
    note = {"created_us": to_us(pin.created), "max_age_us": pin.max_age // _US, "erased": pin.erased}
    attempt.set_properties({_PROPERTY + pin.tag: json.dumps(note)})


def drop(attempt: Attempt, tags: Iterable[str]) -> None:
    """Stages the removal of pins."""
    for tag in tags:
        ManageSnapshots(attempt).remove_tag(tag).commit()
        attempt.remove_properties(_PROPERTY + tag)
