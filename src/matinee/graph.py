"""Lineage: a URI for each fact, feature set, model, policy, decision, experiment; edges as a by-product of the calls.

`fact://played`, `features://taste@1f3a9c`, `model://home-ranker@3`, `policy://home@13`, `decision://home`,
`experiment://home@14`, `pin://played@train-home-ranker-3`. An edge points from what is used to what uses it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matinee.exceptions import MatineeError, UnknownNameError
from matinee.registry import Registry
from matinee.results import Table

KINDS = ("fact", "features", "pin", "model", "policy", "decision", "experiment", "evidence")


@dataclass(frozen=True)
class Node:
    """One thing in the graph."""

    uri: str
    kind: str
    name: str
    data: Mapping[str, Any]
    at: float


@dataclass(frozen=True)
class Edge:
    """`target` uses `source`."""

    source: str
    target: str
    kind: str
    at: float


@dataclass(frozen=True)
class Impact(Table):
    """What depends on a thing: what breaks, or must be made again, if it changes."""

    uri: str
    dependents: tuple[tuple[int, Node, str], ...]

    def rows(self) -> list[dict[str, Any]]:
        return [{"steps": depth, "what": n.kind, "uri": n.uri, "because": why} for depth, n, why in self.dependents]

    def notes(self) -> Sequence[str]:
        return [] if self.dependents else [f"nothing depends on {self.uri}"]


class Graph:
    """Nodes and edges in the studio's database, stamped with its clock.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> graph = Graph(Registry(Path(tempfile.mkdtemp()) / "studio.db"))
        >>> graph.put("model://ranker@1", {"rows": 9}, {"fact://played": "trained on"})
        'model://ranker@1'
        >>> [row["uri"] for row in graph.impact("fact://played").rows()]
        ['model://ranker@1']
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def put(self, uri: str, data: Mapping[str, Any] | None = None, uses: Mapping[str, str] | None = None) -> str:
        """Record a thing and what it uses (`{uri: kind of use}`); what it uses must be there, or is put bare."""
        kind, name = parse(uri)
        now = self._registry.clock().timestamp()
        with self._registry.transaction() as db:
            if data is None:
                db.execute("INSERT OR IGNORE INTO nodes VALUES (?, ?, ?, '{}', ?)", (uri, kind, name, now))
            else:
                db.execute(
                    "INSERT INTO nodes VALUES (?, ?, ?, ?, ?) ON CONFLICT (uri) DO UPDATE SET data = excluded.data",
                    (uri, kind, name, json.dumps(data, default=str), now),
                )
            for source, use in (uses or {}).items():
                source_kind, source_name = parse(source)
                db.execute(
                    "INSERT OR IGNORE INTO nodes VALUES (?, ?, ?, '{}', ?)", (source, source_kind, source_name, now)
                )
                db.execute("INSERT OR REPLACE INTO edges VALUES (?, ?, ?, ?)", (source, uri, use, now))
        return uri

    def replace_uses(self, uri: str, kind: str, uses: Sequence[str]) -> None:
        """Make these the only edges of that kind into a thing (a decision is live with other policies than before)."""
        with self._registry.transaction() as db:
            db.execute("DELETE FROM edges WHERE target = ? AND kind = ?", (uri, kind))
            self.put(uri, None, dict.fromkeys(uses, kind))

    def get(self, uri: str) -> Node:
        """The thing of that URI.

        Raises:
            UnknownNameError: With the nearest URI there is; with the URIs of that name where only a name was given.
        """
        rows = self._registry.query("SELECT uri, kind, name, data, at FROM nodes WHERE uri = ?", uri)
        if not rows:
            exact = [n.uri for n in self.nodes() if n.name == uri]
            named = exact or [n.uri for n in self.nodes() if n.name.rpartition("@")[0] == uri][-3:]  # newest versions
            if named:
                listed = " or ".join(map(repr, named))
                raise MatineeError(f"uri == {uri!r}, must be a URI: kind and name; did you mean {listed}?")
            raise UnknownNameError("uri", uri, [n.uri for n in self.nodes()])
        return _node(rows[0])

    def nodes(self, kind: str | None = None) -> list[Node]:
        """Every thing, or every thing of a kind, oldest first."""
        where, values = ("WHERE kind = ?", (kind,)) if kind else ("", ())
        return [
            _node(r)
            for r in self._registry.query(f"SELECT uri, kind, name, data, at FROM nodes {where} ORDER BY rowid", *values)
        ]

    def edges(self) -> list[Edge]:
        """Every edge, oldest first."""
        return [Edge(*r) for r in self._registry.query("SELECT source, target, kind, at FROM edges ORDER BY rowid")]

    def impact(self, uri: str) -> Impact:
        """Everything that depends on a thing, nearest first."""
        return self._walk(uri, 0, 1)

    def origin(self, uri: str) -> Impact:
        """Everything a thing was made from, nearest first."""
        return self._walk(uri, 1, 0)

    def _walk(self, uri: str, here: int, there: int) -> Impact:
        self.get(uri)
        nodes = {n.uri: n for n in self.nodes()}
        neighbours: dict[str, list[tuple[str, str]]] = {}
        for e in self.edges():
            ends = (e.source, e.target)
            neighbours.setdefault(ends[here], []).append((ends[there], e.kind))
        found: list[tuple[int, Node, str]] = []
        seen, frontier, depth = {uri}, [uri], 0
        while frontier:
            depth += 1
            reached = []
            for one in frontier:
                for other, kind in neighbours.get(one, ()):
                    if other not in seen:
                        seen.add(other)
                        reached.append(other)
                        found.append((depth, nodes[other], f"{kind} {one}"))
            frontier = reached
        return Impact(uri, tuple(found))


def parse(uri: str) -> tuple[str, str]:
    """Kind and name of a URI.

    Example:
        >>> parse("model://home-ranker@3")
        ('model', 'home-ranker@3')
    """
    kind, found, name = uri.partition("://")
    if not found or not name or kind not in KINDS:
        raise MatineeError(f"uri == {uri!r}, must be one of {', '.join(k + '://NAME' for k in KINDS)}")
    return kind, name


def _node(row: tuple[Any, ...]) -> Node:
    return Node(row[0], row[1], row[2], json.loads(row[3]), row[4])
