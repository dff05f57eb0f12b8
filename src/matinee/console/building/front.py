"""The front page: how the studio is doing, what needs a person, a day of health, what is shared."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from matinee.console.building import evidence
from matinee.console.building.decision import alone, worth
from matinee.console.building.desk import Desk
from matinee.console.building.health import health
from matinee.console.building.leverage import leverage
from matinee.console.building.log_figures import guard_rows, log_figures
from matinee.console.building.needs import needed
from matinee.console.figures import value_figure
from matinee.console.formats import capitalize_first, in_words, large, verb
from matinee.console.pages import (
    Chart,
    DecisionRow,
    Empty,
    Front,
    Leverage,
    NavItem,
    Need,
    Step,
)
from matinee.decisions import Decision


def front(desk: Desk) -> Front:
    """The front page of a studio."""
    studio = desk.studio
    kicker = f"{desk.title}, {_part_of_day(desk.now)}"
    if not studio.decisions:
        return Front(kicker, "", "", (), (), (), empty=_first_steps(bool(desk.own_facts())))
    # The checks run beside this: they begin when the figures are made, or both would take longer.
    rows, shared = figures(desk)
    looking = desk.checkup.findings() is None
    needs = tuple(needed(desk))
    return Front(
        kicker=kicker,
        headline=_headline(rows, needs, looking=looking),
        lead=_lead(rows),
        decisions=rows,
        needs=needs,
        health=tuple(health(desk)),
        leverage=shared,
        worth=_worth_chart(desk, rows),
        done_today=_done_today(desk),
        looking=looking,
        idle=tuple(NavItem(f"/decisions/{d.name}", capitalize_first(d.title)) for d in desk.idle),
    )


def figures(desk: Desk) -> tuple[tuple[DecisionRow, ...], Leverage]:
    """What takes long to make, and is kept for a while: each decision's row, and what they share."""
    return tuple(_row(desk, d) for d in desk.in_use), leverage(desk)


def _part_of_day(now: datetime) -> str:
    spans = ((5, "tonight"), (12, "this morning"), (18, "this afternoon"), (22, "this evening"), (24, "tonight"))
    return next(words for end, words in spans if now.hour < end)


def _first_steps(has_facts: bool) -> Empty:
    steps = (
        Step(
            "Declare what happens.",
            "A fact with typed columns and a key; `at` and `known` come with it.",
            'class Played(mt.Fact, key="member"):\n    member: int; title: int; seconds: float',
        ),
        Step(
            "Append what happened.",
            "Rows that do not fit go to quarantine, with the reason, and never get lost.",
            'studio.append(Played, "plays.parquet")',
        ),
        Step(
            "Decide.",
            "Declare a decision, release a policy, and ask.",
            'home = mt.Decision("home", unit="member", among="title", slots=20)\n'
            'studio.release(home, mt.Uniform(), without_evidence="the first log")\nstudio.decide("home", member=42)',
        ),
    )
    lead = "This page says how every decision is doing and what waits. **Declare the first one**, and it fills itself."
    return Empty("No decisions yet", lead, steps[1:] if has_facts else steps)


# ------------------------------------------------------------------------------------------------------- decisions


def _row(desk: Desk, decision: Decision) -> DecisionRow:
    figures = log_figures(desk, decision)
    live = desk.studio.releases.live(decision.name)
    value, how = worth(desk, decision, figures, live)
    _, left, _ = guard_rows(desk, decision)
    return DecisionRow(
        name=decision.name,
        title=capitalize_first(decision.title),
        mode=decision.mode,
        live=f"release {live.number}" if live else None,
        share=live.live.share if live else None,
        worth=value,
        of_what=f"{desk.reward_unit(decision)} a choice",
        judged_by=how,
        kept_out=None if left is None else 1 - left.share,
        choices=figures.choices,
        history=figures.points,
    )


def _headline(rows: Sequence[DecisionRow], needs: Sequence[Need], *, looking: bool) -> str:
    """A finding: how many answer, how many things wait; nothing is said to be well that was not looked at yet."""
    live = sum(r.live is not None for r in rows)
    if not live:
        first = "Nothing is released yet."
    elif live < len(rows):
        first = f"{capitalize_first(in_words(live))} of {in_words(len(rows))} decisions {verb(live)} answering."
    elif live == 1:
        first = "The one decision is answering."
    else:
        first = f"{'Both' if live == 2 else f'All {in_words(live)}'} decisions are answering."
    if not needs:
        return f"{first} {'The studio is being checked.' if looking else 'Nothing needs a person.'}"
    waiting = f"{capitalize_first(in_words(len(needs)))} things need" if len(needs) > 1 else "One thing needs"
    return f"{first} {waiting} a person."


def _lead(rows: Sequence[DecisionRow]) -> str:
    total = sum(r.choices for r in rows)
    if not total:
        ask = "Ask for one with `studio.decide`, or over HTTP with `POST /decide/NAME`."
        return f"No choice was logged in the last 28 days. {ask}"
    text = f"In the last 28 days the studio made **{large(total)} choices**."
    judged = [r for r in rows if r.worth.value is not None]
    if not judged:
        return f"{text} None can be judged yet; each row says what is missing."
    better = [r for r in judged if r.worth.told_apart and (r.worth.value or 0) > 0]
    worse = [r for r in judged if r.worth.told_apart and (r.worth.value or 0) < 0]
    all_of_them = "both" if len(judged) == 2 else "all"
    if len(judged) < len(rows) or len(rows) == 1:
        text += f" {capitalize_first(in_words(len(judged)))} of {in_words(len(rows))} decisions can be judged"
    else:
        text += f" {capitalize_first(all_of_them)} decisions can be judged"
    if len(better) < len(judged):
        text += f"; {in_words(len(better))} {verb(len(better))} worth more than what was there before."
    elif len(judged) == 1:
        text += ", and it is worth more than what it replaced."
    else:
        text += f", and {all_of_them} are worth more than what they replaced."
    if worse:
        text += f" **{', '.join(r.title for r in worse)}** {verb(len(worse))} worth less: look there first."
    return text


def _worth_chart(desk: Desk, rows: Sequence[DecisionRow]) -> Chart | None:
    """The decision that is told apart best, day by day."""
    shown = [r for r in rows if sum(p.value is not None for p in r.history) >= 3]
    if not shown:
        return None

    def clearness(row: DecisionRow) -> float:
        e = row.worth
        if e.value is None or e.low is None or e.high is None or e.high <= e.low:
            return -1.0
        return abs(e.value) / (e.high - e.low)

    row = max(shown, key=clearness)
    decision = desk.decision(row.name)
    figures = log_figures(desk, decision)
    releases = desk.studio.releases.all(row.name)
    first, last = figures.points[0].at, figures.points[-1].at
    marks = [
        (at, f"release {r.number}") for r in releases if first <= (at := datetime.fromtimestamp(r.at, UTC)) <= last
    ]
    unit = desk.reward_unit(decision)
    if figures.compared is not None:
        estimate = figures.worth or figures.ahead
        title = evidence.compare(estimate, *figures.compared) if estimate else f"{row.title}, day by day"
        subtitle = f"{row.title}: {unit} a choice, per cent; each day by itself, 95 % interval"
        return value_figure(
            "worth", figures.points, title=title, subtitle=subtitle, unit="%", signed=True, marks=marks, height=150
        )
    title = f"{row.title}: {unit} a choice, day by day"
    return value_figure(
        "worth",
        figures.points,
        title=title,
        subtitle=f"Each day by itself, 95 % interval; {alone(releases)}",
        marks=marks,
        height=150,
    )


def _done_today(desk: Desk) -> int:
    """Releases and roll-backs of the last 24 hours."""
    since = (desk.now - timedelta(hours=24)).timestamp()
    return sum(r.at >= since for d in desk.studio.decisions for r in desk.studio.releases.all(d))
