"""KuaiRand (27K, 1K, Pure): what a feed of short videos showed, how long each was watched; some of it shown at random.

| file | columns read |
|---|---|
| log_standard_*.csv, log_random_*.csv | user_id, video_id, time_ms, play_time_ms, duration_ms, is_rand, tab |
| user_features_*.csv | user_id, user_active_degree |
| video_features_basic_*.csv | video_id, author_id, upload_dt, video_duration (milliseconds), tag |
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import matinee as mt
from matinee.domains.personalization.facts import Demographics, Played, Shown, Title
from matinee.domains.personalization.loaders.importing import (
    Format,
    Imported,
    Parts,
    Progress,
    epoch,
    granted,
    lived,
    run,
    stamped,
)
from matinee.domains.personalization.loaders.reading import Entry, Hold, csv, entries, listing, named

START = datetime(2022, 4, 7, tzinfo=UTC)  # the day before its log begins, in Beijing
SAID = (
    "each row is one `shown`; it is one `played` too where it was watched at all",
    "the feed shows a video at a time: `slot` is 0; `shelf` says which tab it was, or `random` where it was drawn at random",
    "likes, follows, comments, the encrypted features of users and the statistics of videos are not read",
)


def import_kuairand(
    studio: mt.Studio, path: Path, step: Progress = lambda *_a: None, *, consent: str = "yes"
) -> Imported:
    """Import KuaiRand: its logs, and the features of users and videos where they are there.

    Args:
        studio: Where to.
        path: The folder or .zip.
        step: Is given the rows done.
        consent: As for MovieLens.

    Raises:
        MatineeError: If no log is there.
    """
    agreed = granted(consent)
    here = entries(path) if path.exists() else []
    logs = named(here, "log_standard_*.csv", "log_random_*.csv")
    if not logs:
        raise mt.MatineeError(
            f"path == {path.name!r}, must hold log_standard_*.csv or log_random_*.csv; it holds {listing(path)}"
        )
    people, videos = named(here, "user_features*.csv"), named(here, "video_features_basic*.csv")
    unnamed = () if videos else ("video_features_basic is not there: append Title facts, or nothing may be shown",)
    format_ = Format(
        "kuairand",
        (*videos, *people, *logs),
        lambda hold: _parts(logs, people, videos, hold),
        (*SAID, *unnamed),
    )
    return run(studio, format_, step, consent=agreed, everywhere=True)


def _parts(logs: Sequence[Entry], people: Sequence[Entry], videos: Sequence[Entry], hold: Hold) -> Parts:
    import polars as pl

    for entry in videos:
        columns = {c: c for c in ("video_id", "author_id", "upload_dt", "video_duration", "tag")}
        for frame in csv(entry, columns, Title, hold, wanted=("video_id",)):
            absent = [pl.lit(None, dtype=pl.String).alias(c) for c in columns if c not in frame.columns]
            minutes = (
                (pl.col("video_duration").cast(pl.Float64, strict=False) / 60_000).round().cast(pl.Int64, strict=False)
            )
            yield (
                Title,
                stamped(
                    frame.with_columns(absent).select(
                        title="video_id",
                        name=pl.format("video {}", "video_id"),
                        kind=pl.lit("video"),
                        provider=pl.format("author {}", "author_id"),
                        year=pl.col("upload_dt").str.slice(0, 4).cast(pl.Int64, strict=False),
                        # Most last seconds: under half a minute rounds to none, which is no length.
                        runtime=pl.when(minutes > 0).then(minutes),
                        genres=pl.col("tag").str.split(","),
                    )
                ),
            )
    for entry in people:
        columns = {"user_id": "member", "user_active_degree": "activity"}
        for frame in csv(entry, columns, Demographics, hold, wanted=("member", "activity")):
            yield Demographics, stamped(frame, START)
    columns = {c: c for c in ("user_id", "video_id", "time_ms", "play_time_ms", "duration_ms", "is_rand", "tab")}
    for entry in logs:
        for frame in csv(entry, columns, Shown, hold, wanted=tuple(columns), quotes=False):
            shelf = pl.when(pl.col("is_rand") == "1").then(pl.lit("random")).otherwise(pl.format("tab {}", "tab"))
            shown = frame.select(
                member="user_id", title="video_id", slot=pl.lit(0), shelf=shelf, at=epoch("time_ms", "ms")
            )
            yield Shown, lived(shown, pl.col("at"))
            played, length = (pl.col(c).cast(pl.Float64, strict=False) for c in ("play_time_ms", "duration_ms"))
            share = pl.when(length > 0).then((played / length).clip(0, 1))
            # Zero seconds is not played; what is no number goes on, to be held back by its fact.
            watched = frame.filter((played != 0) | played.is_null())
            seconds = (
                pl.when(played.is_not_null()).then((played / 1000).cast(pl.String)).otherwise(pl.col("play_time_ms"))
            )
            yield (
                Played,
                lived(
                    watched.select(
                        member="user_id", title="video_id", seconds=seconds, share=share, at=epoch("time_ms", "ms")
                    ),
                    pl.col("at"),
                ),
            )
