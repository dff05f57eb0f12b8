"""Files to facts: MovieLens in all its formats, KION, and a plain CSV of plays. The files are the user's own.

A loader yields `(fact, frame)` in parts that fit in memory; rows are passed on as they are, so that a bad one ends in
quarantine and not in the void. What a data set does not say is said for it, and reported: that its titles may be shown
everywhere, and on what grounds its people may be learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matinee as mt
from matinee.domains.personalization.facts import Licence, Member, Played, Rated, Tagged, Title

if TYPE_CHECKING:
    import polars as pl

Parts = Iterator[tuple[type[mt.Fact], "pl.DataFrame"]]
Progress = Callable[..., None]
BEGINNING = datetime(1990, 1, 1, tzinfo=UTC)  # catalogues are known before anything is watched
ML_1M_START = datetime(2000, 4, 25, tzinfo=UTC)  # the first rating of the original file; only the order is kept
BATCH = 2_000_000


@dataclass(frozen=True)
class Imported:
    """What an import recognised and appended."""

    recognised: str
    appended: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    again: bool = False

    def rows(self) -> list[dict[str, Any]]:
        """One row a fact."""
        return [{"fact": f, "appended": n, "quarantined": self.quarantined.get(f, 0)} for f, n in self.appended.items()]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"recognised": self.recognised, "rows": self.rows(), "notes": list(self.said), "again": self.again}

    def __str__(self) -> str:
        from matinee.results import text_table

        again = ["imported before; nothing was done"] if self.again else []
        return "\n".join([f"recognised {self.recognised}", text_table(self.rows()), *again, *self.said])


def import_movielens(studio: mt.Studio, path: Path, step: Progress = lambda *_a: None, *, consent: str = "yes") -> Imported:
    """Import a MovieLens folder: 100K, latest-small, 1M, 10M, 20M, 25M or 32M, by what files are in it.

    Args:
        studio: Where to.
        path: The folder.
        step: Is given the rows done.
        consent: "yes" records consent to personalization for each member, since the set was released for research;
            "no" records none, and training leaves them out.

    Raises:
        MatineeError: If the folder is none of these; the message says what was looked for.
    """
    if consent not in ("yes", "no"):
        raise mt.MatineeError(f"consent == {consent!r}, must be 'yes' or 'no'")
    name, ratings = _movielens(path)
    said = [f"every title may be shown everywhere since {BEGINNING:%Y}: the set says nothing else"]
    if name == "ml-1m without times":
        said.append("it has no times: each member's ratings are one minute apart, in their own order; mind what is a season")
    if consent == "yes":
        said.append("consent to personalization is recorded for each member: the set was released for research")
    return _import(studio, path, name, lambda: ratings, step, consent == "yes", said)


def import_kion(studio: mt.Studio, path: Path, step: Progress = lambda *_a: None, *, consent: str = "yes") -> Imported:
    """Import KION: `interactions.csv`, `items.csv` and `users.csv` in one folder."""
    for name in ("interactions.csv", "items.csv"):
        if not (path / name).is_file():
            raise mt.MatineeError(f"path == {path.name!r}, must hold interactions.csv and items.csv; it holds {_listing(path)}")
    said = [f"every title may be shown everywhere since {BEGINNING:%Y}: the set says nothing else"]
    return _import(studio, path, "kion", lambda: _kion(path), step, consent == "yes", said)


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
) -> Imported:
    """Import a CSV of plays, one row a session.

    Args:
        studio: Where to.
        path: The file.
        step: Is given the rows done.
        member, title, at, seconds, device: Names of these columns in the file.
        zone: "UTC" where the times carry no zone and are known to be UTC; without it such rows go to quarantine.
    """
    from matinee import files

    columns = {member: "member", title: "title", at: "at", seconds: "seconds"} | ({device: "device"} if device else {})

    def parts() -> Parts:
        import polars as pl

        for frame in files.read(path, columns={a: b for a, b in columns.items() if a != b}):
            plays = frame.select([c for c in columns.values()])
            if zone:
                if zone != "UTC":
                    raise mt.MatineeError(f"zone == {zone!r}, must be 'UTC': convert other zones before the import")
                plays = plays.with_columns(pl.col("at").str.strip_chars() + "Z")
            yield Played, plays.with_columns(known=pl.col("at"))

    return _import(studio, path, "a CSV of plays", parts, step, False, ["no consent is recorded: append Consent facts to learn from it"])


def _import(
    studio: mt.Studio, path: Path, name: str, parts: Callable[[], Parts], step: Progress, consent: bool, said: list[str]
) -> Imported:
    """Append all parts; the same files twice are imported once."""
    key = f"import:{name}:{consent}:{_fingerprint(path)}"
    before = studio.registry.recall(key)
    if before is not None:
        return Imported(name, before["appended"], before["quarantined"], tuple(said), again=True)
    appended: dict[str, int] = {}
    quarantined: dict[str, int] = {}
    members: set[int] = set()
    titles: set[int] = set()

    def put(fact: type[mt.Fact], frame: pl.DataFrame, part: str) -> None:
        table = fact.schema.name
        result = studio.facts.append(fact, frame, source=f"{name} {part}")
        appended[table] = appended.get(table, 0) + result.appended
        if result.quarantined:
            quarantined[table] = quarantined.get(table, 0) + result.quarantined
        step(len(frame), f"importing {table}")

    import polars as pl

    for i, (fact, frame) in enumerate(parts()):
        put(fact, frame, str(i))
        if fact in (Played, Rated):
            members |= set(frame["member"].cast(pl.Int64, strict=False).drop_nulls().unique().to_list())
        if fact is Title:
            titles |= set(frame["title"].cast(pl.Int64, strict=False).drop_nulls().unique().to_list())
    if members and Member.schema.name not in appended:
        put(Member, _stamped(pl.DataFrame({"member": sorted(members)}), BEGINNING), "members")
    if titles:
        window = pl.DataFrame({"title": sorted(titles)}).with_columns(
            territory=pl.lit("*"), starts=pl.lit(BEGINNING, dtype=pl.Datetime("us", "UTC"))
        )
        put(Licence, _stamped(window, BEGINNING), "licences")
    if members and consent:
        granted = pl.DataFrame({"person": [str(m) for m in sorted(members)]}).with_columns(
            purpose=pl.lit("personalization"), granted=pl.lit(value=True)
        )
        put(mt.Consent, _stamped(granted, BEGINNING), "consents")
    studio.registry.remember(key, "import", {"appended": appended, "quarantined": quarantined})
    return Imported(name, appended, quarantined, tuple(said))


def _stamped(frame: pl.DataFrame, at: datetime) -> pl.DataFrame:
    import polars as pl

    when = pl.lit(at, dtype=pl.Datetime("us", "UTC"))
    return frame.with_columns(at=when, known=when)


def _fingerprint(path: Path) -> str:
    from matinee.store import file_digest

    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    return "-".join(file_digest(f)[:8] for f in files)


def _listing(path: Path) -> str:
    names = sorted(p.name for p in path.iterdir()) if path.is_dir() else [path.name]
    return ", ".join(names[:8]) or "nothing"


# -- MovieLens


def _movielens(path: Path) -> tuple[str, Parts]:
    """Which of the formats the folder holds, and its parts."""
    if (path / "u.data").is_file():
        return "ml-100k", _ml_100k(path)
    if (path / "ratings.parquet").is_file() and (path / "movies.dat").is_file():
        return "ml-1m without times", _ml_1m_parquet(path)
    if (path / "ratings.dat").is_file():
        return "ml-1m or ml-10m", _ml_dat(path)
    if (path / "ratings.csv").is_file():
        return "ml-latest, 20m, 25m or 32m", _ml_csv(path)
    raise mt.MatineeError(
        f"path == {path.name!r}, must be a MovieLens folder with u.data (100K), ratings.dat (1M, 10M), ratings.csv "
        f"(latest, 20M, 25M, 32M) or ratings.parquet and movies.dat; it holds {_listing(path)}"
    )


def _seconds(column: str) -> pl.Expr:
    """Seconds since 1970, as number or text, as a UTC time; what is no number is null, and ends in quarantine."""
    import polars as pl

    return (pl.col(column).cast(pl.Int64, strict=False) * 1_000_000).cast(pl.Datetime("us", "UTC"))


def _rated(frame: pl.DataFrame, at: pl.Expr) -> tuple[type[mt.Fact], pl.DataFrame]:
    import polars as pl

    # A history is imported as it was lived: each rating was known when it was given.
    return Rated, frame.select("member", "title", "stars", at.alias("at")).with_columns(known=pl.col("at"))


def _title_year(name: str = "name") -> pl.Expr:
    import polars as pl

    return pl.col(name).str.extract(r"\((\d{4})\)\s*$").cast(pl.Int64, strict=False).alias("year")


def _titles(frame: pl.DataFrame) -> tuple[type[mt.Fact], pl.DataFrame]:
    import polars as pl

    parts = pl.col("genres").str.split("|").list.eval(pl.element().filter(~pl.element().is_in(["(no genres listed)", ""])))
    typed = frame.with_columns(_title_year(), genres=parts).select("title", "name", "genres", "year")
    return Title, _stamped(typed.with_columns(kind=pl.lit("film")), BEGINNING)


def _ml_100k(path: Path) -> Parts:
    import polars as pl

    piped = (path / "u.data").read_text(encoding="latin-1")[:200].partition("\n")[0].count("|") == 3
    raw = (path / "u.data").read_text(encoding="latin-1").splitlines()
    rows = [line for line in raw[1 if piped else 0 :] if line.strip()]
    split = pl.DataFrame({"line": rows}).select(pl.col("line").str.split("|" if piped else "\t").alias("p"))
    ratings = split.select(
        *(pl.col("p").list.get(i, null_on_oob=True).alias(n) for i, n in enumerate(("member", "title", "stars", "time")))
    )
    yield _items_100k(path / "u.item")
    yield _rated(ratings, _seconds("time"))


_GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip


def _items_100k(path: Path) -> tuple[type[mt.Fact], pl.DataFrame]:
    import polars as pl

    lines = [x.split("|") for x in path.read_text(encoding="latin-1").splitlines() if x.strip()]
    rows = [x for x in lines if len(x) == 24 and x[0].isdigit()]
    genres = ["|".join(g for g, flag in zip(_GENRES_100K[1:], r[6:], strict=True) if flag == "1") for r in rows]
    return _titles(pl.DataFrame({"title": [int(r[0]) for r in rows], "name": [r[1] for r in rows], "genres": genres}))


def _lines(path: Path, names: tuple[str, ...]) -> Iterator[pl.DataFrame]:
    """`a::b::c` lines as text columns, in batches."""
    import polars as pl

    batch: list[str] = []
    with path.open(encoding="latin-1") as lines:
        for line in lines:
            if line.strip():
                batch.append(line.rstrip("\r\n"))
            if len(batch) >= BATCH:
                yield _split(pl.Series(batch), names)
                batch = []
    if batch:
        yield _split(pl.Series(batch), names)


def _split(lines: pl.Series, names: tuple[str, ...]) -> pl.DataFrame:
    import polars as pl

    parts = pl.DataFrame({"line": lines}).select(pl.col("line").str.split("::").alias("p"))
    return parts.select(pl.col("p").list.get(i, null_on_oob=True).alias(n) for i, n in enumerate(names))


def _movies_dat(path: Path) -> Parts:
    import polars as pl

    for frame in _lines(path, ("title", "name", "genres")):
        yield _titles(frame.with_columns(pl.col("title").cast(pl.Int64, strict=False)))


def _ml_dat(path: Path) -> Parts:
    yield from _movies_dat(path / "movies.dat")
    for frame in _lines(path / "ratings.dat", ("member", "title", "stars", "time")):
        yield _rated(frame, _seconds("time"))


def _ml_1m_parquet(path: Path) -> Parts:
    import polars as pl

    yield from _movies_dat(path / "movies.dat")
    frame = pl.read_parquet(path / "ratings.parquet").rename({"user": "member", "item": "title", "rating": "stars"})
    # Ratings whose place is unknown (-1) come before the first of their member, all at one time.
    at = pl.lit(ML_1M_START, dtype=pl.Datetime("us", "UTC")) + pl.duration(minutes=pl.col("pos"))
    yield _rated(frame.with_columns(pl.col("stars").cast(pl.Float64)), at)


def _ml_csv(path: Path) -> Parts:
    import polars as pl

    from matinee import files

    for frame in files.read(path / "movies.csv", columns={"movieId": "title", "title": "name"}) if (path / "movies.csv").is_file() else ():
        yield _titles(frame)
    head = (path / "ratings.csv").open().readline().strip().split(",")
    names = dict(zip(head, ("member", "title", "stars", "time"), strict=False))
    if len(head) != 4:
        raise mt.MatineeError(f"ratings.csv has columns {', '.join(head)}, must have four: user, movie, rating, timestamp")
    for frame in files.read(path / "ratings.csv", columns=names, batch_rows=BATCH):
        yield _rated(frame, _seconds("time"))
    if (path / "tags.csv").is_file():
        for frame in files.read(path / "tags.csv", columns={"userId": "member", "movieId": "title"}):
            tagged = frame.select("title", "member", "tag", at=_seconds("timestamp"))
            yield Tagged, tagged.with_columns(known=pl.col("at"))


# -- KION


def _kion(path: Path) -> Parts:
    import polars as pl

    from matinee import files

    for frame in files.read(path / "items.csv"):
        kind = pl.when(pl.col("content_type") == "series").then(pl.lit("series")).otherwise(pl.lit("film"))
        genres = pl.col("genres").str.split(", ")
        maturity = pl.col("age_rating").cast(pl.Float64, strict=False).cast(pl.Int64) if "age_rating" in frame.columns else None
        yield Title, _stamped(
            frame.select(
                title=pl.col("item_id"),
                name=pl.col("title"),
                kind=kind,
                year=pl.col("release_year").cast(pl.Float64, strict=False).cast(pl.Int64),
                genres=genres,
                maturity=maturity if maturity is not None else pl.lit(None, dtype=pl.Int64),
            ),
            BEGINNING,
        )
    for frame in files.read(path / "interactions.csv", batch_rows=BATCH):
        # Days only: a session is put at noon, so that it falls on its day in every European zone.
        at = (pl.col("last_watch_dt") + "T12:00:00Z").alias("at")
        percent = pl.col("watched_pct").cast(pl.Float64, strict=False) / 100
        plays = frame.select(
            member=pl.col("user_id"),
            title=pl.col("item_id"),
            seconds=pl.col("total_dur").cast(pl.Float64, strict=False),
            share=percent.clip(0, 1),
            at=at,
        )
        yield Played, plays.with_columns(known=pl.col("at"))


IMPORTERS = {"movielens": import_movielens, "kion": import_kion, "plays": import_plays}
