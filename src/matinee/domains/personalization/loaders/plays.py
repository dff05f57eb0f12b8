"""A file of plays of one's own: CSV, TSV, Parquet or JSON lines, one row a session, its columns named on import."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import matinee as mt
from matinee.domains.personalization.facts import Member, Played, Title
from matinee.domains.personalization.loaders.ids import Words
from matinee.domains.personalization.loaders.importing import Format, Imported, Parts, Progress, run, stamped
from matinee.domains.personalization.loaders.reading import Entry, listing

if TYPE_CHECKING:
    import polars as pl

SAID = (
    "no consent is recorded: append Consent facts to learn from it",
    "no titles or licences are in it: append Title and Licence facts, or nothing may be shown",
)


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
    parts = lambda _hold: _plays(path, names, zone=zone, text=ids == "text")  # noqa: E731  # one line, named for the next
    format_ = Format("a file of plays", (Entry(path.name, path),), parts, SAID)
    return run(studio, format_, step, consent=False, everywhere=False, options=f"{names}:{zone}:{ids}")


def _plays(path: Path, names: Mapping[str, str], *, zone: str, text: bool) -> Parts:
    import polars as pl

    from matinee import files

    words: dict[type[mt.Fact], Words] = {Member: Words(), Title: Words()}
    for frame in files.read(path, columns={a: b for a, b in names.items() if a != b}):
        absent = [b for b in names.values() if b not in frame.columns]
        if absent:
            raise mt.MatineeError(
                f"{path.name} has columns {', '.join(frame.columns)}, must have one for {absent[0]!r}: {absent[0]}=NAME"
            )
        plays = frame.select(list(names.values()))
        if text:
            for fact, own in words.items():
                key = fact.schema.key
                numbers, fresh = own.number(plays[key])
                plays = plays.with_columns(numbers.alias(key))
                if len(fresh):
                    yield fact, named_by_words(fact, fresh)
        if zone and plays["at"].dtype == pl.String():
            plays = plays.with_columns(pl.col("at").str.strip_chars() + "Z")
        yield Played, plays.with_columns(known=pl.col("at"))


def named_by_words(fact: type[mt.Fact], fresh: pl.DataFrame, **columns: pl.Expr) -> pl.DataFrame:
    """Members or titles of ids that are text, from `number` and `word`; a title is called by its id until a better name comes."""
    frame = fresh.rename({"number": fact.schema.key, "word": "external"}).with_columns(**columns)
    return stamped(frame.with_columns(name="external") if fact is Title else frame)
