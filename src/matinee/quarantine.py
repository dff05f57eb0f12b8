"""Where bad rows wait for a person: one JSON-lines file a batch, each row with all its reasons. Nothing is dropped unasked."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matinee.exceptions import StorageError, UnknownNameError
from matinee.results import Table
from matinee.validate import plain

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Held:
    """One row in quarantine."""

    fact: str
    batch: str
    source: str
    row: dict[str, Any]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Listing(Table):
    """What is in quarantine, by fact, source and first reason."""

    groups: tuple[tuple[str, str, str, str, int], ...]  # fact, batch, source, reason, rows

    def rows(self) -> list[dict[str, Any]]:
        return [{"fact": f, "batch": b, "source": s, "reason": r, "rows": n} for f, b, s, r, n in self.groups]

    def notes(self) -> Sequence[str]:
        if not self.groups:
            return ["nothing is in quarantine"]
        return ["`matinee quarantine retry BATCH` tries them again, `matinee quarantine drop BATCH` lets them go"]


class Quarantine:
    """The folder of batches, `quarantine/FACT/BATCH.jsonl`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, fact: str, rows: Iterable[tuple[dict[str, Any], Sequence[str]]], source: str) -> str | None:
        """Keep rows with their reasons; the same rows from the same source are the same batch, kept once.

        Returns:
            The batch's name, or None when there were no rows.
        """
        lines = [
            json.dumps(
                {"row": {k: plain(v) for k, v in row.items()}, "reasons": list(reasons), "source": source}, default=str
            )
            for row, reasons in rows
        ]
        if not lines:
            return None
        text = "\n".join(lines) + "\n"
        batch = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
        write_whole(self.folder / fact / f"{batch}.jsonl", text.encode())
        return batch

    def put_frame(self, fact: str, bad: pl.DataFrame, source: str) -> str | None:
        """Keep the bad rows of a checked frame (its `reasons` column says why)."""
        return self.put(fact, ((r, r.pop("reasons")) for r in bad.to_dicts()), source)

    def batches(self) -> list[tuple[str, str]]:
        """(fact, batch) of each, oldest first."""
        files = sorted(self.folder.glob("*/*.jsonl"), key=lambda f: (f.stat().st_mtime, f.name))
        return [(f.parent.name, f.stem) for f in files]

    def rows(self, batch: str) -> list[Held]:
        """The rows of a batch."""
        fact, path = self._find(batch)
        held = []
        for line in path.read_text().splitlines():
            one = json.loads(line)
            held.append(Held(fact, batch, one["source"], one["row"], tuple(one["reasons"])))
        return held

    def list(self) -> Listing:
        """Counts by fact, batch and first reason, most rows first."""
        counts: dict[tuple[str, str, str, str], int] = {}
        for _fact, batch in self.batches():
            for h in self.rows(batch):
                key = (h.fact, batch, h.source, _kind(h.reasons[0] if h.reasons else "no reason was kept"))
                counts[key] = counts.get(key, 0) + 1
        return Listing(tuple((*k, n) for k, n in sorted(counts.items(), key=lambda kn: -kn[1])))

    def count(self) -> int:
        """How many rows wait."""
        return sum(1 for _f, batch in self.batches() for _ in self._find(batch)[1].open())

    def keep_only(self, batch: str, rows: Sequence[Held]) -> None:
        """Leave only these rows in the batch; without any, the batch is gone."""
        _fact, path = self._find(batch)
        if not rows:
            path.unlink()
            return
        text = "".join(json.dumps({"row": h.row, "reasons": list(h.reasons), "source": h.source}) + "\n" for h in rows)
        write_whole(path, text.encode())

    def drop(self, batch: str) -> int:
        """Let a batch go; returns how many rows it had."""
        _fact, path = self._find(batch)
        n = len(self.rows(batch))
        path.unlink()
        return n

    def erase(self, matches: Callable[[str, dict[str, Any]], bool]) -> int:
        """Remove the rows for which `matches(fact, row)`; their bytes are gone. Returns how many."""
        gone = 0
        for _fact, batch in self.batches():
            rows = self.rows(batch)
            kept = [h for h in rows if not matches(h.fact, h.row)]
            if len(kept) < len(rows):
                gone += len(rows) - len(kept)
                self.keep_only(batch, kept)
        return gone

    def _find(self, batch: str) -> tuple[str, Path]:
        for fact, name in self.batches():
            if name == batch:
                return fact, self.folder / fact / f"{name}.jsonl"
        raise UnknownNameError("batch", batch, [b for _f, b in self.batches()])


def _kind(reason: str) -> str:
    """Reasons that differ only in the value are one kind: `seconds == -3.0, must be >= 0` -> `seconds, must be >= 0`."""
    head, found, tail = reason.partition(" == ")
    if found and ", must" in tail:
        return f"{head}, must{tail.partition(', must')[2]}"
    return reason


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all: a temporary file, synced, then renamed into place.

    Raises:
        StorageError: If the disk is full; an older file of that name is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StorageError(f"{path.name} could not be written ({error.strerror}); nothing was changed") from error


def replay(held: Iterable[Held]) -> Iterator[dict[str, Any]]:
    """The rows as they came, for another try."""
    for h in held:
        yield h.row
