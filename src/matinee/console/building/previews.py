"""The page preview: a whole page as one unit would see it, why each candidate stands there, and two policies side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from matinee.choices import Choice, Id
from matinee.console.building.desk import Desk, as_value, safe_name, unit_words
from matinee.console.building.members import LEARN_BELOW, best_kept_out, features_held, funnel
from matinee.console.formats import article, capitalize_first, count, moment, percent, plural, verb
from matinee.console.pages import KeptOut
from matinee.console.parts import Card
from matinee.console.shown import Compared, Control, GuardOut, Mix, MixRow, PagePreview, ShelfRow, Side
from matinee.console.source import PreviewQuery
from matinee.decisions import Decision
from matinee.exceptions import MatineeError, UnknownNameError
from matinee.showing import PageRow, Showing
from matinee.times import instant

if TYPE_CHECKING:
    from matinee.live import Rehearsed

EXAMPLES, KINDS = 4, 6
DRAWS = 10_000  # draws that an address may name
MOST_CONTEXT, LONGEST = 8, 80
OLDEST, KIDS = 21, 7
VIEWERS = {"": "As it is", "plain": "Not profiled", "kids": "Kids"}


def preview_page(desk: Desk, name: str, query: PreviewQuery) -> PagePreview:
    """A page of a decision for one unit, as one policy or two would draw it."""
    decision = desk.decision(name)
    showing = showing_of(desk, decision)
    asked = _Asked(desk, decision, showing, query)
    unit_name, title = unit_words(decision), capitalize_first(decision.title)
    thing = decision.entity or "option"
    page = PagePreview(
        decision=name,
        title=title,
        unit=query.unit,
        unit_name=unit_name,
        thing=thing,
        headline=f"{title}, as {article(unit_name)} {unit_name} sees it",
        lead=f"Whose page? Give the id of a {unit_name}, or take one that was decided for lately.",
        controls=asked.controls(),
        sides=(),
        compared=None,
        chosen=query.chosen,
        draw=asked.draw,
        as_posters=desk.as_posters(decision),
        lately=_lately(desk, name),
    )
    if page.error:
        return replace(page, lead="Nothing is drawn until the marked fields are mended.", lately=())
    if not query.unit:
        return page
    unit = desk.unit_id(decision, query.unit)
    try:
        found = [_side(desk, decision, showing, unit, asked, one) for one in asked.policies]
    except MatineeError as error:
        return replace(page, missing=f"It cannot be drawn now: {safe_name(error)}")
    sides = tuple(side for side, _ in found)
    compared = None
    if len(sides) == 2:
        compared = compare(sides[0], sides[1])
        sides = (_marked(sides[0], sides[1]), _marked(sides[1], sides[0]))
    return replace(
        page,
        headline=f"{title} for {unit_name} {query.unit}",
        lead=_lead(desk, decision, asked, sides[0], found[0][1]),
        sides=sides,
        compared=compared,
        lately=(),
    )


def showing_of(desk: Desk, decision: Decision) -> Showing:
    """How its choices are shown.

    Raises:
        UnknownNameError: If its domain does not say.
    """
    found = desk.showing(decision)
    if found is None:
        known = [d.name for d in desk.studio.decisions.values() if desk.showing(d) is not None]
        raise UnknownNameError("decision of pages", decision.name, known)
    return found


def _lately(desk: Desk, name: str) -> tuple[tuple[str, datetime], ...]:
    seen: dict[str, datetime] = {}
    for unit, _, at in desk.log.units(name, 400):
        seen.setdefault(unit, at)
    return tuple(seen.items())[:12]


class _Asked:
    """What was asked for in the address, read and bounded; what is wrong with a field is said beside it."""

    def __init__(self, desk: Desk, decision: Decision, showing: Showing, query: PreviewQuery) -> None:
        self.desk, self.decision, self.query = desk, decision, query
        self.errors: dict[str, str] = {}
        self.saved = list(reversed(desk.studio.policies(decision.name)))
        self.policies = [self._policy("policy", query.policy)]
        if query.against:
            self.policies.append(self._policy("against", query.against))
        self.draw = self._number("draw", query.draw, 0, DRAWS - 1) or 0
        self.at = self._at(query.at)
        self.limits = [n for g in decision.guards if (n := getattr(g, "limit_name", None))]
        self.viewer = query.viewer
        if self.viewer not in self._viewers():
            self.errors["as"] = f"as == {self.viewer[:LONGEST]!r}, must be one of {', '.join(filter(None, self._viewers()))}"
            self.viewer = ""
        self.limit = self._number("limit", query.limit, 0, OLDEST) if self.limits else None
        self.hints = self._hints(showing)
        self.typed = self._context(query.context)

    def _viewers(self) -> list[str]:
        """Kids where the decision shelters somebody; not profiled where it profiles."""
        sheltered, profiled = self.decision.sheltered, self.decision.consent is not None
        return ["", *(["plain"] if profiled or sheltered else []), *(["kids"] if sheltered else [])]

    def _policy(self, field: str, name: str) -> str:
        if name and name not in self.saved:
            known = ", ".join(self.saved[:5]) or "none is saved"
            self.errors[field] = f"{field} == {name[:LONGEST]!r}, must be a saved policy of {self.decision.name} ({known})"
            return ""
        return name

    def _number(self, field: str, text: str, low: int, high: int) -> int | None:
        if not text:
            return None
        if not re.fullmatch("[0-9]{1,6}", text) or not low <= int(text) <= high:
            self.errors[field] = f"{field} == {text[:LONGEST]!r}, must be a whole number, {low} to {high}"
            return None
        return int(text)

    def _at(self, text: str) -> datetime | None:
        try:
            return instant(text) if text else None
        except MatineeError as error:
            self.errors["at"] = str(error)
            return None

    def _hints(self, showing: Showing) -> dict[str, tuple[str, ...]]:
        """What may be said of the moment: what callers say in the log, and what the domain knows; usual values first."""
        usual = self.desk.context_keys(self.decision.name)
        names = [*showing.moment, *(k for k in usual if k not in showing.moment and k not in self.limits)]
        return {
            n: tuple(dict.fromkeys([*([usual[n]] if n in usual else []), *showing.moment.get(n, ())]))
            for n in names[:MOST_CONTEXT]
        }

    def _context(self, given: Mapping[str, str]) -> dict[str, str]:
        for name, value in given.items():
            if name not in self.hints:
                known = ", ".join(self.hints) or "nothing"
                # There is no field for it: it is said beside the first one.
                self.errors["unit"] = f"c.{name[:LONGEST]}, must be one of {known}"
            elif len(value) > LONGEST:
                self.errors[f"c.{name}"] = f"{name} has {len(value)} letters, must have at most {LONGEST}"
        usual = self.desk.context_keys(self.decision.name)
        latest = next(iter(self.desk.log.choices(decision=self.decision.name, unit=self.query.unit, limit=1)), None)
        said = latest.context if latest is not None and self.query.unit else {}
        # What is not said is as it usually is: without a country, nothing may be licensed. A field that was emptied is empty.
        found = {n: given.get(n, str(said.get(n, usual.get(n, "")))) for n in self.hints}
        return {name: value.strip()[:LONGEST] for name, value in found.items()}

    @property
    def context(self) -> dict[str, Any]:
        """What the caller would send."""
        found: dict[str, Any] = {k: as_value(v) for k, v in self.typed.items() if v}
        if self.viewer:
            found["profiled"] = False
        limit = KIDS if self.limit is None and self.viewer == "kids" else self.limit
        if limit is not None:
            found |= dict.fromkeys(self.limits, limit)
        return found

    def controls(self) -> tuple[Control, ...]:
        """The fields of the form."""
        live = self.desk.studio.releases.live(self.decision.name)
        names = live.policies if live is not None else []
        said = f"who is live ({', '.join(names[:2])})" if names else "nothing is released"
        saved = [(n, f"{n}, live" if n in names else n) for n in self.saved]
        out = [
            Control("unit", capitalize_first(unit_words(self.decision)), self.query.unit[:LONGEST], size=9),
            Control("policy", "Policy", self.query.policy, (("", said), *saved)),
            Control("against", "Beside it", self.query.against, (("", "nothing"), *saved)),
        ]
        viewers = [(v, VIEWERS[v]) for v in self._viewers()]
        if len(viewers) > 1:
            out.append(Control("as", "Profile", self.viewer, tuple(viewers)))
        if self.limits:
            out.append(Control("limit", "Age limit", self.query.limit[:6], hints=("0", "7", "12", "16", "18"), size=4))
        out += [
            Control(f"c.{name}", capitalize_first(name.replace("_", " ")), self.typed[name], hints=hints, size=8)
            for name, hints in self.hints.items()
        ]
        out.append(Control("at", "As of", self.query.at[:40], size=17))
        return tuple(replace(c, error=self.errors.get(c.name, "")) for c in out) + (
            # Without a field of its own: the button draws again.
            (Control("draw", "Draw", self.query.draw[:6], error=self.errors["draw"]),) if "draw" in self.errors else ()
        )


def _side(
    desk: Desk, decision: Decision, showing: Showing, unit: Id, asked: _Asked, policy: str
) -> tuple[Side, Rehearsed]:
    made = desk.studio.live.rehearse(decision, unit, asked.context, policy=policy, at=asked.at, draw=asked.draw)
    choice = made.choice
    rows = list(showing.rows(desk.studio, choice, made.request)) if not choice.fallback else []
    ranked = best_kept_out(choice, made.request, made.candidates, made.policy)
    some = _examples(ranked)
    names = desk.names(decision, [*choice.action, *(i for ids in some.values() for i in ids)])
    kinds = desk.leading(decision, [*choice.action, *(i for ids in some.values() for i in ids)])
    shelves = _shelves(choice, rows, names, kinds)
    why = {g.name: g.reason for g in decision.guards}
    guards = tuple(
        GuardOut(
            guard,
            why.get(guard, guard),
            len(ids),
            tuple(
                KeptOut(str(i), names.get(str(i), str(i)), guard, why.get(guard, guard), kinds.get(str(i), ""))
                for i in some.get(guard, ())
            ),
        )
        for guard, ids in choice.blocked.items()
        if ids
    )
    had = list(showing.history(made.request)) if showing.history is not None else []
    side = Side(
        policy=choice.policy,
        says=_says(desk, decision, choice.policy),
        rows=shelves,
        slots=len(choice.action) if not choice.fallback else 0,
        allowed=len(choice.candidates),
        learning=sum(card.to_learn for row in shelves for card in row.cards),
        guards=guards,
        funnel=funnel(decision, choice, len(made.candidates), decision.entity or "option"),
        mix=_mix(desk, decision, had, choice) if not choice.fallback else None,
        fallback=choice.fallback,
        before=len(set(had) & set(choice.action)),
        young=None if choice.fallback else _young(made),
    )
    return side, made


def _examples(ranked: Sequence[tuple[Id, str]]) -> dict[str, list[Id]]:
    found: dict[str, list[Id]] = {}
    for one, guard in ranked:
        mine = found.setdefault(guard, [])
        if len(mine) < EXAMPLES:
            mine.append(one)
    return found


def _young(made: Rehearsed) -> int | None:
    """How many of those shown the policy still keeps a share for, since they were hardly shown yet; None where it keeps none."""
    owed = getattr(made.policy, "owed", None)
    if owed is None:
        return None
    try:
        return len(set(made.candidates.ids[owed(made.candidates) > 0].tolist()) & set(made.choice.action))
    except MatineeError:
        return None  # the candidates are published without the column: its draw fails too, and says so


def _shelves(
    choice: Choice, rows: Sequence[PageRow], names: Mapping[str, str], kinds: Mapping[str, str]
) -> tuple[ShelfRow, ...]:
    """The rows with their cards; chances of titles are given their row, whose own stands at its head."""
    even, slot, out = 1.0 / max(1, len(choice.candidates)), 0, []
    for row in rows:
        cards = []
        for k, one in enumerate(row.candidates):
            chance = choice.propensities[slot] if slot < len(choice.propensities) else None
            if chance is not None and k == 0 and row.chance > 0:
                chance = min(1.0, chance / row.chance)  # the log keeps the row's chance with its first title
            slot += 1
            reason = (row.reasons[k],) if k < len(row.reasons) and row.reasons[k] else ()
            learn = chance is not None and chance < LEARN_BELOW * even
            cards.append(
                Card(str(one), names.get(str(one), str(one)), slot, chance, reason, to_learn=learn, kind=kinds.get(str(one), ""))
            )
        out.append(ShelfRow(row.heading, row.kind, row.chance, tuple(cards)))
    return tuple(out)


def _says(desk: Desk, decision: Decision, policy: str) -> str:
    if not policy:
        return "nothing is released"
    note = str(desk.studio.policies(decision.name).get(policy, {}).get("note", ""))
    live = desk.studio.releases.live(decision.name)
    share = next((a.share for a in live.arms if a.policy == policy), None) if live is not None else None
    said = "not released" if share is None else "live" if share >= 1 else f"live for {percent(share, 0)}"
    return f"{said}; {note}" if note else said


def _mix(desk: Desk, decision: Decision, had: Sequence[Id], choice: Choice) -> Mix | None:
    kinds = desk.kinds(decision)
    if kinds is None or not had:
        return None
    wanted, shown = kinds.mix(had), kinds.mix(choice.action)
    if not wanted.sum() or not shown.sum():
        return None
    order = sorted(range(len(kinds.names)), key=lambda k: -max(wanted[k], shown[k]))
    rows = [MixRow(kinds.names[k], float(wanted[k]), float(shown[k])) for k in order[:KINDS] if wanted[k] + shown[k] > 0]
    rest = order[KINDS:]
    if len(rest) and (wanted[rest].sum() + shown[rest].sum()) > 0:
        rows.append(MixRow("Everything else", float(wanted[rest].sum()), float(shown[rest].sum())))
    return Mix(kinds.called, len(had), tuple(rows), float(kinds.apart(wanted, shown)), kinds.measure)


def _lead(desk: Desk, decision: Decision, asked: _Asked, side: Side, made: Rehearsed) -> str:
    unit, thing = unit_words(decision), decision.entity or "option"
    when = f"as of {moment(asked.at, desk.now)}, with the features held now" if asked.at else "now"
    where = f" on {asked.typed['device']}" if asked.typed.get("device") else ""
    who = {"": f"this {unit}", "plain": f"this {unit} without profiling", "kids": f"a kids profile of this {unit}"}[asked.viewer]
    text = f"What {who} would see {when}{where}. A preview is never logged and changes nothing."
    if side.fallback:
        return text
    if side.learning:
        text += f" {count(side.learning)} of {plural(side.slots, thing)} {verb(side.learning)} there to learn from."
    if not asked.viewer and not features_held(desk, decision.unit, made.request.unit)[1]:
        text += f" **Nothing is held about this {unit}**: the id is new, mistyped or erased. A newcomer would see this."
    elif not asked.viewer and made.request.context.get("profiled") is False:
        sheltered = decision.sheltered and made.request.features.get(decision.sheltered)
        why = "this is a kids profile" if sheltered else "no consent to profiling is in force"
        text += f" **Nothing of this {unit} is read**: {why}. What is popular is shown instead."
    elif side.slots and side.before == side.slots:
        text += f" **There is nothing new left for this {unit}**: everything that is shown was watched before."
    return text


# -------------------------------------------------------------------------------------------------------- side by side


def _places(side: Side) -> dict[str, tuple[int, int]]:
    return {card.id: (r + 1, k + 1) for r, row in enumerate(side.rows) for k, card in enumerate(row.cards)}


def compare(one: Side, other: Side) -> Compared:
    """What is on both pages, what on one only, what moved, and where they differ first."""
    here, there = _places(one), _places(other)
    common = here.keys() & there.keys()
    return Compared(
        common=len(common),
        only=(len(here) - len(common), len(there) - len(common)),
        moved=sum(here[i] != there[i] for i in common),
        rows=len({r.heading for r in one.rows} & {r.heading for r in other.rows}),
        first=_first(one, other),
    )


def _first(one: Side, other: Side) -> str:
    for r in range(max(len(one.rows), len(other.rows))):
        a = one.rows[r].cards if r < len(one.rows) else ()
        b = other.rows[r].cards if r < len(other.rows) else ()
        for k in range(max(len(a), len(b))):
            if k >= len(a) or k >= len(b) or a[k].id != b[k].id:
                return f"row {r + 1}, place {k + 1}"
    return ""


def _marked(side: Side, other: Side) -> Side:
    """The side with a word on each card: where it stands on the other page."""
    here, there = _places(side), _places(other)

    def word(card: Card) -> str:
        if card.id not in there:
            return "only here"
        row, place = there[card.id]
        return "" if here[card.id] == (row, place) else f"there row {row}, place {place}"

    rows = tuple(replace(row, cards=tuple(replace(c, note=word(c)) for c in row.cards)) for row in side.rows)
    return replace(side, rows=rows)
