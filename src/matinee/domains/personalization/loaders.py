"""Files to facts: MovieLens, KION, and a plain CSV of plays. The files are the user's own.

A loader yields `(fact, frame)` in parts that fit in memory; rows are passed on as they are, so that a bad one ends in
quarantine and not in the void. What a data set does not say is said for it, and reported: that its titles may be shown
everywhere, and on what grounds its people may be learned from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matinee as mt
from matinee.domains.personalization.facts import Licence, Member, Played, Rated, Title
from matinee.domains.personalization.movielens import BATCH, BEGINNING, Format, Parts, listing, recognise, stamped
from matinee.results import Table

if TYPE_CHECKING:
    import polars as pl

Progress = Callable[..., None]
EVERYWHERE = f"every title may be shown everywhere since {BEGINNING:%Y}: the set says nothing else"


@dataclass(frozen=True)
class Imported(Table):
    """What an import recognised and appended.

    Attributes:
        recognised: Which format it was taken for.
        appended, quarantined: Rows by fact.
        said: What the files do not say, and what was put in its place.
        again: The same files were imported before; nothing was done.
    """

    recognised: str
    appended: Mapping[str, int] = field(default_factory=dict)
    quarantined: Mapping[str, int] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    again: bool = False

    def rows(self) -> list[dict[str, Any]]:
        """One row a fact."""
        return [{"fact": f, "appended": n, "quarantined": self.quarantined.get(f, 0)} for f, n in self.appended.items()]

    def notes(self) -> Sequence[str]:
        """What it was taken for, and what was said for it."""
        again = ["imported before; nothing was done"] if self.again else []
        held = ["`matinee quarantine list` says what was wrong with the rows held back"] if self.quarantined else []
        return [f"recognised {self.recognised}", *again, *held, *self.said]


def import_movielens(
    studio: mt.Studio, path: Path, step: Progress = lambda *_a: None, *, consent: str = "yes"
) -> Imported:
    """Import a MovieLens folder: 100K, latest-small, 1M, 10M, 20M, 25M or 32M, by what files are in it.

    Args:
        studio: Where to.
        path: The folder.
        step: Is given the rows done.
        consent: "yes" records consent to personalization for each member, since the sets were released for research;
            "no" records none, and training leaves them out.

    Raises:
        MatineeError: If the folder is none of these; the message says what was looked for.
    """
    granted = _granted(consent)
    return _import(studio, recognise(path), step, consent=granted, everywhere=True)


def import_kion(studio: mt.Studio, path: Path, step: Progress = lambda *_a: None, *, consent: str = "yes") -> Imported:
    """Import KION: `interactions.csv` and `items.csv` (or `items_en.csv`) in one folder.

    Args:
        studio: Where to.
        path: The folder.
        step: Is given the rows done.
        consent: As for MovieLens.
    """
    granted = _granted(consent)
    items = next((path / n for n in ("items.csv", "items_en.csv") if (path / n).is_file()), None)
    if items is None or not (path / "interactions.csv").is_file():
        raise mt.MatineeError(
            f"path == {path.name!r}, must hold interactions.csv and items.csv or items_en.csv; it holds {listing(path)}"
        )
    said = (
        "it has days, no times: each session is put at noon UTC",
        "users.csv is not read: bands of age and income are no facts about a profile",
    )
    format_ = Format("kion", (path / "interactions.csv", items), lambda: _kion(path, items), said)
    return _import(studio, format_, step, consent=granted, everywhere=True)


def import_plays(
    studio: mt.Studio,
    path: Path,
    step: Progress = lambda *_a: None,
    *,
    member: str = "member",
    title: str = "title",
    at: str = "at",
    seconds: str = "seconds",
    device: str = "",
    zone: str = "",
    ids: str = "number",
) -> Imported:
    """Import a CSV, TSV, Parquet or JSON-lines file of plays, one row a session.

    Args:
        studio: Where to.
        path: The file.
        step: Is given the rows done.
        member, title, at, seconds, device: Names of these columns in the file.
        zone: "UTC" where the times carry no zone and are known to be UTC; without it such rows go to quarantine.
        ids: "number", or "text" where members and titles are words: each gets a number that depends on nothing but the
            word, and the word is kept in `external`.
    """
    if ids not in ("number", "text"):
        raise mt.MatineeError(f"ids == {ids!r}, must be 'number' or 'text'")
    if zone not in ("", "UTC"):
        raise mt.MatineeError(f"zone == {zone!r}, must be 'UTC': convert other zones before the import")
    if not path.is_file():
        raise mt.MatineeError(
            f"path == {str(path)!r}, must be a file of plays; the folder holds {listing(path.parent)}"
        )
    names = {member: "member", title: "title", at: "at", seconds: "seconds"} | ({device: "device"} if device else {})
    said = (
        "no consent is recorded: append Consent facts to learn from it",
        "no titles or licences are in it: append Title and Licence facts, or nothing may be shown",
    )
    format_ = Format("a file of plays", (path,), lambda: _plays(path, names, zone=zone, text=ids == "text"), said)
    return _import(studio, format_, step, consent=False, everywhere=False, options=f"{names}:{zone}:{ids}")


def number_of(word: str) -> int:
    """The number of an id that is text: the same in every import, on every machine; positive, below 2^63.

    Example:
        >>> number_of("tt0111161")
        7729376858144582943
    """
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest()) >> 1


def _granted(consent: str) -> bool:
    if consent not in ("yes", "no"):
        raise mt.MatineeError(f"consent == {consent!r}, must be 'yes' or 'no'")
    return consent == "yes"


def _import(
    studio: mt.Studio, format_: Format, step: Progress, *, consent: bool, everywhere: bool, options: str = ""
) -> Imported:
    """Append all parts, each exactly once: the same files again are free, and a crash goes on where it stopped."""
    said = [*format_.said, *([EVERYWHERE] if everywhere else [])]
    if consent:
        said.append("consent to personalization is recorded for each member: the set was released for research")
    digest = _fingerprint(format_.files, f"{format_.name}:{consent}:{options}")
    before = studio.registry.recall(f"import:{digest}")
    if before is not None:
        return Imported(format_.name, before["appended"], before["quarantined"], tuple(said), again=True)
    writer = _Writer(studio, format_.name, f"import.{digest}", step)
    members: set[int] = set()
    titles: set[int] = set()
    for fact, frame in format_.parts():
        writer.put(fact, frame)
        if fact in (Played, Rated):
            members |= _numbers(frame, "member")
        elif fact is Title:
            titles |= _numbers(frame, "title")
    for fact, frame in _said_for(members, titles, consent=consent, everywhere=everywhere, own=set(writer.appended)):
        writer.put(fact, frame)
    if writer.resumed:
        said.append("an interrupted import was finished: the rows counted are those of this run")
    studio.registry.remember(
        f"import:{digest}", "import", {"appended": writer.appended, "quarantined": writer.quarantined}
    )
    return Imported(format_.name, writer.appended, writer.quarantined, tuple(said))


class _Writer:
    """Appends parts; the number of the last one is a mark in the same commit, so that none is appended twice."""

    def __init__(self, studio: mt.Studio, name: str, mark: str, step: Progress) -> None:
        self.studio, self.name, self.mark, self.step = studio, name, mark, step
        self.appended: dict[str, int] = {}
        self.quarantined: dict[str, int] = {}
        self.resumed = False
        self._done: dict[str, int] = {}
        self._seen: dict[str, int] = {}

    def put(self, fact: type[mt.Fact], frame: pl.DataFrame) -> None:
        """Append one part, unless the table says that it has it."""
        table = fact.schema.name
        if table not in self._done:
            self.studio.facts.fact(fact)
            self._done[table] = int(self.studio.tables.properties(table).get(self.mark, "0"))
            self.resumed |= self._done[table] > 0
            self.appended[table] = 0
        number = self._seen[table] = self._seen.get(table, 0) + 1
        if number > self._done[table]:
            found = self.studio.facts.append(fact, frame, source=f"{self.name} {number}", mark={self.mark: str(number)})
            self.appended[table] += found.appended
            if found.quarantined:
                self.quarantined[table] = self.quarantined.get(table, 0) + found.quarantined
        self.step(len(frame), f"importing {table}")


def _said_for(members: set[int], titles: set[int], *, consent: bool, everywhere: bool, own: set[str]) -> Parts:
    """Members, licences and consents that the files do not name."""
    import polars as pl

    if members and Member.schema.name not in own:
        yield Member, stamped(pl.DataFrame({"member": sorted(members)}), BEGINNING)
    if titles and everywhere:
        window = pl.DataFrame({"title": sorted(titles)}).with_columns(
            territory=pl.lit("*"), starts=pl.lit(BEGINNING, dtype=pl.Datetime("us", "UTC"))
        )
        yield Licence, stamped(window, BEGINNING)
    if members and consent:
        granted = pl.DataFrame({"person": [str(m) for m in sorted(members)]}).with_columns(
            purpose=pl.lit("personalization"), granted=pl.lit(value=True)
        )
        yield mt.Consent, stamped(granted, BEGINNING)


def _numbers(frame: pl.DataFrame, column: str) -> set[int]:
    import polars as pl

    return set(frame[column].cast(pl.Int64, strict=False).drop_nulls().unique().to_list())


def _fingerprint(files: Sequence[Path], about: str) -> str:
    from matinee.store import file_digest

    text = ":".join([about, *(file_digest(f) for f in files)])
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _plays(path: Path, names: Mapping[str, str], *, zone: str, text: bool) -> Parts:
    import polars as pl

    from matinee import files

    seen: dict[str, set[str]] = {"member": set(), "title": set()}
    for frame in files.read(path, columns={a: b for a, b in names.items() if a != b}):
        absent = [b for b in names.values() if b not in frame.columns]
        if absent:
            raise mt.MatineeError(
                f"{path.name} has columns {', '.join(frame.columns)}, must have one for {absent[0]!r}: {absent[0]}=NAME"
            )
        plays = frame.select(list(names.values()))
        if text:
            for column, fact in (("member", Member), ("title", Title)):
                words = [w for w in plays[column].drop_nulls().unique(maintain_order=True).to_list() if w]
                numbers = {w: number_of(w) for w in words}
                plays = plays.with_columns(pl.col(column).replace_strict(numbers, default=None, return_dtype=pl.Int64))
                fresh = [w for w in words if w not in seen[column]]
                seen[column] |= set(fresh)
                if fresh:
                    yield fact, _named(fact, fresh)
        if zone and plays["at"].dtype == pl.String():
            plays = plays.with_columns(pl.col("at").str.strip_chars() + "Z")
        yield Played, plays.with_columns(known=pl.col("at"))


def _named(fact: type[mt.Fact], words: list[str]) -> pl.DataFrame:
    """Members or titles of ids that are text."""
    import polars as pl

    frame = pl.DataFrame({fact.schema.key: [number_of(w) for w in words], "external": words})
    return stamped(frame.with_columns(name=pl.col("external")) if fact is Title else frame, BEGINNING)


def _kion(path: Path, items: Path) -> Parts:
    import polars as pl

    from matinee import files

    def whole(column: str) -> pl.Expr:
        return pl.col(column).cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)

    for frame in files.read(items):
        kind = pl.when(pl.col("content_type") == "series").then(pl.lit("series")).otherwise(pl.lit("film"))
        maturity = whole("age_rating") if "age_rating" in frame.columns else pl.lit(None, dtype=pl.Int64)
        genres = pl.col("genres").str.split(", ").list.eval(pl.element().filter(pl.element() != ""))
        typed = frame.select(
            title="item_id", name="title", kind=kind, year=whole("release_year"), genres=genres, maturity=maturity
        )
        yield Title, stamped(typed, BEGINNING)
    for frame in files.read(path / "interactions.csv", batch_rows=BATCH):
        plays = frame.select(
            member="user_id",
            title="item_id",
            seconds=pl.col("total_dur").cast(pl.Float64, strict=False),
            # Watching again adds to the percentage: more than all of it is all of it.
            share=(pl.col("watched_pct").cast(pl.Float64, strict=False) / 100).clip(0, 1),
            at=pl.col("last_watch_dt") + "T12:00:00Z",
        )
        yield Played, plays.with_columns(known=pl.col("at"))


IMPORTERS: dict[str, Callable[..., Any]] = {"movielens": import_movielens, "kion": import_kion, "plays": import_plays}
