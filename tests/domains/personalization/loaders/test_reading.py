"""Files of a set: blocks of whole lines whatever their size, encodings, packings; ids that are words."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import matinee as mt
from matinee.domains.personalization.facts import Rated
from matinee.domains.personalization.loaders import ids, reading
from matinee.domains.personalization.loaders.ids import Known, Words, number_of
from matinee.domains.personalization.loaders.reading import Entry, blocks, csv, entries, fields, first_line, lines

WORD = st.text(
    st.characters(codec="utf-8", exclude_characters="\n\r\x1e\x1f\x85\u2028\u2029", min_codepoint=32), min_size=1
)


def written(path: Path, data: bytes) -> Entry:
    path.write_bytes(data)
    return Entry(path.name, path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.lists(WORD.filter(lambda w: bool(w.strip())), max_size=12), block=st.integers(1, 40), last=st.booleans()
)
def test_lines_are_whole_whatever_the_block(tmp_path: Path, words: list[str], block: int, last: bool) -> None:
    entry = written(tmp_path / "x.txt", ("\n".join(words) + ("\n" if last else "")).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BLOCK", block)
        found = list(lines(entry))
        assert "".join(blocks(entry)) == "\n".join(words) + ("\n" if last and words else "\n" if last else "")
    assert [w for f in found for w in f["line"].to_list()] == words
    assert [n for f in found for n in f["number"].to_list()] == list(range(1, len(words) + 1))


def test_a_line_that_is_no_utf8_is_latin_1_and_its_neighbours_are_not(tmp_path: Path) -> None:
    entry = written(
        tmp_path / "x", "\ufeffAm\u00e9lie\n".encode() + "Am\u00e9lie\n".encode("latin-1") + "Амели\r\n\n".encode()
    )
    assert [w for f in lines(entry) for w in f["line"].to_list()] == ["Am\u00e9lie", "Am\u00e9lie", "Амели"]
    assert first_line(entry) == "Am\u00e9lie"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_files_have_the_name_and_hash_of_what_is_in_them(tmp_path: Path, pack: object) -> None:
    ending = {gzip.compress: ".gz", bz2.compress: ".bz2", lzma.compress: ".xz"}[pack]  # type: ignore[index]  # the three above
    plain = written(tmp_path / "log.csv", b"a,b\n1,2\n")
    (tmp_path / f"log.csv{ending}").write_bytes(pack(b"a,b\n1,2\n"))  # type: ignore[operator]  # one of the three above
    packed = next(e for e in entries(tmp_path) if e.path.suffix == ending)
    assert (packed.name, packed.digest()) == ("log.csv", plain.digest())
    assert "".join(blocks(packed)) == "a,b\n1,2\n"


def test_what_counts_as_a_file_of_the_set(tmp_path: Path) -> None:
    for name in ("a.txt", "in/b.txt", "in/.hidden", "d/e/f/g.txt"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_text("x")
    for name, inside in (("one.txt.zip", ["one.txt"]), ("many.zip", ["p.txt", "q.txt"])):
        with zipfile.ZipFile(tmp_path / "set" / name, "w") as archive:
            for one in inside:
                archive.writestr(one, "x")
    assert [e.name for e in entries(tmp_path / "set")] == ["a.txt", "in/b.txt", "one.txt"]
    (tmp_path / "bad.zip").write_text("no archive")
    with pytest.raises(mt.MatineeError, match="must be a whole .zip"):
        entries(tmp_path / "bad.zip")


def test_csv_keeps_quotes_and_line_breaks_and_holds_ragged_lines(tmp_path: Path) -> None:
    text = ',id,name\n0,1,"a, ""b""\nc"\n1,2\n2,3,\n3,4,d,e\n'
    held: list[tuple[str, str]] = []
    hold = lambda fact, file, number, reason: held.append((file, reason))  # noqa: E731  # one line, handed over
    entry = written(tmp_path / "x.csv", text.encode())
    found = pl.concat(csv(entry, {"id": "title", "name": "name"}, Rated, hold))
    assert found.rows() == [("1", 'a, "b"\nc'), ("3", None)]
    assert held == [("x.csv", "the line has 2 fields, must have 3"), ("x.csv", "the line has 4 fields, must have 3")]
    with pytest.raises(mt.MatineeError, match="must have one for 'stars'"):
        list(csv(entry, {"id": "title"}, Rated, hold, wanted=("stars",)))
    with pytest.raises(mt.MatineeError, match=r"empty\.csv is empty, must hold at least a header"):
        list(csv(written(tmp_path / "empty.csv", b""), {}, Rated, hold))


def test_fields_come_in_parts_and_short_lines_have_nulls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 12)
    entry = written(tmp_path / "x.dat", b"user::a\n" + b"".join(b"%d::a\n" % i for i in range(8)) + b"8\n9::a::b\n")
    held: list[int] = []
    parts = list(fields(entry, "::", ("n", "word"), Rated, lambda *a: held.append(a[2]), header="user"))
    assert len(parts) > 3
    together = pl.concat(parts)
    assert together["n"].to_list() == [str(i) for i in range(9)]
    assert together["word"].to_list() == ["a"] * 8 + [None]
    assert held == [11]


@settings(max_examples=80, deadline=None)
@given(batches=st.lists(st.lists(st.integers(0, 60), max_size=20, unique=True), max_size=12))
def test_numbers_are_fresh_once(batches: list[list[int]]) -> None:
    known, seen = Known(), set[int]()
    for batch in batches:
        fresh = known.fresh(np.array(batch, np.int64))
        assert fresh.tolist() == [n not in seen for n in batch]
        seen |= set(batch)
    assert known.sorted().tolist() == sorted(seen)
    assert len(known) == len(seen)


@settings(max_examples=60, deadline=None)
@given(
    batches=st.lists(st.lists(st.one_of(st.none(), st.sampled_from(["", "a", "b", "c", "é"])), max_size=8), max_size=5)
)
def test_words_have_numbers_and_each_is_new_once(batches: list[list[str | None]]) -> None:
    words, back = Words(), dict[int, str]()
    for batch in batches:
        numbers, fresh = words.number(pl.Series(batch, dtype=pl.String))
        new = dict(fresh.rows())
        assert not set(new) & set(back)
        back |= new
        assert [None if n is None else back[n] for n in numbers.to_list()] == [w or None for w in batch]


def test_two_words_of_one_number_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "number_of", lambda word: len(word))
    with pytest.raises(mt.MatineeError, match="ids 'aa' and 'bb' have one number"):
        Words().number(pl.Series(["aa", "bb"]))
    words = Words()
    words.number(pl.Series(["aa", "c"]))
    words.number(pl.Series(["aa"]))
    with pytest.raises(mt.MatineeError, match="number 2 stands for two ids"):
        words.number(pl.Series(["bb"]))


def test_the_number_of_a_word_is_the_same_for_ever() -> None:
    assert number_of("tt0111161") == 7729376858144582943
