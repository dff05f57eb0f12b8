"""Publish what serving reads: the state of every unit's features, and the candidates' columns, as of now."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from matinee import catalogue, online
from matinee.policies import Candidates
from matinee.training import Pinned

if TYPE_CHECKING:
    from matinee.features import Features
    from matinee.studio import Studio


def published_features(studio: Studio) -> list[Features]:
    """Feature sets that serving may ask for by unit: those of guards, of policies, and any keyed by a decision's unit."""
    for name in studio.decisions:
        release = studio.releases.live(name)
        for arm in release.arms if release is not None else ():
            studio.policy(arm.policy)  # from then on the studio knows what it reads
    units = {d.unit for d in studio.decisions.values()}
    found = {f.name: f for f in studio.features.values() if f.key in units or f.key == "person"}
    return list(found.values())


def published_candidates(store: online.OnlineStore, decision: str) -> Candidates | None:
    """The candidates of a decision in the served generation, memory-mapped; None where none were published."""
    columns = dict(store.manifest.get("columns", {}).get(decision, {}))
    if not columns:
        return None
    ids = store.items(columns.pop("#ids"))
    return Candidates(ids, {name: store.items(item) for name, item in columns.items()})


def published_joins(store: online.OnlineStore, features: str) -> bytes:
    """The state of the entities that a feature set joins, as it was published."""
    return bytes(store.items(f"joins.{features}").tobytes())


def publish(studio: Studio) -> dict[str, Any]:
    """Build a generation and swap it in; servers take it up by themselves.

    The log is sealed first, so that the generation holds every closed segment, and says which.
    """
    started = time.perf_counter()
    studio.seal()
    at = studio.clock()
    source = Pinned(studio.facts)
    # What becomes visible after `at` is in no state, so that whoever holds it in memory may add it again.
    features = published_features(studio)
    following: dict[str, int] = {}
    for fact in dict.fromkeys(f for one in features for f in one.facts):
        source.snapshots[fact.schema.name], following[fact.schema.name] = studio.facts.edge(fact)
    windows = {w.schema.name: studio.facts.snapshot(w) for d in studio.decisions.values() for w in d.windows}
    items: dict[str, dict[str, Any]] = {}
    for decision in studio.decisions.values():
        if decision.entity is None:
            continue
        own = [f for f in studio.features.values() if f.key == decision.entity and f.key != decision.unit]
        made = catalogue.build(decision, studio.facts, own, at)
        items[decision.name] = {"#ids": made.ids, **made.columns}
    sealed = studio.facts.tables.properties("choices") if studio.tables.exists("choices") else {}
    marks = {k.removeprefix("matinee.sealed."): int(v) for k, v in sealed.items() if k.startswith("matinee.sealed.")}
    # Column names hold characters that file names do not; the manifest says which array is which column.
    columns = {d: {name: f"{d}.{i:03d}" for i, name in enumerate(found)} for d, found in items.items()}
    arrays = {columns[d][name]: array for d, found in items.items() for name, array in found.items()}
    for one in features:
        arrays[f"joins.{one.name}"] = np.frombuffer(one.online_joins(source, at), np.uint8)
    number = online.publish(
        studio.root / "online",
        {one.name: one.online_states(source, at) for one in features},
        arrays,
        {
            "as_of": at.isoformat(), "following": following, "features": {f.name: f.hash for f in features},
            "sealed": marks, "columns": columns, "windows": windows,
        },
    )  # fmt: skip
    return {
        "generation": number,
        "feature sets": len(features),
        "candidates": {d: len(c["#ids"]) for d, c in items.items()},
        "seconds": round(time.perf_counter() - started, 2),
    }
