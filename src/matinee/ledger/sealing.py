"""Sealing moves closed segments of the log into tables, each record exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from matinee.choices import Outcome
from matinee.disk import sync
from matinee.exceptions import UnknownNameError
from matinee.ledger import answers
from matinee.ledger.answers import Occurrence, Sound
from matinee.ledger.columns import Ids, LoggedChoice, choices_table, decode_logged, outcomes_table
from matinee.ledger.lines import BadLine, payloads
from matinee.ledger.sink import SealSink
from matinee.ledger.streams import Segment, cut_tail, files, own, segments, streams
from matinee.locks import exclusive
from matinee.quarantine import NO_FACT
from matinee.results import Table
from matinee.times import utc_now

# (row, reason, place in the log)
HeldRow = tuple[dict[str, Any], str, str]
# Fact or table, and its rows; what it is given must be safe when it returns.
Hold = Callable[[str, Sequence[HeldRow]], None]


@dataclass(frozen=True)
class SealReport(Table):
    """What a seal moved: rows by table, copies of outcomes that did not count, rows held back."""

    segments: int
    written: Mapping[str, int] = field(default_factory=dict)
    copies: int = 0
    quarantined: int = 0
    writing: tuple[str, ...] = ()  # streams with a living writer, whose open segment waits for the next seal

    def rows(self) -> list[dict[str, Any]]:
        return [{"table": name, "rows": n} for name, n in self.written.items()]

    def notes(self) -> Sequence[str]:
        notes = [f"{self.segments} segments sealed"]
        if self.copies:
            notes.append(f"{self.copies} copies of outcomes that were counted already")
        if self.quarantined:
            notes.append(f"{self.quarantined} rows in quarantine; `matinee quarantine list` says what was wrong")
        if self.writing:
            notes.append(f"still being written: the open segment of {', '.join(self.writing)}")
        return notes


def seal(
    folder: Path | str,
    sink: SealSink,
    *,
    quarantine: Hold,
    clock: Callable[[], datetime] = utc_now,
    batch_bytes: int = 64 << 20,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> SealReport:
    """Move every closed segment, and all segments of dead streams, into the tables; then delete them.

    A choice becomes a row of `choices`; an outcome becomes a row of `outcomes` and a row of its fact's own table, with
    `choice` and `outcome` filled. The same outcome id counts once ever. An outcome may come before its choice, long
    after it, or for a choice nobody knows: it is kept. A row that is not as its fact declares goes to quarantine, and
    its id may come again.

    A crash at any point loses nothing and doubles nothing: run it again. Only quarantine may be told of a row twice,
    with the same place in the log each time; an outcome that waits there twice still counts once when it is retried.

    Args:
        folder: The log folder.
        sink: The tables.
        quarantine: Is told of the rows held back, once a fact and batch: fact, and row, reason and place
            (`stream/segment:offset`) of each.
        clock: Outcomes that claim to be known later than now are held back.
        batch_bytes: About how much of the log goes into one commit.
        progress: Is given the segments done and their number.

    Raises:
        TableBusyError: If another process is sealing this folder.
    """
    folder = Path(folder)
    report = _Tally()
    writing = []
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / ".sealer.lock", "the sealing of the log", timeout=0), ExitStack() as held:
        closed: list[Segment] = []
        for stream in streams(folder):
            owned = own(folder, stream)
            if owned is None:
                closed += _closed_by_living(folder, stream)
                writing.append(stream)
            else:
                # Held to the end: a process that starts now takes another stream, and cannot write behind our back.
                held.callback(owned.release)
                cut_tail(folder, stream)
                closed += segments(folder, stream)
        done = 0
        for batch in _batches(closed, batch_bytes):
            _seal_batch(folder, batch, sink, quarantine, clock(), report)
            done += len(batch)
            progress(done, len(closed))
    return SealReport(len(closed), dict(report.written), report.copies, report.quarantined, tuple(writing))


Held = dict[str, list[HeldRow]]  # what one batch holds back, by fact


@dataclass
class _Tally:
    written: Counter[str] = field(default_factory=Counter)
    copies: int = 0
    quarantined: int = 0


def _closed_by_living(folder: Path, stream: str) -> list[Segment]:
    """Closed segments of a stream whose writer may close more while the folder is listed.

    A listing may miss a file that is renamed meanwhile and still show a later one; the mark would then pass over it
    for good. What the first listing shows as closed, and all before it, was renamed before the second began.
    """
    first = [s.number for s in segments(folder, stream) if s.closed]
    last = max(first, default=0)
    return [s for s in segments(folder, stream) if s.closed and s.number <= last]


def _batches(closed: Sequence[Segment], batch_bytes: int) -> Iterator[list[Segment]]:
    batch: list[Segment] = []
    size = 0
    for segment in closed:
        batch.append(segment)
        size += segment.path.stat().st_size
        if size >= batch_bytes:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _seal_batch(
    folder: Path, batch: Sequence[Segment], sink: SealSink, quarantine: Hold, now: datetime, report: _Tally
) -> None:
    # Why a crash between any two of these steps loses and doubles nothing:
    # - Each table commits its rows together with its own mark (stream -> last segment). A table takes only rows of
    #   segments beyond its mark, so what it has it does not take again, and what it lacks is still in the log: files
    #   are deleted only after every table has committed.
    # - Which copy of an outcome counts is decided when `outcomes` commits, and written there (`source`). Facts commit
    #   after it. If the process dies in between, the next seal finds the id in `outcomes` with this very source, knows
    #   that it is the copy that counts and not a repetition, and writes the fact's row. Were facts to commit first, a
    #   seal after a crash could pick another copy, from a stream that has more segments by then, and count it twice.
    # - Rows held back are safe in quarantine before `outcomes` commits: once its mark has passed a segment, an outcome
    #   of it that `outcomes` lacks is taken for one that was quarantined then.
    # - The empty `.sealed` file is made before the segments go, so that a writer that continues the stream never
    #   starts again at a number that the marks have passed.
    upto = {s.stream: s.number for s in batch}
    held: Held = {}
    choices, occurrences = _read(batch, sink, held)
    if choices:
        rows, ids, sources = zip(*choices, strict=True)
        _write(sink, "choices", choices_table(rows, ids, sources), upto, report)
    settled = sink.marks("outcomes")
    sounds = _sound(occurrences, sink, held, now)
    wins, lacking = _counting(sounds, settled, sink, held, report)
    for fact, found in held.items():
        quarantine(fact, found)
        report.quarantined += len(found)
    _write_identities(sounds, wins, settled, sink, upto, report)
    for sound in lacking:
        if sound.occurrences:
            _write(sink, sound.schema.name, sound.frame, upto, report)
    for stream, number in upto.items():
        _delete(folder, stream, number)


def _read(
    batch: Sequence[Segment], sink: SealSink, held: Held
) -> tuple[list[tuple[LoggedChoice, Ids, str]], list[Occurrence]]:
    """The choices that their table lacks, and all outcomes, with their places in the log."""
    choices: list[tuple[LoggedChoice, Ids, str]] = []
    occurrences: list[Occurrence] = []
    marks = sink.marks("choices")
    for segment in batch:
        new = segment.number > marks.get(segment.stream, 0)
        place = f"{segment.stream}/{segment.number:06d}"
        for offset, payload in payloads(segment.path.read_bytes(), segment.path):
            source = f"{place}:{offset}"
            if isinstance(payload, BadLine):
                _hold(held, NO_FACT, {"line": _shown(payload.line)}, payload.reason, source)
                continue
            try:
                record = decode_logged(payload)
                if isinstance(record, Outcome):
                    occurrences.append(Occurrence(record, len(occurrences), segment.stream, segment.number, source))
                    continue
                ids = record.ids()
            except msgspec.DecodeError as error:
                _hold(held, NO_FACT, {"line": _shown(payload)}, str(error), source)
                continue
            if new:
                choices.append((record, ids, source))
    return choices, occurrences


def _counting(
    sounds: Sequence[Sound], settled: Mapping[str, int], sink: SealSink, held: Held, report: _Tally
) -> tuple[set[int], list[Sound]]:
    """Places in the batch of the outcomes that count, and by fact those whose rows its table lacks."""
    ids = list({o.outcome.id for sound in sounds for o in sound.occurrences})
    wins, copies = answers.first_of_each(sounds, sink.counted(ids), settled)
    report.copies += copies
    lacking: list[Sound] = []
    for sound in sounds:
        mark = sink.marks(sound.schema.name)
        rest = sound.only({o.order for o in sound.occurrences if o.order in wins and o.number > mark.get(o.stream, 0)})
        columns = answers.unique_columns(sound.schema)
        if columns and rest.occurrences:
            twice = answers.repeated(rest, sink.present(sound.schema, rest.frame, columns), columns)
            reason = f"duplicate key: the table already has this {', '.join(columns)}, must be unique"
            for one in rest.occurrences:
                if one.order in twice:
                    _hold(held, sound.schema.name, answers.as_row(one.outcome), reason, one.source)
            wins -= twice
            rest = rest.only(wins)
        lacking.append(rest)
    return wins, lacking


def _sound(occurrences: Sequence[Occurrence], sink: SealSink, held: Held, now: datetime) -> list[Sound]:
    """Rows that are as their facts declare, by fact; the others go to quarantine."""
    by_fact: dict[str, list[Occurrence]] = {}
    for one in occurrences:
        by_fact.setdefault(one.outcome.fact, []).append(one)
    sounds = []
    for fact in sorted(by_fact):
        try:
            schema = sink.schema(fact)
        except UnknownNameError as error:
            bad = [(one, str(error)) for one in by_fact[fact]]
        else:
            sound, bad = answers.check(schema, by_fact[fact], now)
            sounds.append(sound)
        for one, reason in bad:
            _hold(held, fact, answers.as_row(one.outcome), reason, one.source)
    return sounds


def _write_identities(
    sounds: Sequence[Sound],
    wins: set[int],
    settled: Mapping[str, int],
    sink: SealSink,
    upto: Mapping[str, int],
    report: _Tally,
) -> None:
    new = [
        (one, unit)
        for sound in sounds
        for one, unit in zip(sound.occurrences, sound.frame[sound.schema.key].to_list(), strict=True)
        if one.order in wins and one.number > settled.get(one.stream, 0)
    ]
    if not new:
        return
    new.sort(key=lambda pair: pair[0].order)
    rows, sources = [one.outcome for one, _ in new], [one.source for one, _ in new]
    _write(sink, "outcomes", outcomes_table(rows, [unit for _, unit in new], sources), upto, report)


def _write(sink: SealSink, table: str, data: Any, upto: Mapping[str, int], report: _Tally) -> None:
    # A mark never goes back: after a crash a batch may end earlier in one stream than the table has come already.
    have = sink.marks(table)
    sink.write(table, data, {stream: number for stream, number in upto.items() if number > have.get(stream, 0)})
    report.written[table] += len(data)


def _delete(folder: Path, stream: str, upto: int) -> None:
    path = folder / stream
    (path / f"{upto:06d}.sealed").touch()
    sync(path)
    for number, kind, file in files(folder, stream):
        if (kind == "wal" and number <= upto) or (kind == "sealed" and number < upto):
            file.unlink()


def _hold(held: Held, fact: str, row: dict[str, Any], reason: str, source: str) -> None:
    held.setdefault(fact, []).append((row, reason, source))


def _shown(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace")
