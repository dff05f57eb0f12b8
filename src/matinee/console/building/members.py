"""The member page: what would be decided for one unit now and why, what is held about it, what happened lately."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from matinee.choices import Choice, Id, Outcome
from matinee.console.building.desk import Desk, as_value, safe_name, unit_words
from matinee.console.formats import article, capitalize_first, count, moment, plural, verb
from matinee.console.pages import (
    Card,
    ChoiceRow,
    FeatureRow,
    Funnel,
    KeptOut,
    MemberPage,
    MembersPage,
    Preview,
)
from matinee.console.source import MemberQuery
from matinee.decisions import Decision
from matinee.exceptions import MatineeError, UnknownNameError
from matinee.times import instant

if TYPE_CHECKING:
    from matinee.policies import Candidates, Policy, Request

GHOSTS, ROWS = 8, 12
SLOTS = 24  # a whole page has hundreds: they have a page of their own
LEARN_BELOW = 0.25  # of an even share among what was allowed: the policy shows it to learn, not to earn


def members_page(desk: Desk, name: str, missing: str | None) -> MembersPage:
    """The form that finds a unit, and for whom was decided lately."""
    decision = desk.decision(name) if name else desk.first_decision()
    unit = unit_words(decision) if decision else "member"
    seen: dict[tuple[str, str], tuple[int, datetime]] = {}
    for who, which, at in desk.log.units(name, 2000):
        n, last = seen.get((who, which), (0, at))
        seen[who, which] = (n + 1, max(last, at))
    units = tuple((u, d, n, last) for (u, d), (n, last) in list(seen.items())[:20])
    return MembersPage(
        headline="Whom was it decided for?",
        lead=f"Look up {article(unit)} {unit} by id: what would be decided now and why, and what happened.",
        units=units,
        unit_name=unit,
        decisions=tuple(desk.studio.decisions),
        decision=decision.name if decision else "",
        missing=missing,
    )


def member_page(desk: Desk, query: MemberQuery) -> MemberPage:
    """One unit, for one decision."""
    decision = desk.decision(query.decision) if query.decision else desk.first_decision()
    if decision is None:
        raise UnknownNameError("decision", query.decision, [])
    unit = desk.unit_id(decision, query.unit)
    usual = desk.context_keys(decision.name)
    latest = next(iter(desk.log.choices(decision=decision.name, unit=query.unit, limit=1)), None)
    shown = {
        k: query.context.get(k, str(latest.context[k]) if latest and k in latest.context else v)
        for k, v in usual.items()
    }
    shown |= {k: v for k, v in query.context.items() if k not in shown}
    error = None
    at: datetime | None = None
    if query.at:
        try:
            at = instant(query.at)
        except MatineeError as wrong:
            error = str(wrong)
    preview, missing = None, None
    try:
        preview = _preview(desk, decision, unit, {k: as_value(v) for k, v in shown.items() if v != ""}, at, query.slot)
    except MatineeError as wrong:
        missing = f"It cannot be decided now: {safe_name(wrong)}"
    title = capitalize_first(decision.title)
    when = f"as of {moment(at, desk.now)}, with the features held now" if at else "now"
    features, held = features_held(desk, decision.unit, unit)
    choices = desk.log.choices(unit=query.unit, limit=ROWS)
    lead = f"What this {unit_words(decision)} would get {when}. A preview is never logged; drawn again, it may differ."
    if not held and not choices:
        lead = (
            f"**Nothing is held about this {unit_words(decision)}**, and nothing was decided: the id is new, mistyped or erased. "
            f"This is what a newcomer would get {when}."
        )
    if preview is not None and preview.as_posters:
        learn = sum(c.to_learn for c in preview.slots)
        if learn:
            thing = plural(learn, decision.entity or "title")
            lead += f" {thing} of {count(len(preview.slots))} {verb(learn)} there to learn from."
    return MemberPage(
        unit=query.unit,
        unit_name=unit_words(decision),
        decision=decision.name,
        decisions=tuple(desk.studio.decisions),
        headline=f"{title} for {unit_words(decision)} {query.unit}",
        lead=lead,
        context=tuple(shown.items()),
        at=query.at,
        preview=preview,
        features=features,
        choices=choice_rows(desk, choices),
        error=error,
        missing=missing,
        previewed=desk.showing(decision) is not None,
    )


def _preview(
    desk: Desk, decision: Decision, unit: Id, context: Mapping[str, Any], at: datetime | None, slot: int
) -> Preview:
    studio = desk.studio
    choice = studio.decide(decision, unit, context, at=at, dry=True)
    request, candidates, policy, _ = studio.live.preview(decision, unit, context)
    best = best_kept_out(choice, request, candidates, policy)[:GHOSTS]
    here = choice.action[: SLOTS if desk.showing(decision) is not None else None]
    names = desk.names(decision, [*here, *(i for i, _ in best)])
    kinds = desk.leading(decision, [*here, *(i for i, _ in best)])
    reasons = _reasons(desk, decision, request, here)
    even = 1.0 / max(1, len(choice.candidates))
    slots = tuple(
        Card(
            str(one),
            names.get(str(one), str(one)),
            k + 1,
            choice.propensities[k] if k < len(choice.propensities) else None,
            reasons.get(one, ()),
            note="",
            to_learn=bool(choice.propensities) and not choice.fallback and choice.propensities[k] < LEARN_BELOW * even,
            kind=kinds.get(str(one), ""),
        )
        for k, one in enumerate(here)
    )
    why = {g.name: g.reason for g in decision.guards}
    kept_out = tuple(
        KeptOut(str(i), names.get(str(i), str(i)), guard, why.get(guard, guard), kinds.get(str(i), "")) for i, guard in best
    )
    chosen = here[slot - 1] if 0 < slot <= len(here) else None
    thing = decision.entity or "option"
    return Preview(
        decision=decision.name,
        title="What would be shown" if desk.as_posters(decision) else "What would be decided",
        policy=choice.policy or "no policy is released",
        arm=choice.arm,
        slots=slots,
        kept_out=kept_out,
        kept_out_total=sum(len(v) for v in choice.blocked.values()),
        funnel=funnel(decision, choice, len(candidates), thing),
        as_posters=desk.as_posters(decision),
        allowed=len(choice.candidates),
        slot=slot if chosen is not None else 1,
        fallback=choice.fallback,
        drivers=_drivers(policy, request, candidates, chosen),
        note="" if policy is None or policy.scorer is None else f"Scored by {policy.scorer.name}.",
        more=len(choice.action) - len(here),
    )


def _reasons(desk: Desk, decision: Decision, request: Request, chosen: Sequence[Id]) -> dict[Id, tuple[str, ...]]:
    """Why, in words a member understands, where the domain can say."""
    domain = desk.studio.domain_of(decision.name)
    explain = domain.reasons.get(decision.name) if domain is not None else None
    if explain is None:
        return {}
    found: dict[Id, tuple[str, ...]] = {}
    for one in chosen:
        text = explain(desk.studio, request, one)
        if text:
            found[one] = (text,)
    return found


def best_kept_out(
    choice: Choice, request: Request, candidates: Candidates, policy: Policy | None
) -> list[tuple[Id, str]]:
    """The candidates that would have ranked best had no guard kept them out; in the guards' order if nothing scores."""
    import numpy as np

    guard_of = {i: guard for guard, ids in choice.blocked.items() for i in ids}
    if not guard_of:
        return []
    ids = list(guard_of)
    if policy is None or policy.scorer is None:
        return [(i, guard_of[i]) for i in ids]
    where = np.flatnonzero(np.isin(candidates.ids, np.asarray(ids, candidates.ids.dtype)))
    try:
        scores = policy.scorer.score(request, candidates.take(where)).mean
    except Exception:  # noqa: BLE001  # a scorer may refuse what no guard would let it see; the page shows them unranked
        return [(i, guard_of[i]) for i in ids]
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    return [(candidates.ids[where[k]].item(), guard_of[candidates.ids[where[k]].item()]) for k in order.tolist()]


def funnel(decision: Decision, choice: Choice, total: int, thing: str) -> Funnel:
    if not total:
        return Funnel(())
    steps, left = [(f"{thing}s", total)], total
    seen = len(choice.candidates) + sum(len(ids) for ids in choice.blocked.values())
    if 0 < seen < total:  # a policy may look at the likeliest few hundred only
        steps.append(("proposed by the policy", seen))
        left = seen
    for guard in decision.guards:
        n = len(choice.blocked.get(guard.name, ()))
        if n:
            left -= n
            steps.append((f"after {guard.name}", left))
    drawn = "fallback" if choice.fallback else "drawn"
    return Funnel((*steps, (drawn, len(choice.action))))


def _drivers(
    policy: Policy | None, request: Request, candidates: Candidates, chosen: Id | None
) -> tuple[tuple[str, float], ...]:
    """What moved the score of what was chosen, where the scorer can say; the six strongest."""
    import numpy as np

    explain = getattr(policy.scorer, "explain", None) if policy is not None else None
    if explain is None or chosen is None:
        return ()
    where = np.flatnonzero(candidates.ids == chosen)
    if not len(where):
        return ()
    parts = explain(request, candidates, int(where[0]))
    strongest = sorted(parts.items(), key=lambda kv: -abs(kv[1]))[:6]
    return tuple((str(name), float(points)) for name, points in strongest)


def features_held(desk: Desk, key: str, unit: Id) -> tuple[tuple[FeatureRow, ...], bool]:
    """Each feature by that key, and whether any says something: that of nobody is empty, no, or nought."""
    rows, held = [], False
    for name, features in sorted(desk.studio.features.items()):
        if features.key != key:
            continue
        try:
            values = desk.studio.features_of(name, unit)
        except MatineeError as error:
            rows.append(FeatureRow(name, "not readable", str(error)))
            held = True
            continue
        held |= any(bool(v) and v == v for v in values.values())  # a number that is none is not itself
        rows += [FeatureRow(name, one, shown_value(values.get(one))) for one in features.names]
    return tuple(rows), held


def shown_value(value: Any) -> str:
    """A feature's value, short enough for a narrow column."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        # Whole numbers in a list are ids more often than amounts, and a comma between digits reads as one between items.
        shown = ", ".join(str(v) if isinstance(v, int) else shown_value(v) for v in list(value)[-5:])
        return f"{len(value)} values, newest: {shown}" if len(value) > 5 else shown or "none"
    if isinstance(value, dict):
        top = sorted(value.items(), key=lambda kv: -kv[1] if isinstance(kv[1], int | float) else 0)[:4]
        return f"{len(value)}: " + ", ".join(f"{k} × {v}" for k, v in top) if value else "none"
    if isinstance(value, datetime):
        return moment(value)
    return str(value)[:80]


def choice_rows(desk: Desk, choices: list[Choice]) -> tuple[ChoiceRow, ...]:
    """Choices as rows, with the names of what was chosen and what followed."""
    outcomes = desk.log.outcomes(choices)
    names: dict[str, dict[str, str]] = {}
    for decision in {c.decision for c in choices} & desk.studio.decisions.keys():
        shown_ids = [i for c in choices if c.decision == decision for i in c.action]
        names[decision] = desk.names(desk.decision(decision), shown_ids)
    rows = []
    for c in choices:
        named = names.get(c.decision, {})
        shown = tuple(named.get(str(i), str(i)) for i in c.action)
        probability = c.propensities[0] if c.propensities else None
        rows.append(
            ChoiceRow(
                c.id,
                c.at,
                c.decision,
                str(c.unit),
                shown,
                probability,
                c.policy,
                c.arm,
                c.fallback,
                followed(outcomes[c.id]),
            )
        )
    return tuple(rows)


def followed(outcomes: list[Outcome]) -> tuple[str, ...]:
    """What followed in a few words: each fact, and how often."""
    counts: dict[str, int] = {}
    for o in outcomes:
        counts[o.fact] = counts.get(o.fact, 0) + 1
    return tuple(fact if n == 1 else f"{fact} × {n}" for fact, n in counts.items())
