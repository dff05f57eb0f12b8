"""Amazon reviews in every published layout: the same ratings from each, whatever the order of its columns."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.domains.personalization.loaders.reading_back import reasons, rows

import matinee as mt
from matinee.domains.personalization.facts import Member, Rated, Title
from matinee.domains.personalization.loaders import import_amazon, number_of
from matinee.domains.personalization.loaders.amazon import layout
from matinee.domains.personalization.loaders.reading import Entry

RATINGS = [("A2YJEY40YUW4SE", "B0000530HU", 5.0, 1_400_544_000), ("A1TLDR1V4O48PK", "0001713353", 2.0, 1_523_577_600)]


def reviews_2018(path: Path) -> Path:
    file = path / "All_Beauty_5.json.gz"
    with gzip.open(file, "wt", encoding="utf-8") as out:
        for user, item, stars, at in RATINGS:
            record = {
                "overall": stars, "verified": True, "reviewTime": "09 1, 2016", "reviewerID": user, "asin": item,
                "style": {"Size:": " 7.0 oz"}, "reviewerName": "Who", "reviewText": "Caf\u00e9", "summary": "s",
                "unixReviewTime": at, "vote": "5",
            }  # fmt: skip
            out.write(json.dumps(record) + "\n")
    return file


def ratings_2018(path: Path) -> Path:
    file = path / "All_Beauty.csv"
    file.write_text("".join(f"{item},{user},{stars},{at}\n" for user, item, stars, at in RATINGS))
    return file


def ratings_2014(path: Path) -> Path:
    file = path / "ratings_Beauty.csv"
    file.write_text("".join(f"{user},{item},{stars},{at}\n" for user, item, stars, at in RATINGS))
    return file


def reviews_2023(path: Path) -> Path:
    file = path / "All_Beauty.jsonl"
    record = {"title": "Nice", "text": "t", "images": [], "helpful_vote": 0, "verified_purchase": True}
    lines = [
        json.dumps(
            {
                "rating": stars,
                **record,
                "asin": "B00OTHER00",
                "parent_asin": item,
                "user_id": user,
                "timestamp": at * 1000,
            }
        )
        for user, item, stars, at in RATINGS
    ]
    file.write_text("\n".join(lines) + "\n")
    return file


def ratings_2023(path: Path) -> Path:
    file = path / "All_Beauty.csv.gz"
    with gzip.open(file, "wt") as out:
        out.write("user_id,parent_asin,rating,timestamp\n")
        out.writelines(f"{user},{item},{stars},{at * 1000}\n" for user, item, stars, at in RATINGS)
    return file


MAKERS = [reviews_2018, ratings_2018, ratings_2014, reviews_2023, ratings_2023]


@pytest.mark.parametrize("make", MAKERS)
def test_every_layout_says_the_same(studio: mt.Studio, tmp_path: Path, make: object) -> None:
    found = import_amazon(studio, make(tmp_path))  # type: ignore[operator]  # one of the makers above
    assert not found.quarantined
    assert rows(studio, Rated, "stars", "member", "title", "at") == sorted(
        (stars, number_of(user), number_of(item), datetime.fromtimestamp(at, UTC)) for user, item, stars, at in RATINGS
    )
    assert rows(studio, Member, "external", "member") == sorted((u, number_of(u)) for u, *_ in RATINGS)
    assert rows(studio, Title, "external", "name", "kind") == sorted((i, i, "product") for _, i, *_ in RATINGS)


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("meta_All_Beauty.json", {"asin": "B0000530HU", "brand": "Loris", "category": ["Beauty", "Beauty"]}),
        (
            "meta_All_Beauty.jsonl",
            {"parent_asin": "B0000530HU", "store": "Loris", "categories": ["Beauty"], "price": None},
        ),
    ],
)
def test_names_of_products(studio: mt.Studio, tmp_path: Path, name: str, record: dict[str, object]) -> None:
    reviews_2018(tmp_path)
    (tmp_path / name).write_text(json.dumps({"title": "Soap &amp; water", **record}) + "\n")
    import_amazon(studio, tmp_path)
    found = studio.facts.scan(Title).select("external", "name", "provider", "genres").collect().sort("external").rows()
    assert found == [("0001713353", "0001713353", None, None), ("B0000530HU", "Soap &amp; water", "Loris", ["Beauty"])]


def test_bad_lines_of_json(studio: mt.Studio, tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    good = {"rating": 4.0, "parent_asin": "B000000001", "user_id": "U1", "timestamp": 1_600_000_000_000}
    bad = ['{"rating": 4.0, "parent_', '{"rating": "four", "user_id": "U2"}', json.dumps({**good, "rating": 0.0})]
    absent = {k: v for k, v in good.items() if k != "user_id"}
    file.write_text("\n".join([json.dumps(good), *bad, json.dumps(absent), json.dumps({**good, "user_id": "U3"})]))
    found = import_amazon(studio, file)
    assert (found.appended["rated"], found.quarantined) == (2, {"rated": 4})
    said = [r for _, r in reasons(studio)]
    assert sum("the line is no such record" in r for r in said) == 2
    assert any("stars == 0.0" in r or "stars == 0" in r for r in said)
    assert any("member is empty" in r for r in said)
    held = [h.row for _, b in studio.quarantine.batches() for h in studio.quarantine.rows(b) if "line" in h.row]
    assert [h["line"] for h in held] == [2, 3]


def test_layouts_are_told_by_their_looks(tmp_path: Path) -> None:
    def of(text: str, name: str = "x.csv") -> str:
        (tmp_path / name).write_text(text)
        return layout(Entry(name, tmp_path / name))

    assert of("B0000530HU,A2YJEY40YUW4SE,5.0,1\n") == "ratings of 2018"
    assert of("A2YJEY40YUW4SE,B0000530HU,5.0,1\n") == "ratings of 2014"
    assert of("143502944X,A2YJEY40YUW4SE,5.0,1\n") == "ratings of 2018"
    assert of("a,b,c,d\n") == of("a,b\n") == of("") == of('{"asin": "B0000530HU"}\n') == ""


def test_two_layouts_together_or_none_are_refused(studio: mt.Studio, tmp_path: Path) -> None:
    reviews_2018(tmp_path)
    ratings_2018(tmp_path)
    with pytest.raises(mt.MatineeError, match="holds ratings of 2018 and reviews, must hold one"):
        import_amazon(studio, tmp_path)
    with pytest.raises(mt.MatineeError, match="in one of the layouts of 2014, 2018 or 2023"):
        import_amazon(studio, tmp_path / "studio")
    (tmp_path / "All_Beauty.csv").unlink()
    (tmp_path / "meta_Beauty.json").write_text("{'asin': '0001713353', 'title': 'Book'}\n")
    with pytest.raises(mt.MatineeError, match="which is Python and no JSON"):
        import_amazon(studio, tmp_path)


def test_a_file_cut_short_says_which(studio: mt.Studio, tmp_path: Path) -> None:
    file = reviews_2018(tmp_path)
    file.write_bytes(file.read_bytes()[:-12])
    with pytest.raises(mt.MatineeError, match=r"All_Beauty_5\.json is cut short or damaged"):
        import_amazon(studio, file)
