"""Every MovieLens format from hand-written files: recognised, complete, bad rows held back, imported exactly once."""

from __future__ import annotations

import zipfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from tests.domains.personalization.loaders.reading_back import rows

import matinee as mt
from matinee.domains.personalization.facts import Demographics, Licence, Member, Rated, Tagged, Title
from matinee.domains.personalization.loaders import import_kion, import_movielens
from matinee.domains.personalization.loaders.movielens import ML_1M_START, recognise

DAY = 1_000_000_000  # seconds since 1970: 2001-09-09


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


@pytest.mark.parametrize(
    ("folder", "ratings", "titles"),
    [("ml-100k", 100_000, 1_682), ("ml-latest-small", 100_004, 9_125), ("ml-1m", 831_340, 3_883)],
)
def test_the_public_sets_are_read_to_the_last_row(shared_data: Path, folder: str, ratings: int, titles: int) -> None:
    counts = {Rated: 0, Title: 0, Tagged: 0, Demographics: 0}
    held: list[object] = []
    for fact, frame in recognise(shared_data / "personalization" / folder).parts(lambda *line: held.append(line)):
        counts[fact] += len(frame)  # type: ignore[index]  # one of the four
        assert frame.select(pl.all_horizontal(pl.col(fact.schema.key, "at").is_not_null()).all()).item()
    assert not held
    assert counts[Demographics] == {"ml-100k": 943, "ml-latest-small": 0, "ml-1m": 5040}[folder]
    assert (counts[Rated], counts[Title]) == (ratings, titles)


def test_people_of_100k_and_1m_are_groups_in_words(studio: mt.Studio, tmp_path: Path) -> None:
    for name, make in (("classic", ml_100k_classic), ("piped", ml_100k_piped), ("1m", ml_1m)):
        (tmp_path / name).mkdir()
        make(tmp_path / name)
    (tmp_path / "classic" / "u.user").write_text("1|24|M|technician|85711\n2|53|F|other|V1G4L\n")
    (tmp_path / "piped" / "u.user").write_text(
        "user|age|gender|occupation|zip\n1|24|M|technician|85711\n\n2|53|F|other|V1G4L\n"
    )
    (tmp_path / "1m" / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n3::M::99::7::55117-1234\n")
    columns = ("member", "age", "age_band", "gender", "occupation", "postcode")
    hundred = [(1, 24, None, "M", "technician", "85711"), (2, 53, None, "F", "other", "V1G4L")]
    for name in ("classic", "piped"):
        here = mt.open(tmp_path / f"studio-{name}", clock=studio.clock).use(*studio.domains.values())
        assert not import_movielens(here, tmp_path / name).quarantined
        assert rows(here, Demographics, *columns) == hundred
    import_movielens(studio, tmp_path / "1m")
    assert rows(studio, Demographics, *columns) == [
        (1, None, "under 18", "F", "K-12 student", "48067"),
        (2, None, "56+", "M", "self-employed", "70072"),
        (3, None, "99", "M", "executive/managerial", "55117-1234"),  # a code that its README does not know stays one
    ]
    # A member who is described and has rated nothing is a member too.
    assert rows(studio, Member, "member") == [(1,), (2,), (3,)]


def test_people_are_no_input_of_a_model(studio: mt.Studio, tmp_path: Path) -> None:
    from matinee.domains.personalization.home import home

    people = mt.Features("member", name="people", work=mt.state(Demographics.occupation))
    labels = lambda _source: pl.DataFrame(  # noqa: E731  # one line, used once
        {"unit": [1], "at": [datetime(2001, 1, 1, tzinfo=UTC)], "action": [10], "y": [1.0], "group": [0]}
    )
    ml_1m(tmp_path)
    (tmp_path / "users.dat").write_text("1::F::1::10::48067\n")
    import_movielens(studio, tmp_path)
    with pytest.raises(mt.MatineeError, match=r"Demographics\.occupation, which is personal text"):
        studio.train(home, mt.LightGBM(), on=[people], labels=labels)


def test_packed_or_not_a_set_is_one_import(studio: mt.Studio, tmp_path: Path) -> None:
    folder = tmp_path / "ml-test"
    folder.mkdir()
    ml_latest_small(folder)
    with zipfile.ZipFile(tmp_path / "ml-test.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"ml-test/{file.name}")
        archive.writestr("__MACOSX/ml-test/._ratings.csv", "junk")
    found = import_movielens(studio, tmp_path / "ml-test.zip")
    assert found.appended["rated"] == 2
    assert import_movielens(studio, folder).again


def test_two_sets_in_one_folder_are_not_guessed_between(studio: mt.Studio, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "sets" / name).mkdir(parents=True)
        ml_csv(tmp_path / "sets" / name)
    with pytest.raises(mt.MatineeError, match=r"holds 2 MovieLens sets \(a, b\), must hold one"):
        import_movielens(studio, tmp_path / "sets")


def test_lines_with_too_many_fields_are_held_by_their_place(studio: mt.Studio, tmp_path: Path) -> None:
    ml_csv(tmp_path)
    with (tmp_path / "ratings.csv").open("a") as file:
        file.write(f"3,10,4.0,{DAY},again\n4,10,4.0,{DAY}\n")
    found = import_movielens(studio, tmp_path)
    assert (found.appended["rated"], found.quarantined) == (3, {"rated": 1})
    held = studio.quarantine.rows(studio.quarantine.batches()[0][1])[0]
    assert held.reasons == ("the line has 5 fields, must have 4",)
    assert held.row["file"] == "ratings.csv"
    assert "again" not in str(held.row)  # no text of a line: erasure would not find a person in it
