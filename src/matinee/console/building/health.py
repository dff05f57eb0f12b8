"""A day of health in lamps: one row a decision from the log, then sealing, publishing and quarantine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from matinee.console.building.desk import Desk
from matinee.console.formats import capitalize_first, count, length, moment, plural
from matinee.console.pages import HealthRow, Lamp

WEAK, OUT = 0.01, 0.5  # shares of an hour's choices that fell back


def hours_of(desk: Desk, name: str) -> dict[int, tuple[int, int]]:
    frame = desk.log.hours(desk.now)
    return {int(r["hour"]): (int(r["n"]), int(r["fell"])) for r in frame.to_dicts() if r["decision"] == name}


def lamp(n: int, fell: int) -> Lamp:
    """An hour: lit, weak when some fell back, out when most did, none without a choice."""
    if n == 0:
        return "none"
    share = fell / n
    return "out" if share >= OUT else "dim" if share >= WEAK else "lit"


def health(desk: Desk) -> list[HealthRow]:
    """One row a decision, then sealing, publishing, quarantine and the doctor's checks."""
    rows = []
    for decision in desk.in_use:
        hours = hours_of(desk, decision.name)
        lamps = tuple(lamp(*hours.get(h, (0, 0))) for h in range(24))
        total, fell = sum(n for n, _ in hours.values()), sum(f for _, f in hours.values())
        note = "nothing was asked in 24 hours" if not total else f"{count(fell) if fell else 'none'} fell back"
        title = capitalize_first(decision.title)
        rows.append(
            HealthRow(title, note, lamps, says(desk.now, lamps), plural(total, "choice") if total else "no choice")
        )
    oldest, segments = desk.log.oldest_unsealed()
    waits = "all sealed" if oldest is None else f"{length(desk.now - oldest)} behind"
    rows.append(
        HealthRow(
            "Sealing",
            f"log to tables; {plural(segments, 'file')} to go" if segments else "log to tables",
            (),
            "",
            waits,
        )
    )
    as_of = desk.studio.health().get("as_of")
    published = "nothing yet" if not as_of else f"{length(desk.now - datetime.fromisoformat(as_of))} ago"
    rows.append(HealthRow("Published", "online features and candidates", (), "", published))
    held = desk.studio.quarantine.count()
    rows.append(HealthRow("Quarantine", "waiting for a person", (), "", plural(held, "row") if held else "empty"))
    rows.append(_checks(desk))
    return rows


def _checks(desk: Desk) -> HealthRow:
    """What the doctor found, and when he looked."""
    found = desk.checkup.findings()
    if found is None:
        return HealthRow("Checks", "files, log, models, releases, erasures", (), "", "looking now")
    findings = found.report.findings
    wrong = sum(f.state != "ok" for f in findings)
    value = f"{count(len(findings))} well" if not wrong else f"{count(wrong)} of {count(len(findings))} to see to"
    return HealthRow("Checks", f"`matinee doctor`, looked at {moment(found.at, desk.now)}", (), "", value)


def says(now: datetime, lamps: Sequence[Lamp]) -> str:
    """Lamps in words, for those who do not see them."""
    hours = {kind: [i for i, s in enumerate(lamps) if s == kind] for kind in ("lit", "dim", "out", "none")}
    parts = [f"{plural(len(hours['lit']), 'hour')} well"]
    for kind, word in (("dim", "weak"), ("out", "out"), ("none", "without a choice")):
        if hours[kind]:
            times = ", ".join(f"{(now - timedelta(hours=23 - i)):%H}:00" for i in hours[kind][:4])
            more = " and more" if len(hours[kind]) > 4 else ""
            parts.append(f"{len(hours[kind])} {word} (hour to {times}{more})")
    return ", ".join(parts)


def overall(desk: Desk) -> tuple[tuple[Lamp, ...], str]:
    """All decisions in one row of lamps, the weakest of each hour, and what it comes to."""
    frame = desk.log.hours(desk.now)
    worst: list[Lamp] = ["none"] * 24
    order: Mapping[str, int] = {"none": 0, "lit": 1, "dim": 2, "out": 3}
    by_hour: dict[int, Lamp] = {}
    for r in frame.to_dicts():
        if r["decision"] not in desk.studio.decisions:
            continue
        state = lamp(int(r["n"]), int(r["fell"]))
        hour = int(r["hour"])
        if order[state] > order[by_hour.get(hour, "none")]:
            by_hour[hour] = state
    for hour, state in by_hour.items():
        worst[hour] = state
    if not by_hour:
        return tuple(worst), "no choice in 24 h"
    out, dim = worst.count("out"), worst.count("dim")
    if out:
        return tuple(worst), f"out for {out} h"
    return tuple(worst), f"weak for {dim} h" if dim else "all well"
