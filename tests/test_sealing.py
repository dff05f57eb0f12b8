"""The studio's side of sealing: bad rows wait together, and an outcome counts once whichever way it comes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import pytest

import matinee as mt
from matinee.exceptions import BadInputError, UnknownColumnError
from matinee.quarantine import Quarantine
from matinee.rewarded import SLOT_COLUMNS, rewarded_slots


class Answered(mt.Fact, key="person"):
    person: str
    stars: Annotated[int, mt.Range(ge=1)]


class Relaxed(mt.Fact, key="person", table="answered"):
    """`Answered` after somebody saw that no star is an answer too."""

    person: str
    stars: int


ask = mt.Decision("ask", unit="person", among=["mail", "call"], reward=mt.count(Relaxed, within="1d"))


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[mt.Studio]:
    with mt.open(tmp_path / "studio") as opened:
        opened.facts.register(Answered)
        yield opened


def bad(studio: mt.Studio, person: str = "ann", **given: Any) -> mt.Choice:
    """A choice of today, and an outcome of it that does not fit its fact."""
    choice = mt.Choice(
        id=f"c-{person}", decision="ask", unit=person, at=datetime.now(UTC) - timedelta(minutes=1), policy="x",
        action=["mail"], propensities=[0.5], candidates=["mail", "call"],
    )  # fmt: skip
    studio.log([choice])
    studio.record(choice, "answered", {"person": person, "stars": 0}, **{"id": f"o-{person}", **given})
    return choice


def counted(studio: mt.Studio) -> pl.DataFrame:
    return studio.facts.scan("answered").collect()


def test_a_seal_keeps_its_bad_rows_in_one_batch_each_with_its_place(studio: mt.Studio) -> None:
    for i in range(300):
        studio.record(f"c{i}", "answered", {"person": f"p{i}", "stars": 0})
    assert studio.seal().quarantined == 300
    [(fact, batch)] = studio.quarantine.batches()
    held = studio.quarantine.rows(batch)
    assert (fact, len(held), len({h.source for h in held})) == ("answered", 300, 300)


@pytest.mark.parametrize("resent_first", [True, False])
def test_an_outcome_that_is_retried_and_sent_again_counts_once(studio: mt.Studio, resent_first: bool) -> None:
    choice = bad(studio)
    studio.seal()
    [(_, batch)] = studio.quarantine.batches()
    studio.facts.register(Relaxed)

    def resend() -> None:
        studio.record(choice, "answered", {"person": "ann", "stars": 0}, id="o-ann")
        studio.seal()

    if resent_first:
        resend()
    done = studio.facts.retry(batch)
    assert (done.appended, done.quarantined) == (0 if resent_first else 1, 0)
    if not resent_first:
        resend()
    rows = counted(studio)
    assert rows.select("choice", "outcome").rows() == [("c-ann", "o-ann")]
    assert studio.quarantine.count() == 0
    slots = rewarded_slots(studio, ask, studio.choices("ask"))
    assert slots["reward"].to_list() == [1.0]


def test_retried_outcomes_that_are_still_bad_wait_on(studio: mt.Studio) -> None:
    bad(studio)
    studio.seal()
    [(_, batch)] = studio.quarantine.batches()
    done = studio.facts.retry(batch)
    assert (done.appended, done.quarantined) == (0, 1)
    assert [b for _, b in studio.quarantine.batches()] == list(done.batches) != [batch]
    [held] = studio.quarantine.rows(done.batches[0])
    assert (held.row["outcome"], held.row["choice"]) == ("o-ann", "c-ann")


@pytest.mark.parametrize("logged", [True, False], ids=["outcome", "appended"])
def test_a_retry_that_dies_before_the_batch_is_gone_can_be_repeated(
    studio: mt.Studio, monkeypatch: pytest.MonkeyPatch, logged: bool
) -> None:
    if logged:
        bad(studio)
        studio.seal()
    else:
        studio.append(Answered, [{"person": "ann", "stars": 0, "at": datetime.now(UTC)}])
    [(_, batch)] = studio.quarantine.batches()
    studio.facts.register(Relaxed)

    def dies(self: Quarantine, batch: str) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Quarantine, "let_go", dies)
        with pytest.raises(KeyboardInterrupt):
            studio.facts.retry(batch)
    assert len(counted(studio)) == 1
    [(_, left)] = studio.quarantine.batches()
    done = studio.facts.retry(left)
    assert (done.appended, len(counted(studio)), studio.quarantine.count()) == (0, 1, 0)


def test_the_same_bad_rows_sent_again_after_a_retry_are_not_taken_for_done(studio: mt.Studio) -> None:
    row = {"person": "ann", "stars": 0, "at": datetime.now(UTC) - timedelta(hours=1)}
    for n in (1, 2):
        studio.facts.register(Answered)
        [batch] = studio.append(Answered, [row]).batches
        studio.facts.register(Relaxed)
        studio.facts.retry(batch)
        assert len(counted(studio)) == n


def test_a_retry_that_is_refused_whole_leaves_the_batch_as_it_was(studio: mt.Studio) -> None:
    batch = studio.quarantine.put("answered", [({"person": "ann"}, ["cut short"])], "by hand")
    with pytest.raises(BadInputError, match="'stars' is missing"):
        studio.facts.retry(batch or "")
    assert studio.quarantine.batches() == [("answered", batch)]


def test_lines_of_the_log_are_no_rows_to_retry(studio: mt.Studio) -> None:
    batch = studio.quarantine.put("log", [({"line": "x"}, ["cut"])], "web-00000000/000001:0")
    with pytest.raises(mt.MatineeError, match="lines of the log"):
        studio.facts.retry(batch or "")


def test_outcome_ids_come_by_the_log_alone(studio: mt.Studio) -> None:
    row = {"person": "ann", "stars": 3, "at": datetime.now(UTC), "choice": "c", "outcome": "o"}
    with pytest.raises(BadInputError, match="studio.record"):
        studio.append(Answered, [row])
    assert studio.append(Answered, [{**row, "outcome": None}]).appended == 1


def test_choices_are_read_by_column(studio: mt.Studio) -> None:
    studio.add_decision(ask)
    assert studio.choices("ask", columns=["unit"]).columns == ["unit"]
    for person in ("ann", "bob"):
        bad(studio, person)
    everything = studio.choices("ask")
    some = studio.choices("ask", columns=["unit", "id"], limit=1)
    assert some.equals(everything.select("unit", "id").head(1))
    assert rewarded_slots(studio, ask, studio.choices("ask", columns=SLOT_COLUMNS)).equals(
        rewarded_slots(studio, ask, everything)
    )
    with pytest.raises(UnknownColumnError, match="column == 'units'"):
        studio.choices("ask", columns=["units"])


@pytest.mark.parametrize("person", ["ann", "7"])
def test_an_erasure_takes_what_waits_of_a_person_and_nothing_else(studio: mt.Studio, person: str) -> None:
    studio.add_decision(ask)
    bad(studio, person)
    bad(studio, "other")
    studio.seal()
    lines = [f'{{"type":"choice","unit":"{person}","x', f'{{"type":"choice","unit":{person},"x', '{"unit":"77","x']
    studio.quarantine.put("log", [({"line": line}, ["cut"]) for line in lines], "web-00000000/000001:0")
    studio.quarantine.put("plaid", [({"answer": 1, "choice": f"c-{person}"}, ["no fact"])], "log")
    studio.quarantine.put("answered", [({"person": f" {person} ", "stars": "x"}, ["no number"])], "a.csv")
    done = studio.erase("person", person)
    assert done.quarantined == 5
    left = [h.row for _, b in studio.quarantine.batches() for h in studio.quarantine.rows(b)]
    assert sorted(map(str, (r.get("person", r.get("line")) for r in left))) == ["other", '{"unit":"77","x']
