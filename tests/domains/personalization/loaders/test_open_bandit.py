"""Open Bandit: items, clicks tied to their choices, propensities as they were logged; and evidence from them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.domains.personalization.loaders.reading_back import reasons, rows

import matinee as mt
from matinee.domains.personalization.facts import Clicked, Title
from matinee.domains.personalization.loaders import import_open_bandit
from matinee.domains.personalization.placement import placement

USER = ",".join(f"user_feature_{i}" for i in range(4))
HEAD = f",timestamp,item_id,position,click,propensity_score,{USER},user-item_affinity_0\n"


def campaign(path: Path, lines: list[str], items: int = 2) -> None:
    path.mkdir(parents=True)
    (path / "all.csv").write_text(HEAD + "\n".join(lines) + "\n")
    context = "".join(f"{i},{i},-0.{i},a{i},b,c\n" for i in range(items))
    (path / "item_context.csv").write_text(
        ",item_id,item_feature_0,item_feature_1,item_feature_2,item_feature_3\n" + context
    )


def line(row: int, item: int, click: int, propensity: float, position: int = 3) -> str:
    return f"{row},2019-11-24 00:{row // 60:02}:{row % 60:02}.762830+00:00,{item},{position},{click},{propensity},u0,u1,u2,u3,0.0"


def test_rows_become_choices_with_their_propensities(studio: mt.Studio, tmp_path: Path) -> None:
    campaign(tmp_path / "random" / "all", [line(0, 1, 0, 0.25), line(1, 0, 1, 0.75, 1)])
    found = import_open_bandit(studio, tmp_path / "random" / "all")
    assert (found.choices, found.quarantined) == (2, {})
    choices = studio.choices("placement").sort("at")
    assert choices["policy"].to_list() == ["logged by random"] * 2
    assert choices["propensities"].to_list() == [[0.25], [0.75]]
    assert choices["action"].to_list() == [["1"], ["0"]]
    assert choices["candidates"].to_list() == [["0", "1"]] * 2
    assert not choices["estimated"].any()
    assert json.loads(choices["context"][0]) == {f"user_feature_{i}": f"u{i}" for i in range(4)} | {"slot": 2}
    assert rows(studio, Clicked, "visit", "title", "slot", "choice") == [(choices["id"][1], 0, 0, choices["id"][1])]
    assert studio.facts.scan(Title).select("title", "genres").collect().sort("title").rows() == [
        (0, ["a0", "b", "c"]), (1, ["a1", "b", "c"]),
    ]  # fmt: skip
    assert import_open_bandit(studio, tmp_path / "random" / "all").again
    assert len(studio.choices("placement")) == 2


def test_a_policy_is_judged_on_the_log_as_by_hand(studio: mt.Studio, tmp_path: Path) -> None:
    """Item 1 was drawn with .8 and clicked 1 in 4, item 0 with .2 and clicked 1 in 2: uniform is worth .375."""
    rng = np.random.default_rng(0)
    n = 3000
    item = (rng.random(n) < 0.8).astype(int)
    click = (rng.random(n) < np.where(item == 1, 0.25, 0.5)).astype(int)
    lines = [line(i, int(item[i]), int(click[i]), 0.8 if item[i] else 0.2, 1) for i in range(n)]
    campaign(tmp_path / "bts", lines)
    assert import_open_bandit(studio, tmp_path / "bts").choices == n
    found = studio.evaluate(placement, mt.Uniform())
    assert found.refused is None
    low, high = found.interval  # type: ignore[misc]  # it was not refused
    assert low < 0.375 < high
    assert found.logged_value == pytest.approx(click.mean())
    by_hand = float(np.mean(click * 0.5 / np.where(item == 1, 0.8, 0.2)))
    assert found.value == pytest.approx(by_hand, abs=0.02)  # the same rows by plain inverse propensity


def test_a_crash_on_the_way_doubles_no_choice(studio: mt.Studio, tmp_path: Path) -> None:
    campaign(tmp_path / "random", [line(i, i % 2, i % 2, 0.5) for i in range(6)])

    def stop(_rows: int, what: str) -> None:
        if what == "importing choices":
            raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError):
        import_open_bandit(studio, tmp_path / "random", stop)
    import_open_bandit(studio, tmp_path / "random")
    assert len(studio.choices("placement")) == 6
    assert len(rows(studio, Clicked, "visit")) == 3


def test_rows_without_their_probability_are_held(studio: mt.Studio, tmp_path: Path) -> None:
    lines = [line(0, 1, 0, 0.5), line(1, 1, 1, 0.0), line(2, 9, 0, 0.5), line(3, 1, 2, 0.5), line(4, 1, 0, 0.5, 0)]
    campaign(tmp_path / "x", [*lines, "5,when,1,1,0,.5,a,b,c,d,0", "6,2019"])
    found = import_open_bandit(studio, tmp_path / "x")
    assert (found.choices, found.quarantined) == (1, {"clicked": 6})
    said = [r for _, r in reasons(studio)]
    assert said == sorted([
        "propensity_score, must be > 0 and <= 1", "item_id, must be an item of item_context.csv", "click, must be 0 or 1",
        "position, must be >= 1", "timestamp, must be a time", "the line has 2 fields, must have 11",
    ])  # fmt: skip


def test_one_campaign_at_a_time(studio: mt.Studio, tmp_path: Path) -> None:
    for name in ("random", "bts"):
        campaign(tmp_path / "obd" / name / "all", [line(0, 1, 0, 0.5)])
    with pytest.raises(mt.MatineeError, match="holds 2 logs .* must hold one"):
        import_open_bandit(studio, tmp_path / "obd")
    with pytest.raises(mt.MatineeError, match=r"must hold all\.csv, men\.csv or women\.csv"):
        import_open_bandit(studio, tmp_path / "studio")


def test_the_public_sample(studio: mt.Studio, shared_data: Path) -> None:
    found = import_open_bandit(studio, shared_data / "personalization" / "open-bandit" / "random-all")
    assert (found.choices, found.appended["clicked"], found.appended["title"], found.quarantined) == (
        10_000,
        38,
        80,
        {},
    )
    assert studio.choices("placement").select(pl.col("propensities").list.first().unique()).to_series().to_list() == [
        0.0125
    ]
    logged = studio.evaluate(placement, mt.Uniform())
    assert logged.logged_value == pytest.approx(0.0038)
    assert logged.value == pytest.approx(
        0.0038, abs=5e-5
    )  # uniform is what logged it; the model of the reward adds its noise
