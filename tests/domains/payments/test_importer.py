"""Importing a processor's log: exactly once, whatever happens on the way; bad rows in quarantine, none lost."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from tests.domains.payments.planted import as_lines, log, write

import matinee as mt
from matinee.domains import payments
from matinee.domains.payments.facts import Attempt, Invoice, Processor
from matinee.domains.payments.importer import import_processor_log

NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def studio(tmp_path: Path) -> mt.Studio:
    return mt.open(tmp_path / "studio", clock=lambda: NOW).use(payments.domain)


def _counts(studio: mt.Studio) -> tuple[int, int]:
    return studio.facts.scan(Attempt).select(pl.len()).collect().item(), len(studio.choices("route"))


def test_facts_and_choices_are_there_once_and_fit_together(studio: mt.Studio, tmp_path: Path) -> None:
    path = write(tmp_path / "files", as_lines(log(120, seed=5)))
    found = import_processor_log(studio, path.parent)
    assert {r["fact"]: r["appended"] for r in found.rows()} == {
        "processor": 2, "invoice": found.purchases, "attempt": 120, "choices": 120,
    }  # fmt: skip
    assert not found.again
    attempts = studio.facts.scan(Attempt).collect()
    choices = studio.choices("route")
    assert set(attempts["choice"]) == set(choices["id"])
    assert choices["estimated"].all()
    taken = dict(zip(choices["id"], choices["action"].list.first(), strict=True))
    assert all(taken[c] == p for c, p in attempts.select("choice", "processor").iter_rows())
    again = import_processor_log(studio, path.parent)
    assert again.again
    assert _counts(studio) == (120, 120)


def test_a_row_that_cannot_be_read_is_in_quarantine_with_its_reason(studio: mt.Studio, tmp_path: Path) -> None:
    lines = [*as_lines(log(20, seed=6)), "99,2026-01-06 10:00:00,Germany,89,perhaps,cheap,0,Visa"]
    found = import_processor_log(studio, write(tmp_path / "files", lines))
    assert {r["fact"]: r["quarantined"] for r in found.rows()}["attempt"] == 1
    assert _counts(studio) == (20, 20)
    held = [row for _, batch in studio.quarantine.batches() for row in studio.quarantine.rows(batch)]
    assert any("approved is empty" in reason for row in held for reason in row.reasons)


@pytest.mark.parametrize("stops_at", [1, 2, 3])
def test_a_crash_on_the_way_loses_nothing_and_doubles_nothing(studio: mt.Studio, tmp_path: Path, stops_at: int) -> None:
    path = write(tmp_path / "files", as_lines(log(60, seed=7)))
    seen = 0

    def step(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == stops_at:
            raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError):
        import_processor_log(studio, path, step)
    import_processor_log(studio, path)
    assert _counts(studio) == (60, 60)
    for fact in (Processor, Invoice):
        held = studio.facts.scan(fact).select(fact.schema.key).collect().to_series()
        assert held.n_unique() == len(held) > 0
    choices = studio.choices("route")
    assert choices["id"].n_unique() == 60


def test_a_crash_while_choices_are_written_doubles_none(
    studio: mt.Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "files", as_lines(log(40, seed=8)))
    from matinee.domains.payments import processor_log

    every = processor_log.choices

    def half(*args: object, **options: object) -> object:
        for i, choice in enumerate(every(*args, **options)):  # type: ignore[arg-type]  # passed on as they are
            if i == 17:
                raise RuntimeError("pulled the plug")
            yield choice

    monkeypatch.setattr(processor_log, "choices", half)
    with pytest.raises(RuntimeError):
        import_processor_log(studio, path)
    monkeypatch.setattr(processor_log, "choices", every)
    import_processor_log(studio, path)
    assert _counts(studio) == (40, 40)
    assert studio.choices("route")["id"].n_unique() == 40


def test_the_domain_is_what_its_entry_point_says() -> None:
    from matinee import domain

    assert domain.load("payments") is payments.domain
    assert [d.name for d in payments.domain.decisions] == ["route", "retry"]
