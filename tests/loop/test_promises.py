"""The promises at the level of a whole studio, each tried to be broken; 1, 3 and 9 have unit tests of their own as well."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

import matinee as mt
from loop.running import Clock, decide_many, history, live_without_gates, open_films
from loop.small_domain import Watched, habit
from matinee.exceptions import ConsentError, LeakError
from matinee.workshop import reproduce

MARKER = "marker-5a1c0e-of-one-person"


def _files(root: Path) -> list[Path]:
    return [p for p in root.rglob("*") if p.is_file()]


def _holding(root: Path, text: str) -> list[str]:
    """Files that hold the text: as raw bytes, or decoded where Parquet or Avro packs them."""
    found = []
    for path in _files(root):
        if text.encode() in path.read_bytes():
            found.append(str(path.relative_to(root)))
        elif path.suffix == ".parquet":
            frame = pl.read_parquet(path)
            words = [c for c, t in frame.schema.items() if t == pl.String]
            if any(frame[c].str.contains(text, literal=True).any() for c in words):
                found.append(str(path.relative_to(root)))
    return found


# 1 and 3


def test_promise_1_the_guards_bite_before_the_draw(served: mt.Studio) -> None:
    for k in range(50):
        choice = served.decide("front", k, age=12)
        assert choice.blocked == {"maturity": [5, 6]}
        assert choice.candidates == [1, 2, 3, 4]
        assert choice.action[0] in choice.candidates
        assert choice.propensities == pytest.approx([1 / 4])


def test_promise_3_every_row_is_in_its_table_or_in_quarantine_with_a_reason(served: mt.Studio, clock: Clock) -> None:
    before = len(served.as_of("wrote"))
    stars = [5, 0, 3, 9, -2, 1]
    frame = pl.DataFrame({"account": ["p3"] * 6, "text": ["x"] * 6, "stars": stars, "at": [clock()] * 6})
    done = served.append("wrote", frame)
    assert (done.appended, done.quarantined) == (3, 3)
    assert len(served.as_of("wrote")) == before + 3
    held = served.quarantine.rows(done.batches[0])
    assert [h.row["stars"] for h in held] == [0, 9, -2]
    assert all(h.reasons for h in held)
    served.quarantine.drop(done.batches[0])


# 2


def test_promise_2_what_was_learned_later_is_in_no_feature(served: mt.Studio, clock: Clock) -> None:
    now = clock()
    early, late = now - timedelta(days=3), now - timedelta(days=1)
    rows = {"viewer": [901, 901], "film": [1, 2], "seconds": [100.0, 7000.0], "at": [early, early], "known": [early, late]}
    served.append("watched", pl.DataFrame(rows))
    asked = pl.DataFrame({"viewer": [901] * 3, "at": [early, late - timedelta(microseconds=1), late]})
    assert habit.batch(served.facts, asked)["seconds"].to_list() == [100.0, 100.0, 7100.0]


def test_promise_2_labels_at_one_time_see_no_fact_of_a_later_one(served: mt.Studio, clock: Clock) -> None:
    """A label that is exactly the next thing watched: nothing at the label's time may give it away."""
    now = clock() - timedelta(days=9)
    times = [now + timedelta(hours=k) for k in range(40)]
    seconds = [float(3000 * (k * k % 3 % 2)) for k in range(40)]
    served.append(Watched, pl.DataFrame({"viewer": [902] * 40, "film": [1] * 40, "seconds": seconds, "at": times}))
    before = [t - timedelta(microseconds=1) for t in times]
    labels = pl.DataFrame({"viewer": [902] * 40, "at": before})
    found = habit.batch(served.facts, labels.with_columns(pl.col("at").cast(pl.Datetime("us", "UTC"))))
    # `known` was not given, so it is the time of appending: at none of these times was any of it known.
    assert found["plays"].fill_null(0).sum() == 0


@pytest.mark.parametrize("name", ["reward", "outcome", "y"])
def test_promise_2_a_column_that_is_known_only_later_is_refused(served: mt.Studio, clock: Clock, name: str) -> None:
    labels = pl.DataFrame({"unit": [1], "at": [clock()], "action": [1], "y": [1.0], f"context.{name}": [1.0]})
    with pytest.raises(LeakError, match=f"'context.{name}' is known only after the decision"):
        served.train("front", mt.Logistic(), on=[habit], labels=labels, context=[name])


# 4


@pytest.fixture(scope="module")
def erasing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[mt.Studio, Clock]]:
    """A studio in which one person is everywhere: tables, a pinned set, the log, quarantine, the online store."""
    clock = Clock()
    with open_films(tmp_path_factory.mktemp("erasing") / "films", clock) as studio:
        history(studio, clock, 20)
        for account in (MARKER, "someone-else"):
            for k in range(3):
                row = {"account": account, "text": f"letter {k} of {account}", "stars": 3, "at": clock()}
                studio.append("wrote", [row])
            studio.append("wrote", [{"account": account, "text": f"bad one of {account}", "stars": 77, "at": clock()}])
            paid = {"account": account, "payment": f"p-{account}", "amount_minor": 499, "currency": "EUR"}
            studio.append("paid", [{**paid, "at": clock()}])
            studio.append("consent", [{"person": account, "purpose": "letters", "granted": True, "at": clock()}])
        live_without_gates(studio, "reach", mt.Uniform())
        live_without_gates(studio, "front", mt.Uniform())
        studio.publish()
        studio.refresh()
        decide_many(studio, clock, 60, 20)
        for account in (MARKER, "someone-else"):
            choice = studio.decide("reach", account, said=f"context of {account}")
            studio.record(choice, "wrote", {"account": account, "text": f"answer of {account}", "stars": 5})
        clock.forward(days=3)
        studio.seal()
        studio.train("front", mt.Logistic(), on=[habit])
        units, actions = [MARKER, "someone-else"] * 2, ["mail", "mail", "call", "call"]
        voices = pl.DataFrame({"unit": units, "at": [clock()] * 4, "action": actions, "y": [1.0, 0.0, 0.0, 1.0]})
        studio.train("reach", mt.Logistic(), on=[studio.features["voice"]], labels=voices, name="voices")
        studio.publish()
        studio.refresh()
        studio.decide("reach", MARKER, said="in the open log")
        studio.features_of("said", MARKER)
        yield studio, clock


def test_promise_4_no_byte_of_an_erased_person_is_left(erasing: tuple[mt.Studio, Clock]) -> None:
    studio, _clock = erasing
    places = {p.split("/")[0] for p in _holding(studio.root, MARKER)}
    assert places >= {"tables", "online", "quarantine", "log"}, "the test would prove nothing"
    done = studio.erase("account", MARKER)
    assert _holding(studio.root, MARKER) == []
    assert done.tables == {"wrote": 4, "paid": 1, "consent": 1, "choices": 2, "outcomes": 1}
    assert done.pins == {"wrote@train-voices-1": 4, "choices@train-front-ranker-1": 1}
    assert done.quarantined == 1
    pin = studio.graph.get("pin://wrote@train-voices-1").data
    assert (pin["rows"], pin["erased"]) == (8, 4)
    assert (studio.features_of("voice", MARKER)["letters"] or 0, studio.features_of("said", MARKER)["text"]) == (0, None)
    assert studio.as_of("wrote")["account"].unique().to_list() == ["someone-else"]
    assert studio.features_of("voice", "someone-else")["letters"] == 4
    assert studio.erase("account", MARKER).total == 0


def test_promise_4_a_member_with_a_number_is_in_no_data_file(erasing: tuple[mt.Studio, Clock]) -> None:
    studio, clock = erasing
    before = reproduce(studio, "front-ranker@1")
    assert (before.same_data, before.same_model) == (True, True)
    done = studio.erase("viewer", 13)
    assert done.tables["watched"] > 0
    left = []
    for path in (p for p in _files(studio.root) if p.suffix == ".parquet"):
        frame = pl.read_parquet(path)
        if "viewer" in frame.columns and (frame["viewer"] == 13).any():
            left.append(path.name)
        if {"unit", "decision"} <= set(frame.columns):
            left += [path.name] * len(frame.filter((pl.col("unit") == "13") & (pl.col("decision") == "front")))
    assert left == []
    again = reproduce(studio, "front-ranker@1")
    assert not again.same_data
    lost = done.pins["watched@train-front-ranker-1"] + done.pins["choices@train-front-ranker-1"]
    assert again.erased - before.erased == lost > 0
    clock.forward(minutes=1)
    assert studio.doctor().healthy


# 5 is in test_loop, where a studio is replayed; 6 here for what evaluate gives, 7 for what exists in the core


def test_promise_6_no_number_without_its_interval(served: mt.Studio) -> None:
    served.seal()
    found = served.evaluate("front", mt.Uniform(), record=False)
    for row in found.rows():
        assert (row["value"] is None) == (row["interval"] is None), row
    assert found.value is None
    assert found.refused


def test_promise_7_money_is_whole_minor_units_and_a_payment_counts_once(served: mt.Studio, clock: Clock) -> None:
    one = {"account": "a", "payment": "p1", "amount_minor": 499, "currency": "EUR", "at": clock()}
    assert served.append("paid", [one]).appended == 1
    clock.forward(hours=1)
    late = {**one, "at": clock()}
    assert (served.append("paid", [late]).appended, served.append("paid", [one]).appended) == (0, 0)
    done = served.append("paid", pl.DataFrame({**{k: [v] for k, v in one.items()}, "amount_minor": [4.99], "payment": ["p2"]}))
    assert (done.appended, done.quarantined) == (0, 1)
    paid = served.as_of("paid").filter(pl.col("payment") == "p1")
    assert paid["amount_minor"].to_list() == [499]
    assert paid["amount_minor"].dtype == pl.Int64


# 8


def test_promise_8_default_deny_with_the_rule_that_denied(served: mt.Studio, clock: Clock) -> None:
    with pytest.raises(ConsentError, match="eve: no consent for 'voice' was ever given"):
        served.require_consent("eve", "voice")
    served.append("consent", [{"person": "eve", "purpose": "voice", "granted": True, "at": clock()}])
    clock.forward(minutes=1)
    served.require_consent("eve", "voice")
    with pytest.raises(ConsentError, match="no consent for 'training'"):
        served.require_consent("eve", "training")
    served.append("consent", [{"person": "eve", "purpose": "voice", "granted": False, "at": clock()}])
    clock.forward(minutes=1)
    with pytest.raises(ConsentError, match="was withdrawn"):
        served.require_consent("eve", "voice")


def test_the_search_for_bytes_sees_into_packed_files(tmp_path: Path) -> None:
    text = hashlib.blake2b(b"x").hexdigest()
    pl.DataFrame({"a": [text] * 9}).write_parquet(tmp_path / "a.parquet", compression="zstd")
    (tmp_path / "b.txt").write_text("nothing")
    assert _holding(tmp_path, text) == ["a.parquet"]
