"""What a training reads of the log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import matinee as mt
from matinee.exceptions import BadInputError

NOW = datetime(2026, 3, 1, tzinfo=UTC)


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
