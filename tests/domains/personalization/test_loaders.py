"""Every format from hand-written files: recognised, complete, bad rows held back, imported exactly once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

import matinee as mt
from matinee.domains import personalization
from matinee.domains.personalization.facts import Licence, Member, Played, Rated, Tagged, Title
from matinee.domains.personalization.loaders import import_kion, import_movielens, import_plays, number_of
from matinee.domains.personalization.movielens import ML_1M_START, recognise, split_lines

NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAY = 1_000_000_000  # seconds since 1970: 2001-09-09


@pytest.fixture
def studio(tmp_path: Path) -> mt.Studio:
    return mt.open(tmp_path / "studio", clock=lambda: NOW).use(personalization.domain)


def rows(studio: mt.Studio, fact: type[mt.Fact], *columns: str) -> list[tuple[object, ...]]:
    return studio.facts.scan(fact).select(*columns).collect().sort(*columns).rows()


def ml_100k_classic(path: Path) -> None:
    flags = lambda *on: "|".join("1" if i in on else "0" for i in range(19))  # noqa: E731  # one line, used twice
    (path / "u.data").write_text(f"1\t10\t5\t{DAY}\n2\t10\t3\t{DAY + 5}\n")
    lines = [f"10|Amélie (2001)|01-Jan-2001||http://x|{flags(5, 14)}", f"11|unknown||||{flags(0)}"]
    (path / "u.item").write_text("\n".join(lines) + "\n", encoding="latin-1")


def ml_100k_piped(path: Path) -> None:
    ml_100k_classic(path)
    data = (path / "u.data").read_text().replace("\t", "|")
    (path / "u.data").write_text("user|item|rating|timestamp\n" + data.replace("\n", "\n\n"))
    items = (path / "u.item").read_text(encoding="latin-1")
    head = "item|title|releaseDate|videoReleaseDate|imdbURL|" + "|".join(f"g{i}" for i in range(19))
    (path / "u.item").write_text(head + "\n" + items, encoding="latin-1")


def ml_1m(path: Path) -> None:
    (path / "ratings.dat").write_text(f"1::10::5::{DAY}\n2::10::3::{DAY + 5}\n")
    (path / "movies.dat").write_text("10::Amélie (2001)::Comedy|Romance\n11::unknown::\n", encoding="latin-1")


def ml_10m(path: Path) -> None:
    ml_1m(path)
    (path / "ratings.dat").write_text(f"1::10::5::{DAY}\n2::10::3.0::{DAY + 5}\n")
    (path / "movies.dat").write_text("10::Amélie (2001)::Comedy|Romance\n11::unknown::\n", encoding="utf-8")
    (path / "tags.dat").write_text(f"1::10::so: charming::{DAY}\n")


def ml_csv(path: Path, user: str = "userId", movie: str = "movieId") -> None:
    (path / "ratings.csv").write_text(f"{user},{movie},rating,timestamp\n1,10,5.0,{DAY}\n2,10,3.0,{DAY + 5}\n")
    text = 'movieId,title,genres\n10,"Amélie (2001)",Comedy|Romance\n11,unknown,(no genres listed)\n'
    (path / "movies.csv").write_text(text, encoding="utf-8")


def ml_latest_small(path: Path) -> None:
    ml_csv(path, "user_id", "movie_id")
    (path / "tags.csv").write_text(f"userId,movieId,tag,timestamp\n1,10,so: charming,{DAY}\n")


FORMATS = {
    "ml-100k": [ml_100k_classic, ml_100k_piped],
    "ml-1m or ml-10m": [ml_1m, ml_10m],
    "ml-latest, 20m, 25m or 32m": [ml_csv, ml_latest_small],
}


@pytest.mark.parametrize(("name", "make"), [(n, m) for n, makers in FORMATS.items() for m in makers])
def test_every_movielens_format_says_the_same(studio: mt.Studio, tmp_path: Path, name: str, make: object) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    make(folder)  # type: ignore[operator]  # one of the makers above
    found = import_movielens(studio, folder)
    assert found.recognised == name
    assert not found.quarantined
    assert rows(studio, Rated, "member", "title", "stars", "at") == [
        (1, 10, 5.0, datetime.fromtimestamp(DAY, UTC)),
        (2, 10, 3.0, datetime.fromtimestamp(DAY + 5, UTC)),
    ]
    assert rows(studio, Title, "title", "name", "year") == [(10, "Amélie (2001)", 2001), (11, "unknown", None)]
    genres = dict(studio.facts.scan(Title).select("title", "genres").collect().iter_rows())
    assert genres == {10: ["Comedy", "Romance"], 11: []}
    assert rows(studio, Member, "member") == [(1,), (2,)]
    assert rows(studio, Licence, "title", "territory") == [(10, "*"), (11, "*")]
    assert rows(studio, mt.Consent, "person", "purpose", "granted") == [
        ("1", "personalization", True),
        ("2", "personalization", True),
    ]
    if (folder / "tags.csv").exists() or (folder / "tags.dat").exists():
        assert rows(studio, Tagged, "title", "member", "tag") == [(10, 1, "so: charming")]


def ml_1m_parquet(path: Path) -> None:
    ml_1m(path)
    (path / "ratings.dat").unlink()
    kinds = {"user": pl.Int32, "item": pl.Int32, "rating": pl.Int8, "pos": pl.Int16}
    frame = pl.DataFrame(
        {"user": [1, 1, 1, 2], "item": [10, 11, 12, 10], "rating": [5, 4, 3, 2], "pos": [1, 0, -1, 0]}, kinds
    )
    frame.write_parquet(path / "ratings.parquet")


def test_without_times_the_order_is_kept_and_said_to_be_all_there_is(studio: mt.Studio, tmp_path: Path) -> None:
    ml_1m_parquet(tmp_path)
    found = import_movielens(studio, tmp_path / ".")
    mine = studio.facts.scan(Rated).filter(pl.col("member") == 1).sort("at").collect()
    assert mine["title"].to_list() == [12, 11, 10]  # the one whose place is unknown comes first
    assert mine["at"][1] == ML_1M_START
    assert any("it has no times" in note for note in found.notes())


def test_without_consent_none_is_recorded(studio: mt.Studio, tmp_path: Path) -> None:
    ml_csv(tmp_path)
    import_movielens(studio, tmp_path, consent="no")
    assert rows(studio, mt.Consent, "person") == []
    with pytest.raises(mt.MatineeError, match="consent == 'maybe', must be 'yes' or 'no'"):
        import_movielens(studio, tmp_path, consent="maybe")


def test_bad_rows_are_held_back_with_their_reasons_and_none_is_lost(studio: mt.Studio, tmp_path: Path) -> None:
    ml_1m(tmp_path)
    bad = f"3::10::7::{DAY}\n4::10\nx::10::3::{DAY}\n5::10::4::yesterday\n\n6::10::4::{DAY}\n"
    (tmp_path / "ratings.dat").write_text(bad)
    (tmp_path / "movies.dat").write_text("10::Amélie (2001)::Comedy\nno number::Nothing::\n12\n")
    found = import_movielens(studio, tmp_path)
    assert found.appended["rated"] == 1
    assert found.quarantined == {"rated": 4, "title": 2}
    held = [row for _, batch in studio.quarantine.batches() for row in studio.quarantine.rows(batch)]
    reasons = " ".join(reason for row in held for reason in row.reasons)
    for said in ("stars == 7", "member", "at is empty", "name is empty"):
        assert said in reasons


def test_a_folder_that_is_none_of_them_says_what_was_looked_for(studio: mt.Studio, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "ratings.txt").write_text("")
    with pytest.raises(mt.MatineeError, match=r"u\.data and u\.item \(100K\).*it holds ratings\.txt"):
        import_movielens(studio, tmp_path / "folder")
    with pytest.raises(mt.MatineeError, match="it does not exist"):
        import_movielens(studio, tmp_path / "nowhere")
    with pytest.raises(
        mt.MatineeError, match=r"interactions\.csv and items\.csv or items_en\.csv; it holds ratings\.txt"
    ):
        import_kion(studio, tmp_path / "folder")
    ml_csv(tmp_path / "folder")
    (tmp_path / "folder" / "ratings.csv").write_text("userId,movieId,points,timestamp\n")
    with pytest.raises(mt.MatineeError, match=r"ratings\.csv has columns .*points.*, must have one for 'stars'"):
        import_movielens(studio, tmp_path / "folder")


def test_the_same_files_again_are_free_and_changed_ones_are_not(studio: mt.Studio, tmp_path: Path) -> None:
    ml_csv(tmp_path)
    import_movielens(studio, tmp_path)
    again = import_movielens(studio, tmp_path)
    assert again.again
    assert len(rows(studio, Rated, "member")) == 2
    assert "imported before; nothing was done" in str(again)
    with (tmp_path / "ratings.csv").open("a") as file:
        file.write(f"3,10,4.0,{DAY}\n")
    assert not import_movielens(studio, tmp_path).again


@pytest.mark.parametrize("stops_at", range(1, 7))
def test_a_crash_on_the_way_loses_nothing_and_doubles_nothing(studio: mt.Studio, tmp_path: Path, stops_at: int) -> None:
    ml_latest_small(tmp_path)
    seen = 0

    def step(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == stops_at:
            raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError):
        import_movielens(studio, tmp_path, step)
    found = import_movielens(studio, tmp_path)
    assert any("interrupted import was finished" in note for note in found.notes())
    counts = [len(rows(studio, f, f.schema.key)) for f in (Title, Rated, Tagged, Member, Licence, mt.Consent)]
    assert counts == [2, 2, 1, 2, 2, 2]


def kion(path: Path, items: str = "items.csv") -> None:
    (path / "interactions.csv").write_text(
        "user_id,item_id,last_watch_dt,total_dur,watched_pct\n"
        "176549,9506,2021-05-11,4250,72.0\n699317,1659,2021-05-29,8317,100.0\n656683,7107,2021-05-09,10,\n"
    )
    (path / items).write_text(
        "item_id,content_type,title,title_orig,release_year,genres,countries,for_kids,age_rating,studios\n"
        '9506,film,Поговори с ней,Hable con ella,2002.0,"драмы, зарубежные, детективы",Испания,,16.0,\n'
        "1659,series,Сериал,,,,Россия,1.0,,\n"
    )


@pytest.mark.parametrize("items", ["items.csv", "items_en.csv"])
def test_kion(studio: mt.Studio, tmp_path: Path, items: str) -> None:
    kion(tmp_path, items)
    found = import_kion(studio, tmp_path)
    assert not found.quarantined
    assert rows(studio, Played, "member", "title", "seconds", "share", "at")[0] == (
        176549, 9506, 4250.0, 0.72, datetime(2021, 5, 11, 12, tzinfo=UTC),
    )  # fmt: skip
    titles = (
        studio.facts.scan(Title).select("title", "kind", "year", "maturity", "genres").sort("title").collect().rows()
    )
    assert titles == [
        (1659, "series", None, None, None),
        (9506, "film", 2002, 16, ["драмы", "зарубежные", "детективы"]),
    ]
    assert any("users.csv is not read" in note for note in found.notes())


def test_plays_from_a_csv_of_ones_own(studio: mt.Studio, tmp_path: Path) -> None:
    path = tmp_path / "plays.csv"
    path.write_text("who,what,began,watched,screen\n7,3,2026-01-05T20:00:00Z,1800,tv\n7,4,2026-01-05 22:00:00,-5,tv\n")
    options = {"member": "who", "title": "what", "at": "began", "seconds": "watched", "device": "screen"}
    found = import_plays(studio, path, **options)
    assert rows(studio, Played, "member", "title", "seconds", "device") == [(7, 3, 1800.0, "tv")]
    assert found.quarantined == {"played": 1}
    assert rows(studio, Member, "member") == [(7,)]
    assert any("append Title and Licence facts" in note for note in found.notes())


def test_plays_whose_ids_are_words(studio: mt.Studio, tmp_path: Path) -> None:
    path = tmp_path / "plays.csv"
    path.write_text(
        "member,title,at,seconds\nann,tt1,2026-01-05 20:00:00,60\nbob,tt1,2026-01-05 21:00:00,60\n"
        ",tt2,2026-01-05 21:00:00,1\n"
    )
    found = import_plays(studio, path, zone="UTC", ids="text")
    assert found.quarantined == {"played": 1}
    assert rows(studio, Member, "external", "member") == [("ann", number_of("ann")), ("bob", number_of("bob"))]
    assert rows(studio, Title, "external", "name") == [("tt1", "tt1"), ("tt2", "tt2")]
    assert number_of("tt0111161") == 7729376858144582943  # the same on every machine, for ever
    joined = studio.facts.scan(Played).select("member", "title").collect()
    assert set(joined["member"]) == {number_of("ann"), number_of("bob")}
    assert set(joined["title"]) == {number_of("tt1")}


def test_plays_with_wrong_options_say_so(studio: mt.Studio, tmp_path: Path) -> None:
    path = tmp_path / "plays.csv"
    path.write_text("who,title,at,seconds\n7,3,2026-01-05T20:00:00Z,1800\n")
    with pytest.raises(
        mt.MatineeError, match=r"plays\.csv has columns who, title, at, seconds, must have one for 'member'"
    ):
        import_plays(studio, path)
    with pytest.raises(mt.MatineeError, match=r"must be a file of plays; the folder holds .*plays\.csv"):
        import_plays(studio, tmp_path / "playz.csv")
    with pytest.raises(mt.MatineeError, match="zone == 'Europe/Berlin', must be 'UTC'"):
        import_plays(studio, path, zone="Europe/Berlin")
    with pytest.raises(mt.MatineeError, match="ids == 'words', must be 'number' or 'text'"):
        import_plays(studio, path, ids="words")


def test_long_files_come_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matinee.domains.personalization import movielens

    monkeypatch.setattr(movielens, "BATCH", 3)
    path = tmp_path / "x.dat"
    path.write_text("".join(f"{i}::a\n" for i in range(8)))
    parts = list(split_lines(path, "::", ("n", "word")))
    assert [len(p) for p in parts] == [3, 3, 2]
    assert pl.concat(parts)["n"].to_list() == [str(i) for i in range(8)]


@pytest.mark.parametrize(
    ("folder", "ratings", "titles"),
    [("ml-100k", 100_000, 1_682), ("ml-latest-small", 100_004, 9_125), ("ml-1m", 831_340, 3_883)],
)
def test_the_public_sets_are_read_to_the_last_row(shared_data: Path, folder: str, ratings: int, titles: int) -> None:
    counts = {Rated: 0, Title: 0, Tagged: 0}
    for fact, frame in recognise(shared_data / "personalization" / folder).parts():
        counts[fact] += len(frame)  # type: ignore[index]  # one of the three
        assert frame.select(pl.all_horizontal(pl.col(fact.schema.key, "at").is_not_null()).all()).item()
    assert (counts[Rated], counts[Title]) == (ratings, titles)
