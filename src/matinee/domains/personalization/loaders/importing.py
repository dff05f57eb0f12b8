"""An import: parts appended exactly once, lines that cannot be read held back, what a set does not say said for it.

A loader yields `(fact, frame)` in parts that fit in memory; rows are passed on as they are, so that a bad one ends in
quarantine and not in the void. What a data set does not say is said for it, and reported: that its titles may be shown
everywhere, and on what grounds its people may be learned from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import matinee as mt
from matinee.domains.personalization.facts import Demographics, Licence, Member, Opened, Played, Rated, Shown, Title
from matinee.domains.personalization.loaders.ids import Known
from matinee.domains.personalization.loaders.reading import Entry, Hold
from matinee.results import Table

if TYPE_CHECKING:
    import polars as pl

Progress = Callable[..., None]
Parts = Iterator[tuple[type[mt.Fact], "pl.DataFrame"]]
BEGINNING = datetime(1990, 1, 1, tzinfo=UTC)  # catalogues are known before anything is watched
BATCH = 2_000_000  # rows a part
EVERYWHERE = f"every title may be shown everywhere since {BEGINNING:%Y}: the set says nothing else"
RELEASED = "consent to personalization is recorded for each member: the set was released for research"
_ACTS = (Played, Rated, Opened, Shown, Demographics)  # a row of them names a member


@dataclass(frozen=True)
class Format:
    """What the files were recognised as.

    Attributes:
        name: Which set.
        files: What is read of it: the same bytes again are the same import.
        parts: Gives the frames, from the beginning each time it is called; told what to do with unreadable lines.
        said: What the set does not say, and what was put in its place; what of it is not read.
        choices: Gives the decisions that the set logged, for sets that hold any.
    """

    name: str
    files: tuple[Entry, ...]
    parts: Callable[[Hold], Parts]
    said: tuple[str, ...] = ()
    choices: Callable[[Hold], Iterator[mt.Choice]] | None = None


@dataclass(frozen=True)
class Imported(Table):
    """What an import recognised and appended.

    Attributes:
        recognised: Which format it was taken for.
        appended, quarantined: Rows by fact.
        choices: Logged decisions, for sets that hold any.
        said: What the files do not say, and what was put in its place.
        again: The same files were imported before; nothing was done.
    """

    recognised: str
    appended: Mapping[str, int] = field(default_factory=dict)
    quarantined: Mapping[str, int] = field(default_factory=dict)
    choices: int = 0
    said: tuple[str, ...] = ()
    again: bool = False

    def rows(self) -> list[dict[str, Any]]:
        """One row a fact, and one for the choices where there are any."""
        found = [
            {"fact": f, "appended": n, "quarantined": self.quarantined.get(f, 0)} for f, n in self.appended.items()
        ]
        logged = [{"fact": "choices", "appended": self.choices, "quarantined": 0}] if self.choices else []
        return [*found, *logged]

    def notes(self) -> Sequence[str]:
        """What it was taken for, and what was said for it."""
        again = ["imported before; nothing was done"] if self.again else []
        held = ["`matinee quarantine list` says what was wrong with the rows held back"] if self.quarantined else []
        return [f"recognised {self.recognised}", *again, *held, *self.said]


def granted(consent: str) -> bool:
    """Whether consent is to be recorded, from the option's word."""
    if consent not in ("yes", "no"):
        raise mt.MatineeError(f"consent == {consent!r}, must be 'yes' or 'no'")
    return consent == "yes"


def run(
    studio: mt.Studio, format_: Format, step: Progress, *, consent: bool, everywhere: bool, options: str = ""
) -> Imported:
    """Append all parts, each exactly once: the same files again are free, and a crash goes on where it stopped.

    Args:
        studio: Where to.
        format_: What the files were recognised as.
        step: Is given the rows done.
        consent: Whether consent to personalization is recorded for each member.
        everywhere: Whether each title may be shown everywhere.
        options: What else the outcome depends on: other options are another import.
    """
    said = [*format_.said, *([EVERYWHERE] if everywhere else []), *([RELEASED] if consent else [])]
    digest = _fingerprint(format_.files, f"{format_.name}:{consent}:{options}")
    before = studio.registry.recall(f"import:{digest}")
    if before is not None:
        return Imported(
            format_.name, before["appended"], before["quarantined"], before.get("choices", 0), tuple(said), again=True
        )
    writer = Writer(studio, format_.name, f"import.{digest}", step)
    members, titles, own = Known(), Known(), Known()
    for fact, frame in format_.parts(writer.hold):
        writer.put(fact, frame)
        if fact in _ACTS:
            members.fresh(_numbers(frame, "member"))
        elif fact is Member:
            own.fresh(_numbers(frame, "member"))
        elif fact is Title:
            titles.fresh(_numbers(frame, "title"))
    for fact, frame in _said_for(members, titles, own, consent=consent, everywhere=everywhere):
        writer.put(fact, frame)
    choices = 0
    if format_.choices is not None:
        step(0, "importing choices")
        choices = studio.log(format_.choices(lambda *_line: None))  # the parts have told of the same lines
    if writer.resumed:
        said.append("an interrupted import was finished: the rows counted are those of this run")
    kept = {"appended": writer.appended, "quarantined": writer.quarantined, "choices": choices}
    studio.registry.remember(f"import:{digest}", "import", kept)
    return Imported(format_.name, writer.appended, writer.quarantined, choices, tuple(said))


class Writer:
    """Appends parts; the number of the last one is a mark in the same commit, so that none is appended twice."""

    def __init__(self, studio: mt.Studio, name: str, mark: str, step: Progress) -> None:
        self.studio, self.name, self.mark, self.step = studio, name, mark, step
        self.appended: dict[str, int] = {}
        self.quarantined: dict[str, int] = {}
        self.resumed = False
        self._done: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._held: dict[str, list[tuple[dict[str, Any], list[str]]]] = {}

    def hold(self, fact: type[mt.Fact], file: str, line: int, reason: str) -> None:
        """Note a line that cannot be read. Its place goes to quarantine, not its text: erasure would not find a person in it."""
        self._held.setdefault(fact.schema.name, []).append(({"file": file, "line": line}, [reason]))

    def put(self, fact: type[mt.Fact], frame: pl.DataFrame) -> None:
        """Append one part, unless the table says that it has it."""
        table = fact.schema.name
        if table not in self._done:
            self.studio.facts.fact(fact)
            self._done[table] = int(self.studio.tables.properties(table).get(self.mark, "0"))
            self.resumed |= self._done[table] > 0
            self.appended[table] = 0
        number = self._seen[table] = self._seen.get(table, 0) + 1
        held = self._held.pop(table, [])
        if number > self._done[table]:
            source = f"{self.name} {number}"
            self.studio.quarantine.put(table, held, source)
            found = self.studio.facts.append(fact, frame, source=source, mark={self.mark: str(number)})
            self.appended[table] += found.appended
            if bad := found.quarantined + len(held):
                self.quarantined[table] = self.quarantined.get(table, 0) + bad
        self.step(len(frame), f"importing {table}")


def stamped(frame: pl.DataFrame, at: datetime = BEGINNING) -> pl.DataFrame:
    """The rows, so and known since `at`."""
    import polars as pl

    when = pl.lit(at, dtype=pl.Datetime("us", "UTC"))
    return frame.with_columns(at=when, known=when)


def lived(frame: pl.DataFrame, at: pl.Expr) -> pl.DataFrame:
    """The rows with their time; a history is imported as it was lived: each was known when it happened."""
    import polars as pl

    return frame.with_columns(at=at).with_columns(known=pl.col("at"))


def epoch(column: str, unit: str = "s") -> pl.Expr:
    """A UTC time from text of seconds ("s") or milliseconds ("ms") since 1970; what is no number is null."""
    import polars as pl

    factor = {"s": 1_000_000, "ms": 1_000}[unit]
    return (pl.col(column).cast(pl.String).cast(pl.Int64, strict=False) * factor).cast(pl.Datetime("us", "UTC"))


def _said_for(members: Known, titles: Known, own: Known, *, consent: bool, everywhere: bool) -> Parts:
    """Members, licences and consents that the files do not name."""
    import polars as pl

    for some in _slices(members):
        nameless = some[own.fresh(some)]
        if len(nameless):
            yield Member, stamped(pl.DataFrame({"member": nameless}))
    for some in _slices(titles) if everywhere else ():
        window = pl.DataFrame({"title": some}).with_columns(
            territory=pl.lit("*"), starts=pl.lit(BEGINNING, dtype=pl.Datetime("us", "UTC"))
        )
        yield Licence, stamped(window)
    for some in _slices(members) if consent else ():
        person = pl.DataFrame({"person": some}).select(pl.col("person").cast(pl.String))
        yield mt.Consent, stamped(person.with_columns(purpose=pl.lit("personalization"), granted=pl.lit(value=True)))


def _slices(numbers: Known) -> Iterator[Any]:
    every = numbers.sorted()
    for start in range(0, len(every), BATCH):
        yield every[start : start + BATCH]


def _numbers(frame: pl.DataFrame, column: str) -> Any:
    import polars as pl

    return frame[column].cast(pl.Int64, strict=False).drop_nulls().unique().to_numpy()


def _fingerprint(files: Sequence[Entry], about: str) -> str:
    text = ":".join([about, *(f.digest() for f in files)])
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
