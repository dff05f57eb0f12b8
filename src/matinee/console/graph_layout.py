"""A layered drawing of the lineage graph: facts at the left, what is made from them to the right.

Each kind has its column and every edge points to the right; within a column nodes are ordered by the barycentre of
their neighbours, in a few sweeps (Sugiyama, Tagawa and Toda, 1981). Plain Python: a studio has tens to a few hundred
nodes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from matinee.console.pages import Drawing, GraphEdge, GraphNode

WIDTH, HEIGHT = 176.0, 44.0
# Each kind has its column, so that the drawing reads alike in every studio; a longer path moves a node to the right.
_RANK = {"fact": 0, "features": 1, "pin": 1, "model": 2, "policy": 3, "decision": 4, "experiment": 4, "evidence": 4}
_GAP_Y, _MARGIN, _HEAD = 14.0, 2.0, 28.0
_PAGE = 1376.0  # width of the content on a 1440 px screen; a drawing that fits is spread over it


def layers(
    nodes: Sequence[str], edges: Sequence[tuple[str, str]], least: Mapping[str, int] | None = None
) -> dict[str, int]:
    """The layer of each node: at least its own, and one more than the highest of what it is made from.

    Nodes of a cycle are cut open where they are entered.

    Example:
        >>> layers(["a", "b", "c"], [("a", "b"), ("b", "c"), ("a", "c")])
        {'a': 0, 'b': 1, 'c': 2}
    """
    floor = least or {}
    known = set(nodes)
    parents: dict[str, list[str]] = defaultdict(list)
    for source, target in edges:
        if source in known and target in known and source != target:
            parents[target].append(source)
    found: dict[str, int] = {}
    for start in nodes:
        # Depth first without recursion: a chain of releases may be longer than Python's stack.
        stack, open_ = [start], {start}
        while stack:
            node = stack[-1]
            waiting = [p for p in parents[node] if p not in found and p not in open_]
            if waiting:
                stack.append(waiting[0])
                open_.add(waiting[0])
                continue
            above = 1 + max((found[p] for p in parents[node] if p in found), default=-1)
            found[node] = max(above, floor.get(node, 0))
            open_.discard(stack.pop())
    return {node: found[node] for node in nodes}


def reach(start: str, edges: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Everything reachable along the edges, with its distance in steps; without the start itself."""
    following: dict[str, list[str]] = defaultdict(list)
    for source, target in edges:
        following[source].append(target)
    seen, wave, steps = {start: 0}, [start], 0
    while wave:
        steps += 1
        reached = list(dict.fromkeys(t for node in wave for t in following[node] if t not in seen))
        seen |= dict.fromkeys(reached, steps)
        wave = reached
    del seen[start]
    return seen


def _ordered(columns: list[list[str]], edges: Sequence[tuple[str, str]], sweeps: int = 6) -> list[list[str]]:
    before: dict[str, list[str]] = defaultdict(list)
    after: dict[str, list[str]] = defaultdict(list)
    for source, target in edges:
        before[target].append(source)
        after[source].append(target)
    place = {node: i / max(1, len(column)) for column in columns for i, node in enumerate(column)}
    for sweep in range(sweeps):
        neighbours = before if sweep % 2 == 0 else after
        for column in columns if sweep % 2 == 0 else reversed(columns):

            def centre(node: str, near: Mapping[str, list[str]] = neighbours) -> float:
                spots = [place[n] for n in near[node] if n in place]
                return sum(spots) / len(spots) if spots else place[node]

            column.sort(key=centre)
            place.update({node: i / max(1, len(column)) for i, node in enumerate(column)})
    return columns


def draw(
    nodes: Sequence[tuple[str, str, str]],
    edges: Sequence[tuple[str, str, str]],
    *,
    focus: str | None = None,
    notes: Mapping[str, str] | None = None,
) -> Drawing:
    """Place the nodes and route the edges.

    Args:
        nodes: URI, kind and name of each node.
        edges: URI of what is used, URI of what uses it, and how.
        focus: The node whose users are lit; everything else steps back.
        notes: A second line for some nodes.
    """
    uris = [uri for uri, _, _ in nodes]
    known = set(uris)
    plain = [(s, t) for s, t, _ in edges if s in known and t in known]
    kind_of = {uri: kind for uri, kind, _ in nodes}
    level = layers(uris, plain, {uri: _RANK.get(kind, 0) for uri, kind in kind_of.items()})
    columns: list[list[str]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    for uri in sorted(uris, key=lambda u: (kind_of[u], u)):
        columns[level[uri]].append(uri)
    columns = _ordered([c for c in columns if c], plain)
    tallest = max((len(c) for c in columns), default=0)
    full = tallest * (HEIGHT + _GAP_Y)
    down = reach(focus, plain) if focus in known and focus is not None else {}
    up = reach(focus, [(t, s) for s, t in plain]) if focus in known and focus is not None else {}
    room = (_PAGE - 2 * _MARGIN - len(columns) * WIDTH) / max(1, len(columns) - 1)
    gap = round(min(128.0, max(56.0, room)), 1)
    spots: dict[str, tuple[float, float]] = {}
    for c, column in enumerate(columns):
        top = _MARGIN + _HEAD + (full - len(column) * (HEIGHT + _GAP_Y)) / 2
        for r, uri in enumerate(column):
            spots[uri] = (_MARGIN + c * (WIDTH + gap), round(top + r * (HEIGHT + _GAP_Y), 1))

    def state(uri: str) -> str:
        if not down and not up and uri != focus:
            return "" if focus is None else "aside"
        return "focus" if uri == focus else "downstream" if uri in down else "upstream" if uri in up else "aside"

    placed = tuple(
        GraphNode(
            uri,
            kind,
            name,
            *spots[uri],
            WIDTH,
            HEIGHT,
            state(uri),  # type: ignore[arg-type]  # one of the literal states
            (notes or {}).get(uri, ""),
        )
        for uri, kind, name in sorted(nodes, key=lambda n: (spots[n[0]], n[0]))
    )
    lines = []
    for source, target, words in edges:
        if source not in known or target not in known:
            continue
        lit = (source == focus or source in down) and target in down
        fed = (target == focus or target in up) and source in up
        mood = "" if focus is None else "downstream" if lit else "upstream" if fed else "aside"
        lines.append(GraphEdge(source, target, _curve(spots[source], spots[target]), mood, words))  # type: ignore[arg-type]  # as above
    heads = tuple(
        (_MARGIN + i * (WIDTH + gap), _heading({kind_of[u] for u in column})) for i, column in enumerate(columns)
    )
    width = 2 * _MARGIN + len(columns) * WIDTH + max(0, len(columns) - 1) * gap
    order = {"aside": 0, "": 1, "upstream": 2, "downstream": 3}
    lines.sort(key=lambda e: order[e.state])
    return Drawing(width, 2 * _MARGIN + _HEAD + full, placed, tuple(lines), heads)


def _heading(kinds: set[str]) -> str:
    plural = {"fact": "facts", "entity": "entities", "policy": "policies", "features": "features", "choices": "choices"}
    words = [plural.get(k, f"{k}s") for k in sorted(kinds)]
    return ", ".join(words).capitalize() if len(words) <= 2 else f"{words[0].capitalize()} and more"


def _curve(start: tuple[float, float], end: tuple[float, float]) -> str:
    x1, y1 = start[0] + WIDTH, start[1] + HEIGHT / 2
    x2, y2 = end[0], end[1] + HEIGHT / 2
    bend = max(24.0, (x2 - x1) / 2)
    if y1 == y2 and x2 > x1:
        return f"M{x1:g} {y1:g}H{x2:g}"
    return f"M{x1:g} {y1:g}C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}"
