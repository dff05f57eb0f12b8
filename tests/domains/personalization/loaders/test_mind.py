"""MIND: impressions in their order, clicks, clicks before them once a member, two splits that share their articles."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from tests.domains.personalization.loaders.reading_back import reasons, rows

import matinee as mt
from matinee.domains.personalization.facts import Member, Opened, Shown, Title
from matinee.domains.personalization.loaders import import_mind
from matinee.domains.personalization.loaders.mind import HISTORY_END

NEWS = (
    'N55528\tlifestyle\tlifestyleroyals\tThe Brands Queen Elizabeth Swears By\tShop "now"\thttps://x\t[]\t[]\n'
    "N19639\thealth\tweightloss\t50 Worst Habits For Belly Fat\t\thttps://x\t[]\t[]\n"
    "N61837\tnews\tnewsworld\tThe Cost of Trenches\t\thttps://x\t[]\t[]\n"
)
BEHAVIORS = (
    "1\tU13740\t11/11/2019 9:05:58 AM\tN55528 N19639\tN61837-1 N55528-0\n"
    "2\tU91836\t11/12/2019 6:11:30 PM\t\tN19639-0 N61837-0\n"
    "3\tU13740\t11/12/2019 12:00:01 AM\tN55528 N19639\tN19639-0\n"
)


def split(path: Path, behaviors: str = BEHAVIORS, news: str = NEWS) -> None:
    path.mkdir(parents=True)
    (path / "behaviors.tsv").write_text(behaviors)
    (path / "news.tsv").write_text(news)


def test_a_split(studio: mt.Studio, tmp_path: Path) -> None:
    split(tmp_path / "MINDsmall_train")
    found = import_mind(studio, tmp_path / "MINDsmall_train")
    assert not found.quarantined
    nine, six, midnight = (
        datetime(2019, 11, 11, 9, 5, 58, tzinfo=UTC), datetime(2019, 11, 12, 18, 11, 30, tzinfo=UTC),
        datetime(2019, 11, 12, 0, 0, 1, tzinfo=UTC),
    )  # fmt: skip
    assert rows(studio, Shown, "at", "member", "slot", "title") == [
        (nine, 13740, 0, 61837), (nine, 13740, 1, 55528), (midnight, 13740, 0, 19639),
        (six, 91836, 0, 19639), (six, 91836, 1, 61837),
    ]  # fmt: skip
    # Clicks before, oldest first and once, although two lines repeat them; then the click of the log.
    assert rows(studio, Opened, "at", "member", "title") == [
        (HISTORY_END - timedelta(minutes=2), 13740, 55528), (HISTORY_END - timedelta(minutes=1), 13740, 19639),
        (nine, 13740, 61837),
    ]  # fmt: skip
    assert rows(studio, Member, "member", "external") == [(13740, "U13740"), (91836, "U91836")]
    titles = studio.facts.scan(Title).select("title", "name", "kind", "genres").sort("title").collect().rows()
    assert titles[0] == (19639, "50 Worst Habits For Belly Fat", "article", ["health", "weightloss"])
    assert len(titles) == 3


def test_two_splits_share_their_articles(studio: mt.Studio, tmp_path: Path) -> None:
    split(tmp_path / "MIND" / "MINDsmall_train")
    more = NEWS.splitlines(keepends=True)[0] + "N7\tsports\tnfl\tA Game\t\t\t[]\t[]\n"
    later = "1\tU91836\t11/15/2019 1:00:00 AM\tN55528\tN7 N61837\n"  # the test split does not say what was clicked
    split(tmp_path / "MIND" / "MINDsmall_dev", later, more)
    found = import_mind(studio, tmp_path / "MIND")
    assert not found.quarantined
    assert rows(studio, Title, "title") == [(7,), (19639,), (55528,), (61837,)]
    assert found.appended["shown"] == 7
    assert found.appended["member"] == 2


def test_bad_lines(studio: mt.Studio, tmp_path: Path) -> None:
    bad = "4\tX1\t11/11/2019 9:05:58 AM\t\tN7-1\n5\tU2\tnoon\t\tN61837-0\n6\tU3\t11/11/2019 9:05:58 AM\t\tQ1-0 N61837-1\n7\tU4\n"
    split(tmp_path / "m", BEHAVIORS + bad, NEWS + "M1\ta\tb\tNo number\t\t\t\t\n")
    found = import_mind(studio, tmp_path / "m")
    assert found.appended["shown"] == 6
    assert found.quarantined == {"title": 1, "shown": 4, "opened": 1}
    said = " ".join(r for _, r in reasons(studio))
    assert "member is empty" in said
    assert "at is empty" in said
    assert "title is empty" in said
    with pytest.raises(mt.MatineeError, match=r"must hold behaviors\.tsv and news\.tsv"):
        import_mind(studio, tmp_path / "studio")


def test_what_was_opened_is_a_history_to_learn_from(studio: mt.Studio, tmp_path: Path) -> None:
    from matinee.domains.personalization.features import recent, taste
    from matinee.domains.personalization.home import events, home

    split(tmp_path / "m")
    import_mind(studio, tmp_path / "m")
    told = events(studio.source(home))
    assert told.select("member", "title").rows() == [(13740, 55528), (13740, 19639), (13740, 61837)]
    labels = pl.DataFrame(
        {"member": [13740], "at": [studio.clock()]}, schema_overrides={"at": pl.Datetime("us", "UTC")}
    )
    assert recent(taste.batch(studio.facts, labels).to_dicts()[0]) == [55528, 19639, 61837]
