"""KION from hand-written files: sessions, the catalogue in both languages, the bands of its people."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.domains.personalization.loaders.reading_back import rows

import matinee as mt
from matinee.domains.personalization.facts import Demographics, Member, Played, Title
from matinee.domains.personalization.loaders import import_kion


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
    assert rows(studio, Demographics, "member") == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "users.csv",
            "user_id,age,income,sex,kids_flg\n973171,age_25_34,income_60_90,М,1\n962099,age_18_24,,Ж,0\n1047345,,,,0\n",
        ),
        (
            "users_en.csv",
            ",user_id,age,income,sex,kids_flg\n0,973171,age_25_34,income_60_90,M,True\n1,962099,age_18_24,,F,False\n2,1047345,,,,False\n",
        ),
    ],
)
def test_kion_says_bands_of_its_people(studio: mt.Studio, tmp_path: Path, name: str, text: str) -> None:
    kion(tmp_path)
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = import_kion(studio, tmp_path)
    assert not found.quarantined
    assert rows(studio, Demographics, "member", "age_band", "income", "gender", "children") == [
        (962099, "18-24", None, "F", False),
        (973171, "25-34", "60-90", "M", True),
        (1047345, None, None, None, False),
    ]
    assert len(rows(studio, Member, "member")) == 6  # three who are described, three others who watched
    assert import_kion(studio, tmp_path).again


def test_open_bands_and_items_with_line_breaks(studio: mt.Studio, tmp_path: Path) -> None:
    kion(tmp_path)
    (tmp_path / "users.csv").write_text("user_id,age,income,sex,kids_flg\n1,age_65_inf,income_150_inf,М,0\n")
    text = (tmp_path / "items.csv").read_text().rstrip("\n")
    header, *items = text.splitlines()
    lines = [f"{header},description", *(f'{i},"Two lines,\nof ""plot"""' for i in items)]
    (tmp_path / "items.csv").write_text("\n".join(lines) + "\n")
    assert not import_kion(studio, tmp_path).quarantined
    assert rows(studio, Demographics, "age_band", "income") == [("65+", "150+")]
    assert rows(studio, Title, "title") == [(1659,), (9506,)]
