"""The page of one candidate: whom it is shown to, how far it is, when it may be shown, and what is like it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from matinee import catalogue
from matinee.choices import Id
from matinee.console.building.desk import PERIOD, Desk
from matinee.console.building.members import features_held, shown_value
from matinee.console.figures import value_figure
from matinee.console.formats import capitalize_first, count, percent, plural
from matinee.console.pages import Point
from matinee.console.parts import Card, Estimate, SheetItem
from matinee.console.shown import ItemPage, PlaceRow, ProgressRow, ShownBy, WindowRow
from matinee.decisions import Decision
from matinee.exceptions import UnknownNameError
from matinee.showing import About, Progress

if TYPE_CHECKING:
    pass

MOST = 20_000  # newest choices that are counted
READ = 400  # newest choices that show it whose rows are read
OPEN, CLOSED = -(2**63), 2**63 - 1  # of a window without a beginning, without an end


def item_page(desk: Desk, entity: str, typed: str) -> ItemPage:
    """Everything known about one candidate.

    Raises:
        UnknownNameError: If no decision chooses among such things, or there is none with that id.
    """
    decisions = [d for d in desk.studio.decisions.values() if d.entity == entity]
    if not decisions:
        known = dict.fromkeys(d.entity for d in desk.studio.decisions.values() if d.entity)
        raise UnknownNameError("kind of candidate", entity, list(known))
    first = next((d for d in decisions if desk.showing(d) is not None), decisions[0])
    row, one = _row(desk, first, typed)
    names = desk.names(first, [one])
    name = names[str(one)]
    about = _about(desk, first, one)
    similar = [i for i, _ in about.similar]
    called, kinds = desk.names(first, similar), desk.leading(first, [one, *similar])
    shown_by = tuple(s for d in decisions if (s := shown(desk, d, one)) is not None)
    windows = _windows(desk, decisions, one)
    return ItemPage(
        entity=entity,
        id=str(one),
        name=name,
        kind=kinds.get(str(one), ""),
        lead=_lead(desk, entity, shown_by, windows),
        sheet=tuple(row),
        shown_by=shown_by,
        progress=tuple(_progress(p, entity) for p in about.progress),
        progress_says=_no_progress(desk, decisions, entity),
        windows=windows,
        similar=tuple(
            Card(str(i), called[str(i)], k + 1, None, note=f"{near:.3g}", kind=kinds.get(str(i), ""))
            for k, (i, near) in enumerate(about.similar)
        ),
        similar_by=about.similar_by,
        features=features_held(desk, entity, one)[0],
        as_posters=desk.as_posters(first),
        previews={d.name: capitalize_first(d.title) for d in decisions if desk.showing(d) is not None},
    )


def _row(desk: Desk, decision: Decision, typed: str) -> tuple[list[SheetItem], Id]:
    """What its entity says of it, and its id as the facts hold it."""
    import polars as pl

    entity = catalogue.entity_of(decision, desk.studio.facts)
    key = entity.schema.key
    number = entity.schema.field(key).kind == "int"
    known: list[dict[str, Any]] = []
    if not number or (typed.removeprefix("-").isdecimal() and len(typed) < 19):
        one: Id = int(typed) if number else typed
        frame = desk.kept(("entity", entity.schema.name), lambda: desk.studio.as_of(entity), 300.0)
        known = frame.filter(pl.col(key) == one).to_dicts()
    if not known:
        raise UnknownNameError(decision.entity or "candidate", typed[:80], [])
    hidden = {key, "at", "known", "seq", "choice", "outcome", "name"}
    own = {f.name: known[0].get(f.name) for f in entity.schema.fields if f.name not in hidden}
    return [SheetItem(capitalize_first(n.replace("_", " ")), _text(v)) for n, v in own.items() if v is not None], one


def _text(value: Any) -> str:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else shown_value(value)


def _about(desk: Desk, decision: Decision, one: Id) -> About:
    domain = desk.studio.domain_of(decision.name)
    make = domain.about.get(decision.entity or "") if domain is not None else None
    return make(desk.studio, one) if make is not None else About()


def _lead(desk: Desk, entity: str, shown_by: Sequence[ShownBy], windows: Sequence[WindowRow]) -> str:
    parts = [
        f"**{percent(s.share.value)}** of the {count(s.choices)} choices of {s.title} in 28 days show it "
        f"[{percent(s.share.low)}, {percent(s.share.high)}]."
        for s in shown_by
        if s.pages
    ]
    if not parts:
        parts.append(f"No choice of the last 28 days shows this {entity}.")
    states = Counter(w.state for w in windows)
    if windows and not states["open now"]:
        parts.append("**No licence window is open**: it may be shown to nobody.")
    return " ".join(parts)


# ------------------------------------------------------------------------------------------------------ from the log


def shown(desk: Desk, decision: Decision, one: Id) -> ShownBy | None:
    """How often a decision shows it, day by day, and in which rows; None where nothing was chosen. Kept for a minute."""
    return desk.kept(("shown", decision.name, one), lambda: _shown(desk, decision, one))


def _shown(desk: Desk, decision: Decision, one: Id) -> ShownBy | None:
    import polars as pl

    since = desk.now - PERIOD
    rows = desk.log.sealed(["id", "at", "action"], decision=decision.name, since=since, limit=MOST)
    there = rows.select("id", "at", shows=pl.col("action").list.contains(str(one)))
    fresh = [
        (c.id, c.at, str(one) in map(str, json.loads(c.action)))
        for c in desk.log.fresh()
        if c.decision == decision.name and c.at >= since
    ]
    shape: dict[str, Any] = {"id": pl.String, "at": pl.Datetime("us", "UTC"), "shows": pl.Boolean}
    every = pl.concat([there.cast(pl.Schema(shape)), pl.DataFrame(fresh, schema=shape, orient="row")]).unique("id")
    if not len(every):
        return None
    days = every.group_by(pl.col("at").dt.date().alias("day")).agg(pl.len().alias("n"), pl.col("shows").sum()).sort("day")
    points = [_point(day, k, n) for day, n, k in days.iter_rows()]
    pages = int(every["shows"].sum())
    title = capitalize_first(decision.title)
    share = wilson(pages, len(every))
    over = None
    if len(points) > 1 and pages:
        over = value_figure(
            f"shown-{decision.name}", points,
            title=f"{title} showed it in {percent(share.value)} of its choices",
            subtitle="Share of the choices of each day that show it, per cent, 95 % interval (Wilson)", unit="%", height=200,
        )  # fmt: skip
    places = _places(desk, decision, one, pages, len(every)) if pages else ()
    kept_out, read = _kept_out(desk, decision, one)
    return ShownBy(decision.name, title, len(every), pages, share, over, places, kept_out, read)


def _point(day: date, k: int, n: int) -> Point:
    e = wilson(k, n)
    at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return Point(at, 100 * (e.value or 0.0), 100 * (e.low or 0.0), 100 * (e.high or 0.0), n)


def wilson(k: int, n: int) -> Estimate:
    """A share with Wilson's 95 % interval, which holds near 0 and 1 too.

    Example:
        >>> [round(v, 3) for v in (wilson(0, 10).value, wilson(0, 10).high)]
        [0.0, 0.278]
    """
    if not n:
        return Estimate(None, refused="nothing was chosen")
    z2 = 1.96**2
    middle = (k + z2 / 2) / (n + z2)
    half = 1.96 / (n + z2) * math.sqrt(k * (n - k) / n + z2 / 4)
    return Estimate(k / n, max(0.0, middle - half), min(1.0, middle + half))


def _places(desk: Desk, decision: Decision, one: Id, pages: int, choices: int) -> tuple[PlaceRow, ...]:
    """In which kinds of rows it stood, of the newest choices that show it: how often, where, and with what chance."""
    showing = desk.showing(decision)
    found: dict[str, list[tuple[int, float | None]]] = {}
    newest = desk.log.choices(decision=decision.name, action=str(one), limit=READ)
    for choice in newest:
        if choice.fallback:
            continue
        slot = 0
        rows = showing.rows(desk.studio, choice, None) if showing is not None else []
        for row in rows:
            for k, other in enumerate(row.candidates):
                if str(other) == str(one):
                    chance = choice.propensities[slot] if slot < len(choice.propensities) else None
                    if chance is not None and k == 0 and row.chance > 0:
                        chance = min(1.0, chance / row.chance)
                    found.setdefault(row.kind, []).append((k + 1, chance))
                slot += 1
    total = sum(len(v) for v in found.values()) or 1
    out = []
    for kind, at in sorted(found.items(), key=lambda item: -len(item[1])):
        known = [c for _, c in at if c is not None]
        mean = sum(known) / len(known) if known else None
        out.append(PlaceRow(kind, len(at), len(at) / total, sum(k for k, _ in at) / len(at), mean))
    return tuple(out)


def _kept_out(desk: Desk, decision: Decision, one: Id, most: int = 200) -> tuple[tuple[tuple[str, int], ...], int]:
    """By which guards it was kept out of the newest choices, and of how many choices that is."""
    rows = desk.log.newest(["blocked"], decision.name, most)
    if not len(rows):
        return (), 0
    wanted = str(one)
    counts: Counter[str] = Counter()
    for blocked in rows["blocked"].to_list():
        for guard, ids in json.loads(blocked).items():
            counts[guard] += wanted in map(str, ids)
    return tuple((guard, n) for guard, n in counts.most_common() if n), len(rows)


# ----------------------------------------------------------------------------------------------------- windows, progress


def _windows(desk: Desk, decisions: Sequence[Decision], one: Id) -> tuple[WindowRow, ...]:
    import polars as pl

    out: list[WindowRow] = []
    facts = {w.schema.name: w for d in decisions for w in d.windows}
    for name, fact in facts.items():
        if not desk.studio.tables.exists(name):
            continue
        found = catalogue.windows_of(fact, desk.studio.facts, pl.Series([one]), desk.now)
        times = [f.name for f in fact.schema.fields if f.kind == "datetime"]
        texts = [f.name for f in fact.schema.fields if f.kind == "str" and f.name != fact.schema.key]
        if len(times) < 2:
            continue
        starts, ends = found[f"{name}.{times[0]}"][0].tolist(), found[f"{name}.{times[1]}"][0].tolist()
        where = [found[f"{name}.{t}"][0].tolist() for t in texts]
        for k, (begin, end) in enumerate(zip(starts, ends, strict=True)):
            if begin == CLOSED:
                continue  # no window stands here
            a, b = _moment(begin), _moment(end)
            place = ", ".join("everywhere" if w[k] == "*" else str(w[k]) for w in where)
            out.append(WindowRow(name, place, a, b, _state(a, b, desk.now)))
    return tuple(sorted(out, key=lambda w: (w.starts or datetime.min.replace(tzinfo=UTC), w.where)))


def _moment(us: int) -> datetime | None:
    """None for what is open."""
    return None if us in (OPEN, CLOSED) else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


def _state(starts: datetime | None, ends: datetime | None, now: datetime) -> str:
    if starts is not None and starts > now:
        return "to come"
    return "over" if ends is not None and ends <= now else "open now"


def _progress(p: Progress, entity: str) -> ProgressRow:
    kept = f"{percent(p.share, 0)} of every slot goes to such {entity}s, at most {count(p.budget)} a page"
    if p.owed:
        says = f"Owed {count(p.owed)} more of {plural(p.enough, 'impression')} before it is judged by what came of it; {kept}."
    else:
        says = f"Shown often enough to be judged by what came of it; {kept}, and it is no longer one of them."
    return ProgressRow(p.policy, round(p.shown), p.enough, p.share, p.budget, says)


def _no_progress(desk: Desk, decisions: Sequence[Decision], entity: str) -> str:
    live = [d.name for d in decisions if desk.studio.releases.live(d.name) is not None]
    if not live:
        return f"Nothing is released that chooses among {entity}s."
    return f"No policy that is live keeps a share for {entity}s that were hardly shown, or this one is not published."
