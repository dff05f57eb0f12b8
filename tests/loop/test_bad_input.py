"""What a studio does with what it should not be given: a fallback that is logged, or one sentence that says what helps."""

from __future__ import annotations

import shutil
import sqlite3
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

import matinee as mt
from loop.running import Clock, live_without_gates, open_films
from loop.small_domain import Film, Watched, habit
from matinee.doctor import examine_folder
from matinee.exceptions import (
    BadInputError,
    DeclarationError,
    ReleaseError,
    StorageError,
    TableBusyError,
    UnknownNameError,
)
from matinee.ledger import recent
from matinee.registry import Registry
from matinee.tables import Tables


def _logged(studio: mt.Studio, choice: mt.Choice) -> mt.Choice:
    found = [r for r in recent(studio.root / "log") if r.id == choice.id]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def fresh(tmp_path: Path, clock: Clock) -> mt.Studio:
    """A studio without any film."""
    return open_films(tmp_path / "fresh", clock)


def test_a_decision_without_candidates_falls_back_and_is_logged(fresh: mt.Studio) -> None:
    live_without_gates(fresh, "front", mt.Uniform())
    with fresh:
        assert fresh.publish()["candidates"] == {"front": 0}
        choice = fresh.decide("front", 1, age=18)
        assert (choice.action, choice.propensities) == ([], [])
        assert choice.fallback == "there are no candidates"
        assert _logged(fresh, choice) == choice
        fresh.seal()
        assert fresh.choices("front")["fallback"].to_list() == ["there are no candidates"]


def test_all_masked_and_a_guard_that_raises_fall_back_and_are_logged(served: mt.Studio) -> None:
    masked = served.decide("front", 1, age=-1)
    assert masked.fallback == "every candidate is kept out: maturity"
    nobody = served.decide("reach", "nobody")
    assert (nobody.action, nobody.fallback) == (["none"], "every candidate is kept out: not by mail")
    raised = served.decide("letter", "faulty")
    assert raised.action == ["none"]
    assert raised.fallback is not None
    assert "faulty" in raised.fallback
    assert "the guard's own fault" in raised.fallback
    for choice in (masked, nobody, raised):
        assert _logged(served, choice).fallback == choice.fallback
    assert served.decide("letter", "sound").fallback is None


def test_a_missing_unit_and_an_unknown_decision_are_named(served: mt.Studio) -> None:
    with pytest.raises(mt.MatineeError, match="viewer is missing, must be given"):
        served.decide("front")
    with pytest.raises(UnknownNameError, match="did you mean 'front'"):
        served.decide("frnt", 1)
    with pytest.raises(UnknownNameError, match="policy == 'front@99'"):
        served.evaluate("front", "front@99")


def test_a_clock_that_goes_back_between_decisions_loses_nothing(served: mt.Studio, clock: Clock) -> None:
    first = served.decide("front", 5, age=18)
    there = clock.now
    clock.now = there - timedelta(hours=2)
    try:
        second = served.decide("front", 5, age=18)
        served.record(second, "watched", {"viewer": 5, "film": second.action[0], "seconds": 1.0})
    finally:
        clock.now = there + timedelta(minutes=1)
    assert second.at < first.at
    assert (first.fallback, second.fallback) == (None, None)
    served.seal()
    ids = served.choices("front")["id"].to_list()
    assert ids.count(first.id) == ids.count(second.id) == 1
    assert served.as_of(Watched).filter(pl.col("choice") == second.id).height == 1


def test_a_model_file_cut_short_is_refused_at_the_gate_and_named_by_the_doctor(served: mt.Studio, clock: Clock) -> None:
    labels = pl.DataFrame({"unit": [1, 2] * 10, "at": [clock()] * 20, "action": [1, 6] * 10, "y": [0.0, 1.0] * 10})
    model = served.train("front", mt.Logistic(min_rows=1), on=[habit], labels=labels, name="cut")
    policy = served.save_policy("front", mt.Softmax(model))
    assert next(f for f in served.doctor().findings if f.check == "models").state == "ok"
    [*files] = [p for p in served.shelf.path("cut@1").rglob("*") if p.suffix in (".safetensors", ".txt")]
    whole = {p: p.read_bytes() for p in files}
    assert whole
    for path, data in whole.items():
        path.write_bytes(data[: len(data) // 2])
    try:
        with pytest.raises(ReleaseError, match="gate 'loads in a fresh process' is not passed: .*"):
            served.release("front", policy, 1.0, without_evidence="a test")
        assert served.releases.live("front").policies == ["front@1"]  # type: ignore[union-attr]
        found = next(f for f in served.doctor().findings if f.check == "models")
        assert (found.state, found.detail) == ("broken", "cut@1 changed or missing on disk")
        assert found.mend
    finally:
        for path, data in whole.items():
            path.write_bytes(data)


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "", ".hidden", "a@1", "a\\b"])
def test_names_are_no_paths(served: mt.Studio, name: str, clock: Clock) -> None:
    before = set(served.root.parent.iterdir())
    labels = pl.DataFrame({"unit": [1, 2], "at": [clock()] * 2, "action": [1, 6], "y": [0.0, 1.0]})
    if name:
        with pytest.raises(mt.MatineeError, match="must be letters, digits"):
            served.train("front", mt.Logistic(min_rows=1), on=[habit], labels=labels, name=name)
        with pytest.raises(DeclarationError, match="decision name =="):
            mt.Decision(name, unit="viewer", among=["a"])
    with pytest.raises(mt.MatineeError):
        served.scorer(name)
    with pytest.raises(UnknownNameError, match="batch =="):
        served.quarantine.rows(name)
    with pytest.raises(UnknownNameError, match="fact =="):
        served.append(name, [{"a": 1}])
    assert set(served.root.parent.iterdir()) == before


def test_duplicate_keys_within_a_frame_go_to_quarantine(served: mt.Studio, clock: Clock) -> None:
    one = {"account": "d", "payment": "twice", "amount_minor": 1, "currency": "EUR", "at": clock()}
    done = served.append("paid", [one, {**one, "amount_minor": 2}])
    assert (done.appended, done.quarantined) == (1, 1)
    [held] = served.quarantine.rows(done.batches[0])
    assert "duplicate" in held.reasons[0]
    served.quarantine.drop(done.batches[0])


def test_frames_and_labels_of_a_wrong_shape_are_refused_whole(served: mt.Studio, clock: Clock) -> None:
    before = served.tables.snapshot("watched")
    with pytest.raises(mt.MatineeError, match="viewr"):
        served.append(Watched, pl.DataFrame({"viewr": [1], "film": [1], "seconds": [1.0], "at": [clock()]}))
    with pytest.raises(BadInputError, match="rows are int"):
        served.append(Watched, 7)
    assert served.tables.snapshot("watched") == before
    empty = pl.DataFrame(schema={"unit": pl.Int64, "at": pl.Datetime("us", "UTC"), "action": pl.Int64, "y": pl.Float64})
    with pytest.raises(BadInputError, match="labels have 0 rows"):
        served.train("front", mt.Logistic(), on=[habit], labels=empty)
    bad = pl.DataFrame({"unit": [1], "at": [clock()], "action": [1], "y": [float("nan")]})
    with pytest.raises(BadInputError, match="labels.y holds empty or non-finite"):
        served.train("front", mt.Logistic(), on=[habit], labels=bad)
    with pytest.raises(mt.MatineeError, match="must be a column of the labels"):
        served.train("front", mt.Logistic(), on=[habit], labels=bad.drop("y"))


def test_an_outcome_from_the_future_is_refused(served: mt.Studio, clock: Clock) -> None:
    choice = served.decide("front", 4, age=18)
    with pytest.raises(mt.MatineeError, match="must not be after the time it is known"):
        served.record(choice, "watched", {"viewer": 4, "film": 1, "seconds": 1.0}, at=clock() + timedelta(days=2))


def test_a_registry_held_by_another_process_is_busy_not_broken(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "studio.db", timeout=0.1)
    other = sqlite3.connect(tmp_path / "studio.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(TableBusyError, match="studio.db is held by another process for more than 0.1 s"):
        registry.reserve("seq")
    other.execute("ROLLBACK")
    assert registry.reserve("seq") == 1
    other.close()
    registry.close()


def test_a_catalog_held_by_another_process_is_busy_not_broken(tmp_path: Path, clock: Clock) -> None:
    open_films(tmp_path / "held", clock).close()
    tables = Tables(tmp_path / "held", lock_timeout=0.2)
    row = pl.DataFrame({"film": [1], "maturity": [0], "stars": [1.0]}).with_columns(
        at=pl.lit(clock()).cast(pl.Datetime("us", "UTC")), known=pl.lit(clock()).cast(pl.Datetime("us", "UTC")),
        seq=pl.lit(1, pl.Int64), choice=pl.lit(None, pl.String), outcome=pl.lit(None, pl.String),
    )  # fmt: skip
    other = sqlite3.connect(tmp_path / "held" / "tables.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(TableBusyError):
        tables.append("film", row)
    other.execute("ROLLBACK")
    other.close()
    assert tables.rows("film") == 0
    assert tables.append("film", row).rows == 1


def test_a_folder_that_was_moved_or_copied_says_where_it_was_made(tmp_path: Path, clock: Clock) -> None:
    with open_films(tmp_path / "here", clock) as studio:
        studio.append(Film, [{"film": 1, "maturity": 0, "stars": 1.0, "at": clock()}])
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    with pytest.raises(StorageError, match=r"must be .*here.*where its tables were made"):
        mt.open(tmp_path / "there")
    [found] = examine_folder(tmp_path / "there").findings
    assert (found.check, found.state) == ("opening", "broken")
    assert str(tmp_path / "here") in found.detail
    with open_films(tmp_path / "here", clock) as studio:
        assert len(studio.as_of(Film)) == 1


def test_a_damaged_registry_is_named_and_nothing_is_written_over_it(tmp_path: Path, clock: Clock) -> None:
    open_films(tmp_path / "films", clock).close()
    database = tmp_path / "films" / "studio.db"
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    database.write_bytes(b"not a database at all " * 400)
    damaged = database.read_bytes()
    with pytest.raises(StorageError, match=r"studio\.db: file is not a database"):
        mt.open(tmp_path / "films")
    assert database.read_bytes() == damaged
    report = examine_folder(tmp_path / "films")
    assert not report.healthy
    assert "studio.db" in str(report)


def test_a_layout_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "studio.json").write_text('{"layout": 99}')
    with pytest.raises(StorageError, match="has layout 99, must be 1"):
        mt.open(tmp_path)


def test_the_studio_is_unharmed_by_all_of_this(served: mt.Studio) -> None:
    assert served.doctor().healthy
