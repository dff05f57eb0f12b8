"""Taste profiles: triplets, names of songs, songs matched to a wrong track; words to numbers and back."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from tests.domains.personalization.loaders.reading_back import reasons, rows

import matinee as mt
from matinee.domains.personalization.facts import Member, Opened, Title
from matinee.domains.personalization.loaders import import_million_song, number_of

ANN, BOB = "b80344d063b5ccb3212f76538f3d9e43d87dca9e", "85c1f87fea955d09b4bec2e36aee110927aedf9a"
TRIPLETS = f"{ANN}\tSOAKIMP12A8C130995\t1\n{ANN}\tSOBBMDR12A8C13253B\t2\n{BOB}\tSOAKIMP12A8C130995\t12\n"
TRACKS = (
    "TRMMMYQ128F932D901<SEP>SOAKIMP12A8C130995<SEP>Fl\u00f6ter<SEP>The Cove\n"
    "TRMMMKD128F425225D<SEP>SOBBMDR12A8C13253B<SEP>Karkkiautomaatti<SEP>Tanssi vaan\n"
    "TRMMMRX128F93187D9<SEP>SOGTUKN12AB017F4F1<SEP>Hudson Mohawke<SEP>No One Could Ever\n"
)


def test_triplets_alone(studio: mt.Studio, tmp_path: Path) -> None:
    path = tmp_path / "train_triplets.txt"
    path.write_text(TRIPLETS)
    found = import_million_song(studio, path)
    assert not found.quarantined
    assert rows(studio, Opened, "times", "member", "title") == [
        (1, number_of(ANN), number_of("SOAKIMP12A8C130995")),
        (2, number_of(ANN), number_of("SOBBMDR12A8C13253B")),
        (12, number_of(BOB), number_of("SOAKIMP12A8C130995")),
    ]
    # The way back.
    assert dict(rows(studio, Member, "member", "external")) == {number_of(w): w for w in (ANN, BOB)}  # type: ignore[arg-type]
    assert rows(studio, Title, "external", "name", "kind") == [
        ("SOAKIMP12A8C130995", "SOAKIMP12A8C130995", "song"),
        ("SOBBMDR12A8C13253B", "SOBBMDR12A8C13253B", "song"),
    ]
    text = " ".join(found.notes())
    assert "it has no times" in text
    assert "songs are called by their ids" in text


def test_names_of_songs_but_not_of_mismatched_ones(studio: mt.Studio, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "train_triplets.txt.zip", "w") as archive:
        archive.writestr("train_triplets.txt", TRIPLETS)
    (tmp_path / "unique_tracks.txt").write_text(TRACKS, encoding="utf-8")
    (tmp_path / "sid_mismatches.txt").write_text(
        "ERROR: <SOBBMDR12A8C13253B TRMMMKD128F425225D> Karkkiautomaatti  -  Tanssi vaan  !=  Someone  -  Else\n"
    )
    assert not import_million_song(studio, tmp_path).quarantined
    assert rows(studio, Title, "external", "name") == [
        ("SOAKIMP12A8C130995", "The Cove - Fl\u00f6ter"),
        ("SOBBMDR12A8C13253B", "SOBBMDR12A8C13253B"),  # still a song that was played
        ("SOGTUKN12AB017F4F1", "No One Could Ever - Hudson Mohawke"),
    ]


def test_bad_lines(studio: mt.Studio, tmp_path: Path) -> None:
    path = tmp_path / "train_triplets.txt"
    path.write_text(TRIPLETS + f"{ANN}\tSO1\t0\n{ANN}\tSO2\n\n{ANN}\tSO3\t1\tx\n\tSO4\t1\n")
    found = import_million_song(studio, path)
    assert found.appended["opened"] == 3
    assert found.quarantined == {"opened": 4}
    assert [r for _, r in reasons(studio)] == [
        "member is empty, must be int", "the line has 4 fields, must have 3", "times == 0, must be >= 1",
        "times is empty, must be int",
    ]  # fmt: skip
    with pytest.raises(mt.MatineeError, match="must be or hold train_triplets"):
        import_million_song(studio, tmp_path / "nowhere")
