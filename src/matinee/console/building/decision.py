"""The page of one decision."""

from __future__ import annotations

from datetime import UTC, datetime

from matinee.console.building import evidence
from matinee.console.building.desk import Desk, unit_words
from matinee.console.building.log_figures import LogFigures, first_chances, guard_rows, log_figures
from matinee.console.figures import chance_figure, value_figure
from matinee.console.formats import (
    article,
    capitalize_first,
    count,
    day,
    interval_text,
    large,
    moment,
    plural,
    value_text,
)
from matinee.console.pages import Chart, DecisionPage, Estimate, Point, ReleasePanel, ReleaseRow, SheetItem
from matinee.console.release_panel import ReleaseFacts, panel
from matinee.console.source import DecisionQuery
from matinee.decisions import Decision
from matinee.releases import Release

MODE_WORDS = {
    "decide": "Matinee decides",
    "advise": "people decide, with advice",
    "plan": "a solver drafts, people publish",
}


def decision_page(desk: Desk, name: str, query: DecisionQuery, *, allowed: bool) -> DecisionPage:
    """Everything known about one decision."""
    decision = desk.decision(name)
    figures = log_figures(desk, decision)
    releases = desk.studio.releases.all(name)
    live = releases[0] if releases else None
    found = desk.studio.evidence(name)
    guards, left, read = guard_rows(desk, decision)
    unit = desk.reward_unit(decision)
    return DecisionPage(
        name=name,
        title=capitalize_first(decision.title),
        unit=unit_words(decision),
        mode=decision.mode,
        mode_words=MODE_WORDS[decision.mode],
        lead=_lead(desk, decision, figures, live),
        sheet=_sheet(desk, decision, live, left.candidates if left else None),
        value=_value_chart(desk, decision, figures, releases),
        value_missing=figures.why_not or _too_few(decision, figures),
        release=release_panel(desk, decision, figures, query, allowed=allowed),
        arms=figures.arms,
        arms_note=_arms_note(decision, figures, live),
        reward_unit=unit,
        period=f"{day(figures.since)} to {day(desk.now)}",
        guards=guards,
        left=left,
        guards_note=_guards_note(decision, read),
        evidence=evidence.rows(found),
        evidence_unit=f"{unit} a choice",
        chance=chance_figure(
            "chance",
            first_chances(desk, decision),
            of=f"what stood in slot 1 of {decision.slots}" if decision.slots > 1 else "what was chosen",
            said="stood in slot 1" if decision.slots > 1 else "was chosen",
        ),
        releases=tuple(_release_row(r, i == 0) for i, r in enumerate(releases)),
        code=_code(decision, releases),
        previewed=desk.showing(decision) is not None,
    )


def _too_few(decision: Decision, figures: LogFigures) -> str:
    shown = sum(p.value is not None for p in figures.points)
    there = (
        "there is none yet"
        if not shown
        else f"so far there is one, {day(next(p.at for p in figures.points if p.value is not None))}"
    )
    return f"A line needs two days on which enough {unit_words(decision)}s were decided for and the reward is whole; {there}."


def facts_of(release: Release) -> ReleaseFacts:
    """A release as the panel reads it."""
    arms = tuple((a.policy, a.share, a.role) for a in release.arms)
    return ReleaseFacts(
        release.number, release.kind, datetime.fromtimestamp(release.at, UTC), release.by, release.note, arms
    )


def worth(desk: Desk, decision: Decision, figures: LogFigures, live: Release | None) -> tuple[Estimate, str]:
    """What the live policy is worth against what it replaced, in per cent, and how that is known."""
    if figures.worth is not None and figures.compared is not None:
        units = sum(a.units for a in figures.arms if a.policy in figures.compared)
        return figures.worth, f"Experiment, {plural(units, unit_words(decision))}"
    if live is not None:
        # Judged on its own choices, a policy is compared with itself: that says nothing about its worth.
        asked = desk.studio.evidence(decision.name, live.live.policy)
        found = [e for e in asked if not evidence.of_itself(e)]
        if found:
            return evidence.relative(found[0]), evidence.method(found[0])
        if len(live.arms) > 1 and live.baseline.policy == live.live.policy:
            missing = "it is what others are compared with"
            return Estimate(None, unit="%", signed=True, refused=missing), "A challenger is being tried against it"
        own = "it was judged on its own choices only" if asked else "it was never evaluated"
        refused = Estimate(None, unit="%", signed=True, refused=f"nothing is held back to compare it with, and {own}")
        return refused, "Hold back a baseline, or try a challenger against it"
    return Estimate(
        None, unit="%", signed=True, refused="nothing is released"
    ), "Release a policy, and it can be judged"


def _lead(desk: Desk, decision: Decision, figures: LogFigures, live: Release | None) -> str:
    if live is None:
        return "**Nothing is released**: each request gets the fallback, logged with that reason."
    value, how = worth(desk, decision, figures, live)
    unit = desk.reward_unit(decision)
    base = figures.compared[1] if figures.worth is not None and figures.compared else "what was logged before it"
    if value.value is None:
        text = f"What **{live.live.policy}** is worth cannot be told yet: {value.refused}."
    else:
        said = f"{evidence.words(value)} in {unit} a choice against {base}"
        by = "by " if figures.worth is not None else ""
        text = f"**{live.live.policy}** is worth {said}, judged {by}{how[0].lower()}{how[1:]}."
    challenger = next((a.policy for a in live.arms if a.role == "challenger"), None)
    if challenger is not None:
        ahead = figures.ahead
        if ahead is None or ahead.value is None:
            text += f" A challenger, **{challenger}**, is being tried; it cannot be judged yet."
        elif not ahead.told_apart:
            text += f" A challenger, **{challenger}**, is not told apart from it yet."
        elif ahead.value > 0:
            text += (
                f" A challenger, **{challenger}**, is ahead of it by {evidence.words(ahead)} and waits for a person."
            )
        else:
            text += f" A challenger, **{challenger}**, is behind it by {evidence.words(ahead)}: roll it back."
    return text


def _sheet(desk: Desk, decision: Decision, live: Release | None, candidates: int | None) -> tuple[SheetItem, ...]:
    thing = decision.entity or "option"
    among = plural(len(decision.options), "option") if decision.options is not None else f"every {thing}"
    if decision.options is None and candidates is not None:
        among = f"every {thing}; {count(candidates)} left by the guards"
    guards = len(decision.guards)
    items = [
        SheetItem(
            "Chooses, for each", f"{plural(decision.slots, thing)}, for {article(unit_words(decision))} {unit_words(decision)}"
        ),
        SheetItem("Among", among),
        SheetItem("Reward", desk.reward_unit(decision) if decision.reward is not None else "none declared"),
        SheetItem("Guards", f"{guards}, before the draw and between slots" if guards else "none"),
        SheetItem("Mode", MODE_WORDS[decision.mode]),
    ]
    if live is not None:
        since = datetime.fromtimestamp(live.at, UTC)
        items.append(SheetItem("Live", f"release {live.number}, since {moment(since, desk.now)}"))
    else:
        items.append(SheetItem("Live", "nothing yet"))
    items.append(SheetItem("Falls back to", ", ".join(map(str, decision.fallback[:3])) or "nothing"))
    pinned = _pinned(desk, live)
    if pinned:
        items.append(SheetItem("Pinned to", pinned))
    return tuple(items)


def _pinned(desk: Desk, live: Release | None) -> str:
    """The models of the live policy, each pinned to the snapshots it saw."""
    if live is None:
        return ""
    uses = [e.source for e in desk.studio.graph.edges() if e.target == f"policy://{live.live.policy}"]
    models = [u.removeprefix("model://") for u in uses if u.startswith("model://")]
    return ", ".join(f"`{m}`" for m in models[:2])


def _value_chart(desk: Desk, decision: Decision, figures: LogFigures, releases: list[Release]) -> Chart | None:
    known = [p for p in figures.points if p.value is not None]
    if len(known) < 2:
        return None
    first, last = figures.points[0].at, figures.points[-1].at
    marks = [(facts_of(r).at, f"release {r.number}") for r in releases if first <= facts_of(r).at <= last]
    unit = capitalize_first(desk.reward_unit(decision))
    each_day = f"each day by itself, 95 % interval by {unit_words(decision)}, for one look"
    if figures.compared is not None:
        one, other = figures.compared
        estimate = figures.worth if figures.worth is not None else figures.ahead
        title = evidence.compare(estimate, one, other) if estimate is not None else f"{one} against {other}, day by day"
        subtitle = f"{unit} a choice, per cent against {other}; {each_day}"
        return value_figure("value", figures.points, title=title, subtitle=subtitle, unit="%", signed=True, marks=marks)
    title = f"{_said(figures, known)} {desk.reward_unit(decision)} a choice"
    subtitle = f"{unit} a choice, {each_day}; {alone(releases)}"
    return value_figure("value", figures.points, title=title, subtitle=subtitle, marks=marks)


def alone(releases: list[Release]) -> str:
    """Why a value stands alone: nothing is held back, or the arms have not met in the log yet."""
    if releases and len(releases[0].arms) > 1:
        return f"the arms of release {releases[0].number} have not decided on the same day yet"
    return "nothing is held back to compare with"


def _said(figures: LogFigures, known: list[Point]) -> str:
    """Whose mean is seen: the live policy's, or that of the one policy that has decided; else the last day's."""
    judged = [a for a in figures.arms if a.value.value is not None]
    live = [a for a in judged if a.role == "live"]
    for arm in live or (judged if len(judged) == 1 else []):
        return f"{arm.policy} brings {value_text(arm.value)} {interval_text(arm.value)}"
    last = known[-1]
    mean = Estimate(last.value, last.low, last.high)
    return f"What was chosen on {day(last.at)} brought {value_text(mean)} {interval_text(mean)}"


def _arms_note(decision: Decision, figures: LogFigures, live: Release | None) -> str:
    parts = []
    if figures.srm is not None:
        fell = "as planned" if figures.srm >= 0.001 else "**not as planned: do not read the differences**"
        parts.append(
            f"{capitalize_first(unit_words(decision))}s fell into the arms {fell} (sample ratio p = {figures.srm:.2g})."
        )
    if figures.choices:
        whole = "have their whole reward"
        if figures.measured == figures.choices:
            parts.append(f"All {large(figures.choices)} choices {whole}.")
        else:
            parts.append(f"{large(figures.measured)} of {large(figures.choices)} choices {whole}; the rest is open.")
        parts.append(f"{count(figures.fell_back)} fell back.")
    if live is not None and len(live.arms) > 1:
        parts.append(f"Each {unit_words(decision)} stays in one arm; days count alike in every arm.")
    if decision.reward is not None:
        parts.append(f"The reward of a choice is `{decision.reward!r}`.")
    return " ".join(parts)


def _guards_note(decision: Decision, read: int) -> str:
    if not decision.guards:
        return ""
    seen = (
        f" Counted over the newest {plural(read, 'choice')}; a candidate is counted under the first guard that bit."
        if read
        else ""
    )
    return f"Guards mask before the draw, so the logged chance of what was shown is exact.{seen}"


def _release_row(release: Release, is_live: bool) -> ReleaseRow:
    facts = facts_of(release)
    note = f": {release.note}" if release.note else ""
    text = f"{facts.words}{note}" if release.kind == "release" else f"Rolled back{note}. {facts.words}"
    return ReleaseRow(release.number, text, facts.at, release.by, is_live, release.kind == "rollback")


def _code(decision: Decision, releases: list[Release]) -> str:
    policy = releases[0].policies[0] if releases else f"{decision.name}@1"
    lines = [
        f'report = studio.evaluate("{decision.name}", "{policy}")   # off-policy, before anybody sees it',
        "print(report)",
        f'studio.release("{decision.name}", "{policy}", share=0.05)   # with its gates',
    ]
    if len(releases) > 1:
        lines.append(f'studio.rollback("{decision.name}", to={releases[1].number})   # undo')
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------- the panel


def quick_gates(desk: Desk, decision: Decision, policy: str) -> tuple[list[SheetItem], str]:
    """The gates that can be looked up at once, and what a reason has to be given for; the release runs all of them."""
    live = desk.studio.releases.live(decision.name)
    if live is None:
        return [SheetItem("Gates", "the first release needs no evidence; it must load in a fresh process")], ""
    has_evidence = bool(desk.studio.evidence(decision.name, policy))
    before, now = set(live.guards), set(decision.guard_names)
    changed = [f"−{g}" for g in sorted(before - now)] + [f"+{g}" for g in sorted(now - before)]
    items = [
        SheetItem(
            "Evidence attached", "in order" if has_evidence else f"none about {policy}; evaluate it, or give a reason"
        ),
        SheetItem(
            "Guards unchanged", "in order" if not changed else f"changed: {', '.join(changed)}; say what and why"
        ),
        SheetItem("Loads afresh", "checked when it is released"),
    ]
    reasons = [
        *([] if has_evidence else ["nothing was measured about it"]),
        *(["the guards changed"] if changed else []),
    ]
    return items, " and ".join(reasons)


def before(releases: list[Release]) -> int | None:
    """The release that a roll-back returns to: the newest one with other arms, before the one now in force was made."""
    if not releases:
        return None
    current = releases[0]
    made = next((r for r in releases if r.kind == "release" and r.arms == current.arms), current)
    return next((r.number for r in releases if r.number < made.number and r.arms != current.arms), None)


def release_panel(
    desk: Desk, decision: Decision, figures: LogFigures, query: DecisionQuery, *, allowed: bool
) -> ReleasePanel:
    """The form that releases and rolls back."""
    releases = desk.studio.releases.all(decision.name)
    policies = list(reversed(desk.studio.policies(decision.name)))
    chosen = query.form.policy
    if not chosen:
        challenger = next((a.policy for a in releases[0].arms if a.role == "challenger"), None) if releases else None
        chosen = challenger or (policies[0] if policies else "")
    gates, ask_reason = quick_gates(desk, decision, chosen) if chosen else ([], "")
    found = desk.studio.evidence(decision.name, chosen) if chosen else []
    expected = evidence.words(evidence.difference(found[0]), f"{desk.reward_unit(decision)} a choice") if found else ""
    return panel(
        query,
        [facts_of(r) for r in releases],
        policies,
        unit=unit_words(decision),
        units=sum(a.units for a in figures.arms) or None,
        gates=gates,
        ask_reason=ask_reason,
        expected=expected,
        back_to=before(releases),
        now=desk.now,
        allowed=allowed,
    )
