"""KuaiRand: every exposure is shown, what was watched is played, what was drawn at random says so."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.domains.personalization.loaders.reading_back import reasons, rows

import matinee as mt
from matinee.domains.personalization.facts import Demographics, Licence, Played, Shown, Title
from matinee.domains.personalization.loaders import import_kuairand

LOG = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n"
)
AT = 1_650_485_801_301


def kuairand(path: Path, *extra: str) -> None:
    data = path / "data"
    data.mkdir(parents=True)
    standard = [f"0,3784,20220421,400,{AT},1,0,0,0,0,0,1,151024,104400,0,0,0,0,1", *extra]
    (data / "log_standard_4_08_to_4_21_pure.csv").write_text(LOG + "\n".join(standard) + "\n")
    random = [f"1,12,20220422,1500,{AT + 1000},0,0,0,0,0,0,0,0,7000,0,0,0,1,4"]
    (data / "log_random_4_22_to_5_08_pure.csv").write_text(LOG + "\n".join(random) + "\n")
    (data / "user_features_pure.csv").write_text(
        "user_id,user_active_degree,is_lowactive_period,is_live_streamer\n0,full_active,0,0\n1,UNKNOWN,0,1\n"
    )
    (data / "video_features_basic_pure.csv").write_text(
        "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,server_height,"
        "music_id,music_type,tag\n"
        '3784,441,NORMAL,2020-07-08,ShortImport,1,104400.0,720,1280,989206467,4,"12,65"\n'
        "12,9,AD,2022-03-01,Web,1,,720,1280,1,9,\n"
    )


def test_a_log_in_its_published_layout(studio: mt.Studio, tmp_path: Path) -> None:
    kuairand(tmp_path / "KuaiRand-Pure")
    found = import_kuairand(studio, tmp_path / "KuaiRand-Pure")
    assert not found.quarantined
    at = datetime.fromtimestamp(AT / 1000, UTC)
    assert rows(studio, Shown, "member", "title", "slot", "shelf", "at")[0] == (0, 3784, 0, "tab 1", at)
    assert rows(studio, Shown, "member", "title", "shelf")[1] == (1, 12, "random")
    assert rows(studio, Played, "member", "title", "seconds", "share") == [(0, 3784, 151.024, 1.0)]
    titles = (
        studio.facts.scan(Title)
        .select("title", "kind", "provider", "year", "runtime", "genres")
        .sort("title")
        .collect()
    )
    assert titles.rows() == [
        (12, "video", "author 9", 2022, None, None),
        (3784, "video", "author 441", 2020, 2, ["12", "65"]),
    ]
    assert rows(studio, Demographics, "member", "activity") == [(0, "full_active"), (1, "UNKNOWN")]
    assert rows(studio, Licence, "title") == [(12,), (3784,)]


def test_bad_lines_and_absent_parts(studio: mt.Studio, tmp_path: Path) -> None:
    short = f"0,3784,20220421,400,{AT},1"
    wrong = f"0,3785,20220421,400,{AT},1,0,0,0,0,0,1,long,104400,0,0,0,0,1"
    unread = "0,3785,20220421,400,later,1,0,0,0,0,0,1,0,104400,0,0,0,0,1"
    kuairand(tmp_path / "k", short, wrong, unread)
    for name in ("user_features_pure.csv", "video_features_basic_pure.csv"):
        (tmp_path / "k" / "data" / name).unlink()
    found = import_kuairand(studio, tmp_path / "k")
    assert found.quarantined == {"shown": 2, "played": 1}
    said = dict(reasons(studio))
    assert said["played"] == "seconds == long, must be float"
    assert "the line has 6 fields, must have 19" in [r for f, r in reasons(studio) if f == "shown"]
    assert "append Title facts" in " ".join(found.notes())
    with pytest.raises(mt.MatineeError, match=r"must hold log_standard_\*\.csv"):
        import_kuairand(studio, tmp_path / "studio")
    (tmp_path / "k" / "data" / "log_random_4_22_to_5_08_pure.csv").write_text("user_id,video_id\n1,2\n")
    with pytest.raises(mt.MatineeError, match="must have one for 'time_ms'"):
        import_kuairand(studio, tmp_path / "k")
