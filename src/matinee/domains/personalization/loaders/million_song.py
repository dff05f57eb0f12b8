"""The taste profiles of the Million Song Dataset: how many times a listener played a song, without a time.

| file | layout |
|---|---|
| train_triplets.txt, kaggle_visible_evaluation_triplets.txt, ... | listener, song, count, with tabs between |
| unique_tracks.txt (optional) | track, song, artist, name, with `<SEP>` between |
| sid_mismatches.txt (optional) | `ERROR: <song track> ...`: songs matched to a wrong track, whose names are not taken |
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import matinee as mt
from matinee.domains.personalization.facts import Member, Opened, Title
from matinee.domains.personalization.loaders.ids import Words
from matinee.domains.personalization.loaders.importing import Format, Imported, Parts, Progress, granted, run, stamped
from matinee.domains.personalization.loaders.plays import named_by_words
from matinee.domains.personalization.loaders.reading import Entry, Hold, entries, fields, lines, listing, named

AT = datetime(2011, 2, 8, tzinfo=UTC)  # the day the Million Song Dataset was released
SAID = (
    f"it has no times: every row is put at {AT:%Y-%m-%d}, so nothing can be told of order, recency or season",
    "it has counts of plays, no lengths: a row is one `opened` with its `times`",
)


def import_million_song(
    studio: mt.Studio, path: Path, step: Progress = lambda *_a: None, *, consent: str = "yes"
) -> Imported:
    """Import taste profiles: `*triplets*.txt`, with names of songs from `unique_tracks.txt` where it is there.

    Args:
        studio: Where to.
        path: The file, its folder or .zip.
        step: Is given the rows done.
        consent: As for MovieLens.

    Raises:
        MatineeError: If no such file is there.
    """
    agreed = granted(consent)
    here = entries(path) if path.exists() else []
    triplets = named(here, "*triplets*.txt")
    if not triplets:
        raise mt.MatineeError(
            f"path == {path.name!r}, must be or hold train_triplets.txt or another *triplets*.txt; it holds {listing(path)}"
        )
    tracks, wrong = named(here, "unique_tracks.txt")[:1], named(here, "sid_mismatches.txt")[:1]
    unnamed = () if tracks else ("unique_tracks.txt is not there: songs are called by their ids",)
    format_ = Format(
        "million song",
        (*tracks, *wrong, *triplets),
        lambda hold: _parts(triplets, tracks, wrong, hold),
        (*SAID, *unnamed),
    )
    return run(studio, format_, step, consent=agreed, everywhere=True)


def _parts(triplets: Sequence[Entry], tracks: Sequence[Entry], wrong: Sequence[Entry], hold: Hold) -> Parts:
    import polars as pl

    mismatched: set[str] = set()
    for entry in wrong:
        for batch in lines(entry):
            mismatched |= set(batch["line"].str.extract(r"<(SO\w+) TR\w+>").drop_nulls().to_list())
    songs, listeners = Words(), Words()
    for entry in tracks:
        for frame in fields(entry, "<SEP>", ("track", "song", "artist", "name"), Title, hold):
            good = frame.filter(~pl.col("song").is_in(pl.Series(list(mismatched), dtype=pl.String).implode()))
            _, fresh = songs.number(good["song"])
            called = good.unique("song", keep="first", maintain_order=True).select(
                word="song", name=pl.concat_str("name", "artist", separator=" - ", ignore_nulls=True)
            )
            rows = fresh.join(called, on="word", maintain_order="left")
            yield Title, stamped(rows.rename({"number": "title", "word": "external"}).with_columns(kind=pl.lit("song")))
    for entry in triplets:
        for frame in fields(entry, "\t", ("listener", "song", "times"), Opened, hold):
            member, new_members = listeners.number(frame["listener"])
            title, new_songs = songs.number(frame["song"])
            if len(new_members):
                yield Member, named_by_words(Member, new_members)
            if len(new_songs):
                yield Title, named_by_words(Title, new_songs, kind=pl.lit("song"))
            yield Opened, stamped(frame.select(member.alias("member"), title.alias("title"), "times"), AT)
