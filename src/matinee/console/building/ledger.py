"""The ledger: logged choices, newest first, and everything that was logged with one of them."""

from __future__ import annotations

from datetime import datetime

import msgspec

from matinee.choices import Choice, Outcome, Plan
from matinee.console.building.decision import MODE_WORDS
from matinee.console.building.desk import Desk, unit_words
from matinee.console.building.members import choice_rows, shown_value
from matinee.console.formats import capitalize_first, chance, count, in_words, large, length, moment, plural
from matinee.console.pages import Card, ChoicePage, Estimate, LedgerPage, OutcomeRow, SheetItem
from matinee.console.source import LedgerQuery
from matinee.exceptions import MatineeError, UnknownNameError
from matinee.times import instant

PAGE = 40
NAMES = 6


def ledger_page(desk: Desk, query: LedgerQuery) -> LedgerPage:
    """The newest choices, or those of a decision, of a unit, or in which something was chosen."""
    before: datetime | None = None
    if query.before:
        try:
            before = instant(query.before)
        except MatineeError:
            before = None
    missing = None
    if query.id:
        try:
            desk.log.choice(query.id)
        except UnknownNameError:
            missing = (
                f"choice == {query.id!r}, must be the id of a logged choice; it may have been erased with its unit"
            )
    choices = desk.log.choices(
        decision=query.decision, unit=query.unit, action=query.action, before=before, limit=PAGE + 1
    )
    more = len(choices) > PAGE
    choices = choices[:PAGE]
    older = None
    if more:
        kept = {"decision": query.decision, "unit": query.unit, "action": query.action}
        older = (*((k, v) for k, v in kept.items() if v), ("before", choices[-1].at.isoformat()))
    total = desk.kept(("choices",), lambda: _sealed(desk), 20.0)
    oldest, segments = desk.log.oldest_unsealed()
    fresh = len(desk.log.fresh())
    items = (
        SheetItem("In the tables", f"{large(total)} choices"),
        SheetItem(
            "Waiting in the log", f"{plural(fresh, 'choice')}, {plural(segments, 'file')}" if segments else "nothing"
        ),
        SheetItem("Oldest that waits", "nothing waits" if oldest is None else f"{length(desk.now - oldest)} old"),
        SheetItem("Fell back, 24 h", _fell_back(desk)),
    )
    every = total + fresh
    headline = (
        "No choice has been logged"
        if not every
        else f"{capitalize_first(large(every))} choice{'' if every == 1 else 's'}, each with its chance"
    )
    return LedgerPage(
        headline=headline,
        lead="Each call of `decide` writes one line: what was allowed, what was kept out and why, what was drawn, "
        "and **how probable that was**.",
        decisions=tuple(desk.studio.decisions),
        decision=query.decision,
        choices=choice_rows(desk, choices),
        sealed=items,
        older=older,
        missing=missing,
        unit=query.unit,
        id=query.id,
        action=query.action,
    )


def _sealed(desk: Desk) -> int:
    return desk.studio.tables.rows("choices") if desk.studio.tables.exists("choices") else 0


def _fell_back(desk: Desk) -> str:
    frame = desk.log.hours(desk.now)
    n, fell = (int(frame[c].sum()) for c in ("n", "fell"))
    return f"{count(fell)} of {count(n)}" if n else "no choice"


def choice_page(desk: Desk, choice_id: str) -> ChoicePage:
    """One choice; raises UnknownNameError."""
    choice = desk.log.choice(choice_id)
    decision = desk.studio.decisions.get(choice.decision)
    some = [i for ids in choice.blocked.values() for i in ids[:NAMES]]
    advised = [a.option for a in choice.advice]
    wanted = [*choice.action, *some, *advised]
    names = desk.names(decision, wanted) if decision is not None else {str(i): str(i) for i in wanted}
    kinds = desk.leading(decision, choice.action) if decision is not None else {}
    outcomes = desk.log.outcomes([choice])[choice.id]
    thing = decision.entity if decision is not None and decision.entity else "option"
    unit = unit_words(decision) if decision is not None else "unit"
    kept_out = sum(len(v) for v in choice.blocked.values())
    return ChoicePage(
        id=choice.id,
        decision=choice.decision,
        headline=_headline(choice, thing, unit, names),
        lead=_lead(desk, choice),
        sheet=(
            SheetItem("Policy", choice.policy or "none was released"),
            SheetItem("Arm", choice.arm or "none"),
            SheetItem("Mode", MODE_WORDS.get(choice.mode, choice.mode)),
            SheetItem("Left by the guards", plural(len(choice.candidates), thing)),
            SheetItem("Kept out", count(kept_out)),
            *([SheetItem("Candidates as of", moment(choice.items_at, desk.now))] if choice.items_at else []),
            *([SheetItem("Chosen by", choice.chosen_by)] if choice.chosen_by else []),
            *([SheetItem("Value of the plan", _claim(choice.plan))] if choice.plan else []),
        ),
        slots=tuple(
            Card(
                str(i),
                names.get(str(i), str(i)),
                k + 1,
                choice.propensities[k] if k < len(choice.propensities) else None,
                kind=kinds.get(str(i), ""),
            )
            for k, i in enumerate(choice.action)
        ),
        as_posters=decision is not None and desk.as_posters(decision),
        blocked=tuple(
            (g, tuple(names.get(str(i), str(i)) for i in ids[:NAMES]), len(ids)) for g, ids in choice.blocked.items()
        ),
        context=tuple(SheetItem(k, shown_value(v)) for k, v in choice.context.items()),
        outcomes=tuple(_outcome(o) for o in outcomes),
        advice=tuple(
            (names.get(str(a.option), str(a.option)), Estimate(a.value, a.low, a.high, level=0.8), a.blocked_by or "")
            for a in choice.advice
        ),
        raw=_raw(choice),
        unit=str(choice.unit),
        reward_unit=desk.reward_unit(decision) if decision is not None else "",
    )


def _claim(plan: Plan) -> str:
    if plan.proven:
        return f"{plan.value:,.6g}, proven: no plan is better"
    if plan.bound is None:
        return f"{plan.value:,.6g}, without a bound"
    return f"{plan.value:,.6g}; no plan is better than {plan.bound:,.6g}"


def _headline(choice: Choice, thing: str, unit: str, names: dict[str, str]) -> str:
    who = f"for {unit} {choice.unit}"
    if not choice.action:
        return f"Nothing {who}" if not choice.advice else f"Advice {who}"
    if len(choice.action) == 1:
        return f"{capitalize_first(names.get(str(choice.action[0]), str(choice.action[0])))} {who}"
    return f"{capitalize_first(in_words(len(choice.action)))} {thing}s {who}"


def _lead(desk: Desk, choice: Choice) -> str:
    when = moment(choice.at, desk.now)
    if choice.fallback:
        return f"On {when} it fell back: **{choice.fallback}**. A fallback is certain, so it teaches nothing."
    if choice.chosen_by:
        return f"On {when} **{choice.chosen_by}** decided on advice. Nothing was drawn."
    if choice.mode == "plan":
        return f"Planned on {when}, and checked against its guards. Nothing was drawn: a solver decides."
    if choice.mode != "decide":
        return f"Advised on {when}. Nothing was drawn: a person decides."
    sure = (
        " Its probabilities were estimated from a foreign log, a weaker claim than logged ones."
        if choice.estimated
        else ""
    )
    whole = (
        f", with a chance of **{chance(choice.probability)}** for all slots together"
        if len(choice.action) > 1
        else f", with a chance of **{chance(choice.probability)}**"
    )
    return f"Drawn by **{choice.policy}** on {when}{whole}.{sure}"


def _outcome(o: Outcome) -> OutcomeRow:
    row = ", ".join(f"{k} {shown_value(v)}" for k, v in o.row.items() if v is not None)
    return OutcomeRow(o.id, o.fact, o.at, o.known, row)


def _raw(choice: Choice) -> str:
    """The record as JSON, its long lists shortened: the twin has them whole."""
    data = msgspec.to_builtins(choice)

    def short(value: object) -> object:
        if isinstance(value, list) and len(value) > 40:
            return [*value[:40], f"and {len(value) - 40:,} more"]
        return {k: short(v) for k, v in value.items()} if isinstance(value, dict) else value

    return msgspec.json.format(msgspec.json.encode(short(data)), indent=2).decode()
