"""The Netflix Prize from files in its two layouts: header lines across batches, titles with commas in latin-1."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.domains.personalization.loaders.reading_back import reasons, rows

import matinee as mt
from matinee.domains.personalization.facts import Member, Rated, Title
from matinee.domains.personalization.loaders import import_netflix, reading

TITLES = '1,2003,Dinosaur Planet\n2,NULL,Isle of Man TT 2004 Review\n3,1998,Am\u00e9lie, Paris, and "So" On\n'
RATINGS = [
    (1, 3, "2005-09-06", 1488844), (1, 5, "2005-05-13", 822109), (2, 4, "2004-10-19", 1488844), (3, 1, "1999-11-11", 7),
]  # fmt: skip


def titles(path: Path, name: str = "movie_titles.csv") -> None:
    path.mkdir(exist_ok=True)
    (path / name).write_text(TITLES, encoding="latin-1")


def movie(number: int) -> str:
    return f"{number}:\n" + "".join(f"{who},{stars},{day}\n" for m, stars, day, who in RATINGS if m == number)


def combined(path: Path) -> None:
    titles(path)
    (path / "combined_data_1.txt").write_text(movie(1) + movie(2))
    (path / "combined_data_2.txt").write_text(movie(3))


def one_a_movie(path: Path) -> None:
    titles(path, "movie_titles.txt")
    (path / "training_set").mkdir()
    for n in (1, 2, 3):
        (path / "training_set" / f"mv_{n:07}.txt").write_text(movie(n))


@pytest.mark.parametrize("make", [combined, one_a_movie])
@pytest.mark.parametrize("block", [1 << 25, 24])
def test_both_layouts_say_the_same(
    studio: mt.Studio, tmp_path: Path, make: object, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BLOCK", block)  # a header line in one block, its ratings in the next
    make(tmp_path / "nf")  # type: ignore[operator]  # one of the makers above
    found = import_netflix(studio, tmp_path / "nf")
    assert found.recognised == "netflix"
    assert not found.quarantined
    assert rows(studio, Rated, "title", "stars", "at", "member") == sorted(
        (m, float(s), datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=UTC), who) for m, s, day, who in RATINGS
    )
    assert rows(studio, Title, "title", "name", "year") == [
        (1, "Dinosaur Planet", 2003),
        (2, "Isle of Man TT 2004 Review", None),
        (3, 'Am\u00e9lie, Paris, and "So" On', 1998),
    ]
    assert rows(studio, Member, "member") == [(7,), (822109,), (1488844,)]


def test_probe_and_qualifying_are_named_and_not_read(studio: mt.Studio, tmp_path: Path) -> None:
    combined(tmp_path)
    (tmp_path / "probe.txt").write_text("1:\n1488844\n")
    (tmp_path / "qualifying.txt").write_text("1:\n1046323,2005-12-19\n")
    (tmp_path / "training_set").mkdir()
    (tmp_path / "training_set" / "mv_0000001.txt").write_text(movie(1))
    found = import_netflix(studio, tmp_path)
    assert found.appended["rated"] == len(RATINGS)
    text = " ".join(found.notes())
    assert "probe.txt is not read" in text
    assert "qualifying.txt is not read" in text
    assert "mv_*.txt are not read" in text


def test_bad_lines_cost_themselves_only(studio: mt.Studio, tmp_path: Path) -> None:
    titles(tmp_path)
    (tmp_path / "combined_data_1.txt").write_text(
        "9,3,2005-01-01\n1:\n10,3,2005-01-01\n11,3\n12,9,2005-01-01\n13,3,yesterday\n14,3,2005-01-01,x\n2:\n15,1,2005-01-02\n"
    )
    found = import_netflix(studio, tmp_path)
    assert rows(studio, Rated, "member", "title") == [(10, 1), (15, 2)]
    assert found.quarantined == {"rated": 5}
    said = [r for _, r in reasons(studio)]
    assert said[0].startswith("at == 'yesterday")
    assert "stars == 9, must be <= 5" in said
    assert "the line has 2 fields, must have 3: customer, rating, date" in said
    assert "the line has 4 fields, must have 3: customer, rating, date" in said
    assert any("title is empty" in r for r in said)  # a rating before any header line


def test_a_folder_without_the_files_says_what_is_missing(studio: mt.Studio, tmp_path: Path) -> None:
    titles(tmp_path / "nf")
    with pytest.raises(
        mt.MatineeError, match=r"combined_data_\*\.txt or training_set/mv_\*\.txt.*it holds movie_titles\.csv"
    ):
        import_netflix(studio, tmp_path / "nf")
    (tmp_path / "nf_prize_dataset.tar.gz").write_bytes(b"")
    with pytest.raises(mt.MatineeError, match="unpack it first"):
        import_netflix(studio, tmp_path / "nf_prize_dataset.tar.gz")
