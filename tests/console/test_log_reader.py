"""Unsealed lines read without their lists, and figures kept for a minute."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from matinee.choices import Advice, Choice, Outcome
from matinee.console.building.desk import Desk
from matinee.console.building.log_reader import LogReader, _read, whole
from matinee.ledger import Ledger

AT = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)


def choice(i: int) -> Choice:
    return Choice(
        id=f"c{i}", decision="home", unit=i, at=AT + timedelta(minutes=i), policy="home@1", arm="live",
        context={"device": "tv", "hour": 14}, candidates=[1, 2, 3], blocked={"licence window": [9]},
        groups={"at most 1": [0, 1, 0]}, action=[2, 1], propensities=[0.5, 0.25], items_at=AT,
        advice=[Advice(option="a", value=1.0)],
    )  # fmt: skip


def outcome(i: int) -> Outcome:
    at = AT + timedelta(minutes=i)
    return Outcome(id=f"o{i}", choice=f"c{i}", fact="played", row={"seconds": 9.0}, at=at, known=at)


def test_what_was_logged_comes_back_whole_and_newest_first(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "web")
    for i in range(3):
        ledger.append(choice(i))
        ledger.append(outcome(i))
    records = _read(tmp_path)
    choices = [whole(r) for r in records if not isinstance(r, Outcome)]
    assert choices == [choice(2), choice(1), choice(0)]
    assert [r for r in records if isinstance(r, Outcome)] == [outcome(2), outcome(1), outcome(0)]
    ledger.close()
    assert len(_read(tmp_path)) == 6


def test_a_torn_or_foreign_line_is_passed_over(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "web")
    ledger.append(choice(0))
    ledger.close()
    segment = next(tmp_path.glob("*/*.wal"))
    segment.write_bytes(b"garbage\n" + segment.read_bytes() + b'deadbeef {"type":"choice","id')
    assert [whole(r).id for r in _read(tmp_path) if not isinstance(r, Outcome)] == ["c0"]
    assert _read(tmp_path / "nowhere") == []


def test_the_oldest_that_waits_is_named(tmp_path: Path) -> None:
    studio: Any = SimpleNamespace(root=tmp_path)
    reader = LogReader(studio, lambda key, make, seconds=60.0: make())
    assert reader.oldest_unsealed() == (None, 0)
    ledger = Ledger(tmp_path / "log", "web")
    ledger.append(choice(3))
    ledger.append(choice(5))
    assert reader.oldest_unsealed() == (AT + timedelta(minutes=3), 1)
    ledger.close()


def desk(ticks: list[float]) -> Desk:
    studio: Any = SimpleNamespace(root=Path(), config={}, clock=lambda: AT)
    return Desk(studio, ticks=lambda: ticks[0])


def test_a_figure_is_made_once_a_minute_and_again_after_an_act() -> None:
    ticks, made = [0.0], []
    here = desk(ticks)

    def make() -> int:
        made.append(1)
        return len(made)

    assert [here.kept(("a",), make), here.kept(("a",), make)] == [1, 1]
    ticks[0] = 61.0
    assert here.kept(("a",), make) == 2
    here.forget()
    assert here.kept(("a",), make) == 3


def test_a_slow_figure_keeps_nobody_else_waiting() -> None:
    here, started, go = desk([0.0]), threading.Event(), threading.Event()

    def slow() -> str:
        started.set()
        assert go.wait(10)
        return "slow"

    thread = threading.Thread(target=lambda: here.kept(("slow",), slow))
    thread.start()
    assert started.wait(10)
    assert here.kept(("quick",), lambda: "quick") == "quick"
    go.set()
    thread.join(10)
    assert here.kept(("slow",), lambda: "again") == "slow"
