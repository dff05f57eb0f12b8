"""Where bad rows wait for a person: one JSON-lines file a batch, each row with all its reasons. Nothing is dropped unasked."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matinee.disk import sync, write_whole
from matinee.exceptions import UnknownNameError
from matinee.locks import exclusive
from matinee.results import Table
from matinee.validate import plain

if TYPE_CHECKING:
    import polars as pl

NO_FACT = "log"  # the name under which lines of the log that are no row of a fact wait

_FACT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,119}")
_BATCH = re.compile(r"[0-9a-f]{12}(-[0-9a-f]{8})?")
_CLAIMED = re.compile(r"[0-9a-f]{12}-[0-9a-f]{8}")


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
    """The folder of batches, `quarantine/FACT/BATCH.jsonl`.

    Putting rows in needs no lock. Whoever takes rows out (`drop`, `erase`, a retry) does it within `changing`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, fact: str, rows: Iterable[tuple[dict[str, Any], Sequence[str]]], source: str) -> str | None:
        """Keep rows with their reasons; the same rows from the same source are the same batch, kept once.

        Returns:
            The batch's name, or None when there were no rows.
        """
        return self.put_each(fact, ((row, reasons, source) for row, reasons in rows))

    def put_each(self, fact: str, rows: Iterable[tuple[dict[str, Any], Sequence[str], str]]) -> str | None:
        """`put` for rows that each have a source of their own, such as a place in the log: still one batch."""
        lines = [
            json.dumps(
                {"row": {k: plain(v) for k, v in row.items()}, "reasons": list(reasons), "source": source}, default=str
            )
            for row, reasons, source in rows
        ]
        if not lines:
            return None
        # What was logged for a fact may name it in any way; only a table's name becomes that of a folder.
        folder = fact if _FACT.fullmatch(fact) else NO_FACT
        text = "\n".join(lines) + "\n"
        batch = hashlib.blake2b(f"{folder}\n{text}".encode(), digest_size=6).hexdigest()
        write_whole(self.folder / folder / f"{batch}.jsonl", text.encode())
        return batch

    def put_frame(self, fact: str, bad: pl.DataFrame, source: str) -> str | None:
        """Keep the bad rows of a checked frame (its `reasons` column says why)."""
        return self.put(fact, ((r, r.pop("reasons")) for r in bad.to_dicts()), source)

    def batches(self) -> list[tuple[str, str]]:
        """(fact, batch) of each, oldest first."""
        found = []
        for file in self.folder.glob("*/*.jsonl"):
            try:
                found.append((file.stat().st_mtime, file.stem, file.parent.name))
            except FileNotFoundError:
                continue  # let go of since the folder was listed
        return [(fact, batch) for _at, batch, fact in sorted(found)]

    def rows(self, batch: str) -> list[Held]:
        """The rows of a batch."""
        path = self._find(batch)
        held = []
        for line in path.read_text().splitlines():
            one = json.loads(line)
            held.append(Held(path.parent.name, batch, one["source"], one["row"], tuple(one["reasons"])))
        return held

    def list(self) -> Listing:
        """Counts by fact, batch and first reason, most rows first; the source is that of the first such row."""
        counts: dict[tuple[str, str, str], int] = {}
        sources: dict[tuple[str, str, str], str] = {}
        for _fact, batch in self.batches():
            for h in self._present(batch):
                key = (h.fact, batch, _kind(h.reasons[0] if h.reasons else "no reason was kept"))
                counts[key] = counts.get(key, 0) + 1
                sources.setdefault(key, h.source)
        ordered = sorted(counts.items(), key=lambda kn: -kn[1])
        return Listing(tuple((k[0], k[1], sources[k], k[2], n) for k, n in ordered))

    def count(self) -> int:
        """How many rows wait."""
        return sum(len(self._present(batch)) for _fact, batch in self.batches())

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Alone among those who take rows out: what one retries, another does not drop, erase or retry meanwhile."""
        with exclusive(self.folder / ".changing.lock", "the quarantine"):
            yield

    def claim(self, batch: str) -> str:
        """Give a batch a name that no other ever has; one that has such a name keeps it.

        The name of a batch comes from its rows, so the same bad rows, sent again later, have it again. A retry
        records what it did under a name that cannot come again.
        """
        path = self._find(batch)
        if _CLAIMED.fullmatch(batch):
            return batch
        claimed = f"{batch}-{secrets.token_hex(4)}"
        path.rename(path.with_name(f"{claimed}.jsonl"))
        sync(path.parent)
        return claimed

    def let_go(self, batch: str) -> int:
        """Remove a batch, within `changing`; returns how many rows it had."""
        n = len(self.rows(batch))
        self._find(batch).unlink()
        return n

    def drop(self, batch: str) -> int:
        """Let a batch go; returns how many rows it had."""
        with self.changing():
            return self.let_go(batch)

    def erase(self, matches: Callable[[str, dict[str, Any]], bool]) -> int:
        """Remove the rows for which `matches(fact, row)`; their bytes are gone. Returns how many."""
        gone = 0
        with self.changing():
            for _fact, batch in self.batches():
                rows = self.rows(batch)
                kept = [h for h in rows if not matches(h.fact, h.row)]
                if len(kept) < len(rows):
                    gone += len(rows) - len(kept)
                    self._keep_only(batch, kept)
        return gone

    def _keep_only(self, batch: str, rows: Sequence[Held]) -> None:
        path = self._find(batch)
        if not rows:
            path.unlink()
            return
        text = "".join(json.dumps({"row": h.row, "reasons": list(h.reasons), "source": h.source}) + "\n" for h in rows)
        write_whole(path, text.encode())

    def _present(self, batch: str) -> Sequence[Held]:
        """The rows of a batch; none where somebody let go of it since it was listed."""
        try:
            return self.rows(batch)
        except (UnknownNameError, FileNotFoundError):
            return ()

    def _find(self, batch: str) -> Path:
        if _BATCH.fullmatch(batch):
            for path in self.folder.glob(f"*/{batch}.jsonl"):
                return path
        raise UnknownNameError("batch", batch, [b for _f, b in self.batches()])


def _kind(reason: str) -> str:
    """Reasons that differ only in the value are one kind: `seconds == -3.0, must be >= 0` -> `seconds, must be >= 0`."""
    head, found, tail = reason.partition(" == ")
    if found and ", must" in tail:
        return f"{head}, must{tail.partition(', must')[2]}"
    return reason
