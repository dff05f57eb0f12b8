"""The doctor beside the pages: nobody waits for him, nothing is said to be well before he looked, nothing old stays."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from matinee.console.building.checkup import FRESH_SECONDS, Checkup
from matinee.doctor import Finding, Report

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class Doctor:
    """Looks when he is let; his reports are numbered."""

    def __init__(self) -> None:
        self.let, self.calls, self.ticks, self.faints = threading.Event(), 0, 1000.0, False

    def __call__(self) -> Report:
        self.calls += 1
        mine = self.calls
        assert self.let.wait(10)
        if self.faints:
            raise OSError("the tables are out")
        return Report((Finding("disk", "ok", f"look {mine}"),))

    def checkup(self) -> Checkup:
        return Checkup(self, lambda: NOON, ticks=lambda: self.ticks)


def said(checkup: Checkup) -> str | None:
    found = checkup.findings()
    return None if found is None else found.report.findings[0].detail


def test_nobody_waits_for_the_doctor_and_he_looks_once() -> None:
    doctor = Doctor()
    checkup = doctor.checkup()
    assert [said(checkup) for _ in range(3)] == [None] * 3
    doctor.let.set()
    found = checkup.wait(10)
    assert found is not None and found.at == NOON
    assert said(checkup) == "look 1" and doctor.calls == 1


def test_old_findings_stay_until_the_new_ones_are_there() -> None:
    doctor = Doctor()
    doctor.let.set()
    checkup = doctor.checkup()
    checkup.wait(10)
    doctor.let.clear()
    doctor.ticks += FRESH_SECONDS - 1
    assert said(checkup) == "look 1" and doctor.calls == 1
    doctor.ticks += 1
    assert said(checkup) == "look 1"
    doctor.let.set()
    checkup.wait(10)
    assert said(checkup) == "look 2" and doctor.calls == 2


def test_what_was_seen_before_somebody_acted_is_not_shown_after_it() -> None:
    doctor = Doctor()
    checkup = doctor.checkup()
    assert said(checkup) is None
    before = next(t for t in threading.enumerate() if t.name == "matinee-checkup")
    checkup.forget()
    doctor.let.set()
    before.join(10)
    checkup.wait(10)
    assert said(checkup) == "look 2"
    checkup.forget()
    doctor.let.clear()
    assert said(checkup) is None
    doctor.let.set()
    checkup.wait(10)


def test_a_doctor_who_faints_is_asked_again() -> None:
    doctor = Doctor()
    doctor.faints = True
    doctor.let.set()
    checkup = doctor.checkup()
    assert checkup.wait(10) is None
    doctor.faints = False
    assert checkup.wait(10) is not None
