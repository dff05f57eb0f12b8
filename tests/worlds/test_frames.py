"""The frames against the domains' own fact classes, and against the promises of the world."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from matinee.domains.payments.facts import FACTS as PAYMENT_FACTS
from matinee.domains.personalization.facts import FACTS as VIEWING_FACTS
from matinee.facts import Fact
from matinee.rights import Consent
from matinee.validate import check_rows
from matinee.worlds import TABLES, StreamingService

CLASSES: dict[str, type[Fact]] = {fact.schema.name: fact for fact in [*VIEWING_FACTS, *PAYMENT_FACTS, Consent]}


@pytest.mark.parametrize("name", TABLES)
def test_frame_is_what_the_domain_declares(name: str, world: StreamingService) -> None:
    schema, frame = CLASSES[name].schema, world.frames()[name]
    assert frame.height > 0
    declared = {**schema.polars()}
    assert {c: frame.schema[c] for c in frame.columns} == {c: declared[c] for c in frame.columns}
    checked = check_rows(schema, frame, now=world.end)
    assert checked.bad.height == 0, checked.bad["reasons"].head(3)
    assert checked.good.height == frame.height


@pytest.mark.parametrize("name", TABLES)
def test_nothing_is_known_before_it_happens_unless_it_is_scheduled(name: str, world: StreamingService) -> None:
    frame = world.frames()[name]
    if CLASSES[name].schema.scheduled:
        assert (frame["known"] < frame["at"]).all()
    else:
        assert (frame["known"] >= frame["at"]).all()


def test_plays_from_offline_devices_are_hours_late(world: StreamingService) -> None:
    late = (pl.col("known") - pl.col("at")).dt.total_seconds() - pl.col("seconds")
    frame = world.frames()["played"].with_columns(late.alias("late"))
    slow = frame.filter(pl.col("late") > 2 * 3600)
    assert set(slow["device"]) == {"phone", "tablet"}
    mobile = frame.filter(pl.col("device").is_in(["phone", "tablet"]))
    assert slow.height / mobile.height == pytest.approx(world.settings.offline_share, abs=0.03)
    assert slow["late"].mean() / 3600 == pytest.approx(2 + world.settings.offline_delay_hours, rel=0.3)
    assert frame.filter(pl.col("device") == "tv")["late"].max() <= 40


def test_some_payment_answers_are_late(world: StreamingService) -> None:
    late = (pl.col("known") - pl.col("at")) > pl.duration(minutes=5)
    assert 0 < world.frames()["attempt"].filter(late).height / world.frames()["attempt"].height < 0.03


def test_every_play_and_impression_has_a_licence(world: StreamingService) -> None:
    made = world.frames()
    windows = made["licence"].select("title", "starts", "ends")
    for name in ("played", "shown"):
        rows = made[name].with_row_index("row").join(windows, on="title")
        inside = (pl.col("starts") <= pl.col("at")) & (pl.col("ends").is_null() | (pl.col("at") < pl.col("ends")))
        assert rows.filter(inside)["row"].n_unique() == made[name].height
    assert windows["ends"].null_count() > 0
    ended = made["licence"].filter(pl.col("ends") < world.now)
    assert ended.height > 0  # some windows close within the history, or the test shows nothing


def test_nobody_plays_above_their_limit_or_before_they_join(world: StreamingService) -> None:
    made = world.frames()
    members = made["member"].select("member", "maturity", pl.col("at").alias("joined"))
    titles = made["title"].select("title", pl.col("maturity").alias("age"))
    rows = made["played"].join(members, on="member").join(titles, on="title")
    assert rows.height == made["played"].height
    assert (rows["age"] <= rows["maturity"]).all()
    assert (rows["at"] > rows["joined"]).all()
    assert made["member"].filter(pl.col("at") > world.start).height > 0  # cold starts


def test_same_seed_same_bytes_and_another_seed_others() -> None:
    def bytes_of(seed: int) -> dict[str, bytes]:
        made = StreamingService(seed, members=150, titles=60, days=6).frames(duplicates=0.05, bad=0.05)
        return {name: frame.write_ipc(None, compression="uncompressed").getvalue() for name, frame in made.items()}

    first, again, other = bytes_of(5), bytes_of(5), bytes_of(6)
    assert first == again
    assert all(first[name] != other[name] for name in TABLES if name != "processor")


def test_duplicates_and_bad_rows_on_request(world: StreamingService) -> None:
    clean, made = world.frames()["played"], world.frames(duplicates=0.1, bad=0.06)["played"]
    extra = made.height - clean.height
    assert extra == pytest.approx(0.16 * clean.height, rel=0.2)
    assert made[: clean.height].equals(clean)
    checked = check_rows(CLASSES["played"].schema, made, now=world.end)
    assert checked.bad.height == pytest.approx(0.06 * clean.height, rel=0.25)
    assert checked.bad["reasons"].list.join("; ").n_unique() >= 3
    assert made.height - made.unique().height == pytest.approx(0.1 * clean.height, rel=0.25)


def test_frames_known_by_a_moment(world: StreamingService) -> None:
    made = world.frames(known_by=world.now)
    assert made["played"]["known"].max() <= world.now
    assert made["played"].height < world.frames()["played"].height  # the last hours' late reports are missing
    assert made["licence"]["starts"].max() > world.now  # announced before, starting after
    rest = world.frames(known_after=world.now)
    for name in TABLES:
        assert made[name].height + rest[name].height == world.frames()[name].height
    assert rest["title"].height > 0


def test_names_are_different_and_ids_dense(world: StreamingService) -> None:
    titles = world.frames()["title"]
    assert titles["name"].n_unique() == titles.height
    assert (titles["title"].to_numpy() == np.arange(1, titles.height + 1)).all()
