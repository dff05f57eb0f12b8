"""What a policy's pages reach over a sample of units: how much of the catalogue, how much of the head, and whose taste.

The pages are drawn in a thread (`sampling`); until they are done, the page says how far they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from matinee.choices import Id
from matinee.console.building.desk import Desk, unit_words
from matinee.console.building.previews import showing_of
from matinee.console.building.sampling import SECONDS, Sample
from matinee.console.figures import concentration_figure, coverage_figure, mix_figure
from matinee.console.formats import capitalize_first, count, fixed, percent, plural
from matinee.console.parts import Chart, Estimate
from matinee.console.shown import ReachPage, ReachRow
from matinee.decisions import Decision
from matinee.exceptions import UnknownNameError
from matinee.showing import Kinds, Showing

UNITS = 200  # pages of a sample
HEAD = 0.1  # share of the catalogue that is its head
FEWEST = 20  # pages without which there is no figure
KINDS = 10


def reach_page(desk: Desk, name: str, policy: str, against: str) -> ReachPage:
    """The figures of a policy's pages, beside another's where one is named."""
    decision = desk.decision(name)
    showing = showing_of(desk, decision)
    saved = list(reversed(desk.studio.policies(name)))
    live = desk.studio.releases.live(name)
    policy = policy or (live.live.policy if live is not None else saved[0] if saved else "")
    title, unit = capitalize_first(decision.title), unit_words(decision)
    page = ReachPage(
        decision=name, title=title, headline=f"What the pages of {policy or name} reach", lead="", policies=tuple(saved),
        policy=policy, against=against, rows=(), charts=(), done=0, of=0, looking=False, note="",
    )  # fmt: skip
    for one in filter(None, (policy, against)):
        if one not in saved:
            raise UnknownNameError("policy", one, saved)
    if not policy:
        return replace(page, missing=f"No policy of {name} is saved yet: train it, `matinee train {name}`, and look again.")
    names = list(dict.fromkeys(filter(None, (policy, against))))
    samples = [_sample(desk, decision, showing, one) for one in names]
    if not samples[0].units:
        return replace(page, missing=f"Nothing is known of any {unit} yet, so there is nobody to draw pages for.")
    looking = not all(s.done for s in samples)
    done, of = sum(s.drawn for s in samples), sum(len(s.units) for s in samples)
    broken = next((s.error for s in samples if s.error), "")
    if broken:
        return replace(page, missing=f"The pages could not be drawn: {broken}", done=done, of=of)
    if looking:
        lead = f"Pages are being drawn: {count(done)} of {count(of)}. The figures will stand here within a minute."
        return replace(page, lead=lead, done=done, of=of, looking=True)
    kinds = desk.kinds(decision)
    measured = [Measured.of(one, sample, kinds) for one, sample in zip(names, samples, strict=True)]
    if min(len(m.shown) for m in measured) < FEWEST:
        fell = sum(s.fell for s in samples)
        return replace(
            page, done=done, of=of,
            missing=f"{count(done - fell)} pages could be drawn and {count(fell)} fell back; figures need {FEWEST} of each policy.",
        )  # fmt: skip
    return replace(
        page,
        lead=_lead(decision, measured, kinds),
        rows=tuple(m.row() for m in measured),
        charts=tuple(_charts(decision, measured, kinds)),
        done=done, of=of,
        note=_note(decision, samples[0], unit),
        measure=kinds.measure if kinds is not None else "",
        called=kinds.called if kinds is not None else "",
    )  # fmt: skip


def _sample(desk: Desk, decision: Decision, showing: Showing, policy: str) -> Sample:
    health = desk.studio.health()
    key = (decision.name, policy, health["generation"], desk.studio.releases.version())
    return desk.reach.sample(key, decision, policy, showing, lambda: units_of(desk, decision))


def units_of(desk: Desk, decision: Decision) -> list[Id]:
    """A sample of units, always the same while the same are known: of those with facts of their own, else of the log."""
    return desk.kept(("sample", decision.name), lambda: _units(desk, decision), 900.0)


def _units(desk: Desk, decision: Decision) -> list[Id]:
    found: set[Id] = set()
    facts = dict.fromkeys(f.schema.name for one in desk.studio.features.values() if one.key == decision.unit for f in one.facts)
    for fact in facts:
        schema = desk.studio.facts.fact(fact).schema
        if schema.key == decision.unit and desk.studio.tables.exists(fact):
            rows = desk.studio.facts.scan(fact, columns=[schema.key]).unique().collect()
            found |= set(rows[schema.key].to_list())
    if not found:
        found = {desk.unit_id(decision, unit) for unit, _, _ in desk.log.units(decision.name, 2000)}
    ordered = sorted(found, key=str)
    order = np.random.default_rng(0).permutation(len(ordered))[:UNITS]
    return [ordered[k] for k in order.tolist()]


@dataclass(frozen=True)
class Measured:
    """What a sample of pages says.

    Attributes:
        policy: Whose.
        sample: The sample.
        shown: Candidates of each page.
        seen: Share of the catalogue that was shown by then, page by page.
        head: Share of each page's places that go to the head.
        shares: Cumulative share of the places, the most watched candidates first, at each of `steps`.
        watched: The same of what the units had.
        steps: Shares of the catalogue.
        apart: How far each page's mix is from its unit's; NaN where it has none.
        mixes: Of all histories and of all pages, shape (kinds,).
    """

    policy: str
    sample: Sample
    shown: list[list[Id]]
    seen: np.ndarray[Any, Any]
    head: np.ndarray[Any, Any]
    steps: np.ndarray[Any, Any]
    shares: np.ndarray[Any, Any]
    watched: np.ndarray[Any, Any]
    apart: np.ndarray[Any, Any]
    mixes: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None

    @classmethod
    def of(cls, policy: str, sample: Sample, kinds: Kinds | None) -> Measured:
        """Measure a sample that is done."""
        shown, had = sample.shown, sample.had
        seen: set[Id] = set()
        growth = []
        for page in shown:
            seen |= set(page)
            growth.append(len(seen))
        watched: dict[Id, int] = {}
        for own in had:
            for one in own:
                watched[one] = watched.get(one, 0) + 1
        among = max(sample.among, len(seen), 1)
        # The order of the head is that of the histories; what nobody had comes last, in no order that matters.
        place = {one: k for k, one in enumerate(sorted(watched, key=lambda i: (-watched[i], str(i))))}
        top = max(1, round(HEAD * among))
        head = np.array([np.mean([place.get(i, among) < top for i in page]) for page in shown if page])
        steps = np.linspace(0.0, 1.0, 41)
        counts = np.zeros(among + 1)
        for page in shown:
            for i in page:
                counts[min(place.get(i, among), among)] += 1
        own_counts = np.zeros(among + 1)
        for i, k in place.items():
            own_counts[min(k, among)] += watched[i]
        # Places of candidates that nobody had are spread evenly over the rest of the catalogue.
        rest = max(1, among - len(place))
        counts[len(place) : among] += counts[among] / rest
        at = np.minimum(np.round(steps * among).astype(int), among)
        apart, mixes = np.full(len(shown), math.nan), None
        if kinds is not None:
            for k, (own, page) in enumerate(zip(had, shown, strict=True)):
                wanted, given = kinds.mix(own), kinds.mix(page)
                if wanted.sum() > 0 and given.sum() > 0:
                    apart[k] = kinds.apart(wanted, given)
            mixes = (kinds.mix([i for own in had for i in own]), kinds.mix([i for page in shown for i in page]))
        return cls(
            policy, sample, shown, np.array(growth) / among, head, steps, _cumulative(counts[:among], at),
            _cumulative(own_counts[:among], at), apart, mixes,
        )  # fmt: skip

    def row(self) -> ReachRow:
        """Its line in the table."""
        known = self.apart[~np.isnan(self.apart)]
        among = max(self.sample.among, 1)
        return ReachRow(
            self.policy, len(self.shown), float(self.seen[-1]), len({i for p in self.shown for i in p}), among,
            mean_of(100 * self.head, "%"), mean_of(known) if len(known) >= FEWEST else None, self.sample.fell,
        )  # fmt: skip


def _cumulative(counts: np.ndarray[Any, Any], at: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    total = float(counts.sum())
    sums = np.concatenate([[0.0], np.cumsum(counts)])
    return np.asarray(sums[at] / total if total > 0 else sums[at])


def mean_of(values: np.ndarray[Any, Any], unit: str = "") -> Estimate:
    """The mean with its normal 95 % interval: units are drawn independently, one page each."""
    n = len(values)
    if n < 2:
        return Estimate(None, refused="fewer than two pages")
    mean, half = float(values.mean()), 1.96 * float(values.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, unit)


def _lead(decision: Decision, measured: Sequence[Measured], kinds: Kinds | None) -> str:
    thing, one = decision.entity or "option", measured[0]
    row = one.row()
    head = row.head
    text = (
        f"{plural(row.pages, 'page')} of **{one.policy}** show **{count(row.shown)} of {count(row.among)} {thing}s** "
        f"({percent(row.coverage)}). The most watched tenth takes **{percent((head.value or 0.0) / 100)}** "
        f"[{fixed(head.low or 0.0, 1)}, {fixed(head.high or 0.0, 1)}] of the places, and {percent(_at_head(one))} of the histories."
    )
    if kinds is not None and row.apart is not None:
        a = row.apart
        text += f" {kinds.measure} of a page is {fixed(a.value or 0.0, 3)} [{fixed(a.low or 0.0, 3)}, {fixed(a.high or 0.0, 3)}]."
    return text


def _at_head(one: Measured) -> float:
    return float(np.interp(HEAD, one.steps, one.watched))


def _charts(decision: Decision, measured: Sequence[Measured], kinds: Kinds | None) -> list[Chart]:
    thing, unit = decision.entity or "option", unit_words(decision)
    ours, other = measured[0], measured[1] if len(measured) > 1 else None
    charts = [
        coverage_figure(
            "coverage",
            [(m.policy, [100 * v for v in m.seen.tolist()]) for m in measured],
            title=f"{count(len(ours.shown))} pages show {percent(float(ours.seen[-1]))} of the catalogue",
            subtitle=f"Share of the published {thing}s that the first pages show, per cent, by the number of pages",
        ),
        concentration_figure(
            "head",
            [100 * v for v in ours.steps.tolist()],
            [
                (ours.policy, [100 * v for v in ours.shares.tolist()]),
                *([(other.policy, [100 * v for v in other.shares.tolist()])] if other is not None else []),
                ("watched (dashed)", [100 * v for v in ours.watched.tolist()]),
            ],
            title=f"The most watched tenth takes {percent(float(ours.head.mean()))} of the places",
            subtitle=f"Share of the places by share of the {thing}s, per cent; most watched first, by this sample's histories",
            head=100 * HEAD,
        ),
    ]
    if kinds is not None and ours.mixes is not None and ours.mixes[0].sum() > 0:
        wanted, given = ours.mixes
        order = sorted(range(len(kinds.names)), key=lambda k: -wanted[k])[:KINDS]
        gap = max(order, key=lambda k: abs(given[k] - wanted[k]))
        charts.append(
            mix_figure(
                "mix",
                [(kinds.names[k], 100 * float(wanted[k]), 100 * float(given[k])) for k in order],
                title=f"{kinds.names[gap]} differs most: {percent(float(wanted[gap]))} of the histories, "
                f"{percent(float(given[gap]))} of the pages",
                subtitle=f"Share of each {kinds.called}, per cent: a ring is what {unit}s watched, a dot what {ours.policy} shows",
                called=kinds.called,
            )
        )
    return charts


def _note(decision: Decision, sample: Sample, unit: str) -> str:
    fell = f" {plural(sample.fell, 'page')} fell back." if sample.fell else ""
    short = "" if sample.drawn >= len(sample.units) else f" Drawing ended after {SECONDS:.0f} s."
    return (
        f"One page each for {plural(sample.drawn, unit)}, drawn at random of those that are known, the same for every policy; "
        f"none was logged. Intervals are over {unit}s. Coverage is of exactly these pages.{fell}{short}"
    )
