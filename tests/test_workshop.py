"""Learning from what units allow: the source of a decision, functions of labels, and scorers that are kept."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

import matinee as mt
from matinee.exceptions import BadInputError, ConsentError
from matinee.scorers import register

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BEFORE = NOW - timedelta(days=9)


class Wrote(mt.Fact, key="letter"):
    """A letter, by somebody: not keyed by the unit, and about it all the same."""

    letter: int
    account: str
    stars: int


class Weather(mt.Fact, key="town"):
    """About nobody."""

    town: str
    rain: float


asking = mt.Decision("asking", unit="account", among=["mail", "call"], consent="letters")
free = mt.Decision("free", unit="person", among=["mail", "call"])


@register
class Constant:
    """A scorer that needs nothing."""

    kind: ClassVar[str] = "test-constant"
    name, needs = "", ()

    def score(self, request: mt.Request, candidates: mt.Candidates) -> mt.Scores:
        return mt.Scores(np.zeros(len(candidates)))

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def load(cls, folder: Path) -> Constant:
        return cls()


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[mt.Studio]:
    """Ann allows letters and voice, Bob letters; Cy withdrew, Di's word has ended, Ed allows voice, Fay never spoke."""
    with mt.open(tmp_path / "s", clock=lambda: NOW) as made:
        made.use(mt.Domain("post", facts=[Wrote, Weather], decisions=[asking, free]))
        times = {"at": BEFORE, "known": BEFORE}
        names = ["ann", "bob", "cy", "di", "ed", "fay"]
        made.append(Wrote, [{"letter": i, "account": n, "stars": i % 2, **times} for i, n in enumerate(names)])
        made.append(Weather, [{"town": "Delft", "rain": 1.0, **times}])
        said: list[tuple[str, str, bool, datetime | None]] = [
            ("ann", "letters", True, None), ("ann", "voice", True, None), ("bob", "letters", True, NOW + timedelta(days=1)),
            ("cy", "letters", True, None), ("cy", "letters", False, None), ("di", "letters", True, NOW),
            ("ed", "voice", True, None),
        ]  # fmt: skip
        for person, purpose, granted, until in said:
            made.append(mt.Consent, [{"person": person, "purpose": purpose, "granted": granted, "until": until, **times}])
        yield made


def accounts(source: Any, **options: Any) -> list[str]:
    found: list[str] = source.scan(Wrote, **options).collect()["account"].sort().to_list()
    return found


def test_a_source_holds_only_rows_of_units_that_allow_it(studio: mt.Studio) -> None:
    assert accounts(studio.source("asking")) == ["ann", "bob"]
    assert accounts(studio.source("asking", consent="voice")) == ["ann"]
    narrow = studio.source("asking").scan(Wrote, ["letter"]).collect()
    assert narrow.columns == ["letter"]
    assert sorted(narrow["letter"].to_list()) == [0, 1]
    assert len(studio.source("asking").scan(Weather).collect()) == 1
    assert len(accounts(studio.source("free"))) == 6, "it asks for nothing"
    assert studio.source("free", consent="voice").scan(mt.Consent).collect().height == 7, "a person may be the unit"


def test_a_source_stays_at_the_snapshots_that_it_read_first(studio: mt.Studio) -> None:
    source = studio.source("asking")
    assert accounts(source) == ["ann", "bob"]
    studio.append(Wrote, [{"letter": 9, "account": "ann", "stars": 1, "at": BEFORE, "known": BEFORE}])
    assert accounts(source) == ["ann", "bob"]


def test_what_learned_from_people_is_kept_only_if_they_were_asked(studio: mt.Studio) -> None:
    with pytest.raises(ConsentError, match=r"facts holds Wrote, .* \(account\), .*studio.source\('asking'\)"):
        studio.keep("mine", Constant(), facts=[Weather, Wrote])
    assert not list(studio.graph.nodes("model"))
    studio.keep("rain", Constant(), facts=[Weather])
    assert "consent" not in studio.graph.get("model://rain@1").data
    source = studio.source("asking", consent="voice")
    accounts(source)
    studio.keep("mine", Constant(), facts=source)
    record = studio.graph.get("model://mine@1").data
    assert record["consent"] == ["letters", "voice"]
    assert set(record["snapshots"]) == {"wrote", "consent"}
    assert datetime.fromisoformat(record["learned_until"]) == NOW
    assert {p.tag for p in studio.tables.pins("wrote")} == {"train-mine-1"}


class FromLetters:
    """A function of labels that counts stars over all that it is shown."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, source: Any) -> pl.DataFrame:
        self.seen = accounts(source)
        return pl.DataFrame({"unit": ["ann", "bob"], "at": [NOW] * 2, "action": ["mail", "call"], "y": [1.0, 0.0]})


def test_a_function_of_labels_is_shown_only_what_units_allow(studio: mt.Studio) -> None:
    labels = FromLetters()
    kept = studio.train("asking", mt.Linear(), on=[], action=True, labels=labels)
    assert labels.seen == ["ann", "bob"]
    assert set(studio.graph.get(f"model://{kept.name}").data["snapshots"]) >= {"wrote", "consent"}, "its reads are pinned"


class Bought(mt.Fact, key="member"):
    member: int


def studio_with(folder: Path, contexts: list[dict[str, object]]) -> tuple[mt.Studio, mt.Decision]:
    decision = mt.Decision("offer", unit="member", among=["a", "b"], reward=mt.did(Bought, within="1h"))
    clock = [NOW]
    studio = mt.open(folder, clock=lambda: clock[0]).use(mt.Domain(name="small", facts=[Bought], decisions=[decision]))
    studio.log(
        mt.Choice(id=f"{k:03}", decision="offer", unit=k, at=NOW, policy="p@1", candidates=["a", "b"], action=["a"],
                  propensities=[0.5], context=dict(context))
        for k, context in enumerate(contexts)
    )
    studio.seal()
    clock[0] = NOW + timedelta(days=9)
    return studio, decision


def test_what_was_decided_without_profiling_is_not_learned_from(tmp_path: Path) -> None:
    contexts: list[dict[str, object]] = [{}, {"profiled": False}, {"device": "tv", "profiled": True}, {"profiled": False}]
    studio, decision = studio_with(tmp_path / "s", contexts)
    trained = studio.train(decision, mt.Linear(), on=[], action=True)
    assert studio.graph.get(f"model://{trained.name}").data["rows"] == 2


def test_nothing_logged_is_said(tmp_path: Path) -> None:
    studio, decision = studio_with(tmp_path / "s", [])
    with pytest.raises(BadInputError, match="decision 'offer' has no logged choice whose reward is complete"):
        studio.train(decision, mt.Linear(), on=[], action=True)


def test_which_units_allow_it_can_be_asked_for_rows_that_are_no_facts(studio: mt.Studio) -> None:
    units = pl.Series(["ann", "cy", None, "bob", "nobody"])
    assert studio.source("asking").allows(units).to_list() == [True, False, False, True, False]
    assert studio.source("free").allows(units).to_list() == [True] * 5
