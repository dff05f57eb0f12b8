"""What each decision took from the platform instead of building it."""

from __future__ import annotations

from typing import Any

from matinee.console.building.desk import Desk
from matinee.console.figures import lines_figure
from matinee.console.formats import capitalize_first, count, plural
from matinee.console.pages import Chart, Leverage, SheetItem
from matinee.decisions import Decision

THINGS = (
    "point-in-time features",
    "guards",
    "exact propensities",
    "off-policy value",
    "experiments",
    "serving",
    "lineage",
    "consent",
    "erasure",
    "a page here",
)


def leverage(desk: Desk) -> Leverage:
    """What each decision took from the platform, and the studio's own figures."""

    def read() -> Leverage:
        studio = desk.studio
        report = studio.leverage()
        rows = tuple((name, _taken(desk, d)) for name, d in studio.decisions.items())
        facts, sets = len(desk.own_facts()), len(studio.features)
        columns = sum(len(f.names) for f in studio.features.values())
        made = f"{plural(facts, 'fact')} and {plural(columns, 'feature')} in {plural(sets, 'set')}, shared"
        note = f"{made}; {plural(report.decisions_live, 'decision')} live"
        lines = [(d, round(n)) for d, n in report.lines_a_decision.items() if round(n)]
        figures = {str(r["measure"]): str(r["value"]) for r in report.rows()}
        # Domains by what people call them; one that only joins others to this studio takes no lines of its own.
        figures["lines of domain code a decision"] = (
            ", ".join(f"{_called(desk, d)} {count(n)}" for d, n in lines) or "–"
        )
        items = tuple(SheetItem(capitalize_first(label), value) for label, value in figures.items())
        return Leverage(note, THINGS, rows, _lines_chart(lines), items)

    return desk.kept(("leverage",), read, 120.0)


def _called(desk: Desk, domain: str) -> str:
    return (desk.studio.domains[domain].title or domain).lower()


def _lines_chart(lines: list[tuple[str, int]]) -> Chart | None:
    if len(lines) < 3:
        return None  # two figures are read faster as figures
    most, least = max(lines, key=lambda x: x[1]), min(lines, key=lambda x: x[1])
    title = f"A decision of {most[0]} takes {count(most[1])} lines of domain code, one of {least[0]} {count(least[1])}"
    ordered = sorted(lines, key=lambda x: -x[1])
    return lines_figure("lines", ordered, title=title, subtitle="Lines of domain code for each of its decisions")


def _taken(desk: Desk, decision: Decision) -> tuple[bool, ...]:
    studio = desk.studio
    live = studio.releases.live(decision.name)
    origin = {node.kind for _, node, _ in studio.graph.origin(f"decision://{decision.name}").dependents}
    drawn = decision.mode == "decide"
    asks: list[Any] = [g for g in decision.guards if g.name.startswith("consent")]
    return (
        "features" in origin,
        bool(decision.guards),
        drawn and live is not None,
        drawn and bool(studio.evidence(decision.name)),
        drawn and any(len(r.arms) > 1 for r in studio.releases.all(decision.name)),
        live is not None,
        True,
        decision.consent is not None or bool(asks),
        True,
        True,
    )
