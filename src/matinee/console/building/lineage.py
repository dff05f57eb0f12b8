"""The lineage page: the graph drawn, and what breaks if one thing changes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from matinee.console.building.desk import Desk
from matinee.console.formats import capitalize_first, count, in_words, moment, plural, verb
from matinee.console.graph_layout import draw
from matinee.console.pages import Drawing, Empty, Impact, LineagePage, SheetItem, Step
from matinee.decisions import Decision
from matinee.graph import Node

Edge = tuple[str, str, str]  # what is used, what uses it, how
DRAWN = ("fact", "features", "model", "policy", "decision", "experiment")  # pins and evidence hang on these
MANY = 120  # drawn nodes; beyond, only what is connected to a decision in use


def lineage_page(desk: Desk, focus: str) -> LineagePage:
    """The graph with a node in focus, or all alike; raises UnknownNameError for a node there is not."""
    graph = desk.studio.graph
    nodes = [n for n in graph.nodes() if n.kind in DRAWN]
    if focus:
        chosen = graph.get(focus)
        if chosen.kind not in DRAWN:
            nodes.append(chosen)
    edges = all_edges(desk)
    shown = _narrowed(nodes, edges, focus)
    drawing = draw(
        [(n.uri, n.kind, n.name) for n in shown],
        [*edges, *_through_pins(edges)],
        focus=focus or None,
        notes={n.uri: _note(desk, n) for n in shown},
    )
    decisions, facts = (sum(n.kind == k for n in shown) for k in ("decision", "fact"))
    headline = (
        f"{capitalize_first(in_words(decisions))} {verb(decisions, 'decision stands', 'decisions stand')} "
        f"on {in_words(facts)} {verb(facts, 'fact', 'facts')}"
    )
    left_out = len(nodes) - len(shown)
    lead = "An edge leads from what is used to what uses it. Choose a node to see **what breaks if it changes**."
    if left_out:
        lead += f" {plural(left_out, 'node')} that nothing live uses {verb(left_out)} left out of the drawing."
    if not decisions and facts <= 1:
        steps = (
            Step(
                "Append a fact, or use a domain.",
                "Everything made from it is drawn here by itself.",
                'studio.append(Played, "plays.parquet")',
            ),
        )
        return LineagePage(
            "Nothing is made from anything yet",
            lead,
            Drawing(0, 0, (), (), ()),
            None,
            Empty("No lineage yet", "Edges are a by-product of the calls: nobody has to draw them.", steps),
        )
    return LineagePage(headline, lead, drawing, _impact(desk, focus, edges) if focus else None)


def _narrowed(nodes: list[Node], edges: list[Edge], focus: str) -> list[Node]:
    """Everything, or in a large studio what a decision stands on, and what is around the node in focus."""
    if len(nodes) <= MANY:
        return nodes
    above: dict[str, list[str]] = {}
    for source, target, _ in edges:
        above.setdefault(target, []).append(source)
    keep = {n.uri for n in nodes if n.kind == "decision"} | ({focus} if focus else set())
    wave = list(keep)
    while wave:
        wave = [s for t in wave for s in above.get(t, ()) if s not in keep]
        keep |= set(wave)
    if focus:
        keep |= {t for s, t, _ in edges if s == focus}
    return [n for n in nodes if n.uri in keep]


def _note(desk: Desk, node: Node) -> str:
    """The small second line of a node."""
    data = node.data
    if node.kind == "model" and data.get("learner"):
        return f"model, {data['learner']}"
    if node.kind == "policy" and data.get("text"):
        return f"policy, {str(data['text']).partition('(')[0].lower()}"
    if node.kind == "fact":
        return "entity" if data.get("entity") else "fact"
    if node.kind == "decision":
        live = desk.studio.releases.live(node.name) if node.name in desk.studio.decisions else None
        return f"decision, release {live.number}" if live else "decision, not live"
    return node.kind


def all_edges(desk: Desk) -> list[Edge]:
    """The recorded edges, and those a decision's declaration says: what it chooses among, whose windows it heeds."""
    edges = [(e.source, e.target, e.kind) for e in desk.studio.graph.edges()]
    known = {(source, target) for source, target, _ in edges}
    there = {n.uri for n in desk.studio.graph.nodes("fact")}
    for name, decision in desk.studio.decisions.items():
        declared = {f"fact://{f}": "chosen among by" for f in _entities(desk, decision)}
        windows = [w for g in decision.guards if (w := getattr(g, "windows", None)) is not None]
        declared |= {f"fact://{w.schema.name}": "heeded by the guards of" for w in windows}
        for source, why in declared.items():
            target = f"decision://{name}"
            if source in there and (source, target) not in known:
                edges.append((source, target, why))
    return edges


def _through_pins(edges: list[Edge]) -> list[Edge]:
    """A model is trained on a pin of a fact; pins are not drawn, so the drawing leads from the fact to the model."""
    pinned = {target: source for source, target, _ in edges if target.startswith("pin://")}
    return [(pinned[source], target, why) for source, target, why in edges if source in pinned]


def _entities(desk: Desk, decision: Decision) -> list[str]:
    facts = (desk.studio.facts.fact(name).schema for name in desk.studio.facts.names())
    return [f.name for f in facts if f.entity and f.key == decision.entity]


def _walk(start: str, edges: list[Edge], *, forth: bool) -> list[tuple[str, str]]:
    """What is reached along the edges, nearest first, each with the edge that led to it."""
    near: dict[str, list[tuple[str, str]]] = {}
    for source, target, kind in edges:
        here, there = (source, target) if forth else (target, source)
        near.setdefault(here, []).append((there, kind))
    found: dict[str, str] = {}
    wave = [start]
    while wave:
        reached = []
        for one in wave:
            for other, kind in near.get(one, ()):
                if other != start and other not in found:
                    found[other] = f"{kind} {one.partition('://')[2]}"
                    reached.append(other)
        wave = reached
    return list(found.items())


def _impact(desk: Desk, uri: str, edges: list[Edge]) -> Impact:
    node = desk.studio.graph.get(uri)
    down, up = _walk(uri, edges, forth=True), _walk(uri, edges, forth=False)
    names = [u.removeprefix("decision://") for u, _ in down if u.startswith("decision://")]
    live = [n for n in names if n in desk.studio.decisions and desk.studio.releases.live(n)]
    if not down:
        sentence = f"Nothing depends on `{uri}`: it can change or go, and nothing notices."
    else:
        sentence = f"If `{uri}` changes, **{plural(len(down), 'thing')}** must be made again or looked at."
        if live:
            listed = ", ".join(f"`{n}`" for n in live)
            sentence += f" {listed} {verb(len(live))} live and would be affected."
    return Impact(
        uri,
        node.kind,
        node.name,
        sentence,
        tuple((u, u.partition("://")[0], why) for u, why in down),
        tuple((u, u.partition("://")[0], why) for u, why in up),
        _facts(desk, node),
    )


def _facts(desk: Desk, node: Node) -> tuple[SheetItem, ...]:
    data: Mapping[str, Any] = node.data
    items = [SheetItem("First seen", moment(datetime.fromtimestamp(node.at, UTC), desk.now))]
    if node.kind == "fact":
        if desk.studio.tables.exists(node.name):
            items.append(SheetItem("Rows", count(desk.studio.tables.rows(node.name))))
        columns = [f"`{f['name']}` {f['kind']}" for f in data.get("fields", ())]
        items.append(SheetItem("Key", f"`{data.get('key', '')}`"))
        items.append(SheetItem("Columns", ", ".join(columns)))
    for key in (
        "learner",
        "rows",
        "seed",
        "refused_without_consent",
        "code",
        "data_digest",
        "text",
        "note",
        "reward",
        "unit",
        "slots",
    ):
        value = data.get(key)
        if value not in (None, "", []):
            shown = (
                count(value) if isinstance(value, int) and not isinstance(value, bool) and key != "seed" else str(value)
            )
            items.append(
                SheetItem(
                    capitalize_first(key.replace("_", " ")),
                    f"`{shown[:16]}`" if key in ("code", "data_digest") else shown,
                )
            )
    return tuple(items)
