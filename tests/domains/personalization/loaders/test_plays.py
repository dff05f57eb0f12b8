"""A file of plays of one's own: columns named on import, ids that are words, options that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.domains.personalization.loaders.reading_back import rows

import matinee as mt
from matinee.domains.personalization.facts import Member, Played, Title
from matinee.domains.personalization.loaders import import_plays, number_of


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
