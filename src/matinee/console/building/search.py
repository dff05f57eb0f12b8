"""Search: decisions, members, titles, facts, features, models and policies, by name or id."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from matinee.console.building.desk import Desk
from matinee.console.formats import capitalize_first, count, plural
from matinee.console.pages import Hit, SearchPage

if TYPE_CHECKING:
    import polars as pl

MOST, TITLES = 12, 6
NAMING = ("name", "title", "label", "primary_name")


def search_page(desk: Desk, q: str) -> SearchPage:
    """What is called that, exact names first."""
    if not q:
        return SearchPage(q, ())
    low = q.casefold()
    found: list[tuple[int, Hit]] = []
    for name, d in desk.studio.decisions.items():
        rank = _rank(low, name, d.title)
        if rank is not None:
            live = desk.studio.releases.live(name)
            note = f"release {live.number} is live" if live else "nothing is released"
            found.append((rank, Hit("decision", capitalize_first(d.title), f"{name}, {note}", f"/decisions/{name}")))
    for node in desk.studio.graph.nodes():
        if node.kind not in ("fact", "features", "model", "policy", "experiment"):
            continue
        rank = _rank(low, node.name.partition("@")[0], node.name)
        if rank is not None:
            found.append(
                (
                    rank + 1,
                    Hit(
                        node.kind,
                        node.name,
                        _note(desk, node.kind, node.name),
                        f"/lineage?node={quote(node.uri, safe='')}#impact",
                        True,
                    ),
                )
            )
    found += _titles(desk, low)
    found += _units(desk, q)
    found += _choice(desk, q)
    found.sort(key=lambda h: (h[0], h[1].kind, h[1].name))
    return SearchPage(q, tuple(h for _, h in found[:MOST]), max(0, len(found) - MOST))


def _rank(low: str, *names: str) -> int | None:
    """0 for the name itself, 2 for its beginning, 4 for a part of it."""
    ranks = [0 if n == low else 2 if n.startswith(low) else 4 for n in map(str.casefold, names) if low in n]
    return min(ranks, default=None)


def _note(desk: Desk, kind: str, name: str) -> str:
    if kind == "fact" and desk.studio.tables.exists(name):
        return f"{count(desk.studio.tables.rows(name))} rows"
    if kind == "fact":
        return "no rows yet"
    if kind == "features":
        return (
            f"{plural(len(desk.studio.features[name.partition('@')[0]].names), 'feature')}"
            if name.partition("@")[0] in desk.studio.features
            else "no longer declared"
        )
    return "what it is made from, and what uses it"


def _titles(desk: Desk, low: str) -> list[tuple[int, Hit]]:
    """Titles and whatever else decisions choose among, by the text that names them."""
    import polars as pl

    out: list[tuple[int, Hit]] = []
    for entity in dict.fromkeys(d.entity for d in desk.studio.decisions.values() if d.entity):
        frame = desk.kept(("named", entity), lambda e=entity: _named(desk, e), 300.0)  # type: ignore[misc]  # bound now
        if frame is None:
            continue
        hits = frame.filter(pl.col("text").str.to_lowercase().str.contains(low, literal=True) | (pl.col("id") == low))
        for row in hits.head(TITLES).to_dicts():
            rank = _rank(low, row["text"], row["id"]) or 0
            path = f"/items/{quote(entity, safe='')}/{quote(row['id'], safe='')}"
            out.append((rank + 1, Hit(entity, row["text"], f"{entity} {row['id']}; whom it is shown to", path)))
    return out


def _named(desk: Desk, key: str) -> pl.DataFrame | None:
    """`id` and `text` of an entity: the first of its text columns that names things."""
    import polars as pl

    for name in desk.studio.facts.names():
        schema = desk.studio.facts.fact(name).schema
        if not schema.entity or schema.key != key or not desk.studio.tables.exists(name):
            continue
        texts = [f.name for f in schema.fields if f.kind == "str" and f.name in NAMING]
        if texts:
            rows = desk.studio.facts.scan(name, columns=[key, texts[0]]).collect()
            latest = rows.unique(key, keep="last", maintain_order=True)
            return latest.select(pl.col(key).cast(pl.String).alias("id"), pl.col(texts[0]).fill_null("").alias("text"))
    return None


def _units(desk: Desk, q: str) -> list[tuple[int, Hit]]:
    """An id opens a page whether or not anything is known about it: one hit for each kind of unit that it can be."""
    if " " in q or len(q) > 64:
        return []
    out: list[tuple[int, Hit]] = []
    for unit in dict.fromkeys(d.unit for d in desk.studio.decisions.values()):
        decision = next(d for d in desk.studio.decisions.values() if d.unit == unit)
        number = isinstance(desk.unit_id(decision, q), int)
        seen = desk.log.has_unit(decision.name, q)
        if seen or number:
            note = "decided for lately" if seen else "what would be decided now"
            out.append(
                (
                    0 if seen else 3,
                    Hit(unit, f"{unit} {q}", note, f"/members/{quote(q, safe='')}?decision={decision.name}"),
                )
            )
    return out


def _choice(desk: Desk, q: str) -> list[tuple[int, Hit]]:
    """A choice by its whole id."""
    if len(q) != 32 or any(c not in "0123456789abcdef" for c in q):
        return []
    return [(0, Hit("choice", q, "everything that was logged with it", f"/choices/{q}", True))]
