"""A policy along the log: what it would have chosen, and with which chances, at every logged choice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from matinee import catalogue
from matinee.decisions import Decision
from matinee.draw import FUNCTION, Limit, average_chances, fill_slots
from matinee.exceptions import RefusedError, UnknownNameError
from matinee.policies import Candidates, Policy, Request

if TYPE_CHECKING:
    import polars as pl

    from matinee.features import Features
    from matinee.studio import Studio

Array = np.ndarray[Any, Any]
# The columns of `choices` that are read here and in judging, beside those of their rewards.
WALKED_COLUMNS = ("unit_type", "candidates", "groups", "fallback", "estimated")
DRAWS = 16  # slates over which chances in a slot are averaged, whatever stands above it
GENERATIONS = 64  # candidate columns are rebuilt for at most so many different generations


@dataclass
class Walked:
    """A policy along the log: conditional probabilities of what was logged, and its whole distribution by slot."""

    chance: Array  # (n, slots)
    alone: Array | None  # (n, slots): the same whatever stands above; None for one slot and where it is not known
    matrices: list[Array]  # one (slots, candidates) a choice
    candidates: list[Array]  # ids as text, one array a choice
    logged: list[Array]  # index of each logged action among the candidates


def walk(studio: Studio, decision: Decision, policy: Policy, frame: pl.DataFrame, slots: int, seed: int) -> Walked:
    """Ask a policy, through the code that serves, about every choice of a frame of `choices`.

    Args:
        studio: Whose facts, as of each choice's own time.
        decision: What was decided.
        policy: Whom to ask.
        frame: Rows of the `choices` table.
        slots: Slots of the widest of them.
        seed: Of the slates over which chances are averaged.
    """
    features = _features(studio, decision, policy, frame)
    tables = _generations(studio, decision, frame)
    chance, alone = np.ones((len(frame), slots)), np.ones((len(frame), slots))
    known, rng = slots > 1, np.random.default_rng(seed)
    matrices, ids, logged = [], [], []
    for i, row in enumerate(frame.iter_rows(named=True)):
        names: list[str] = row["candidates"]
        position = {name: k for k, name in enumerate(names)}
        forced = np.array([position[a] for a in row["action"]], np.int64)
        candidates = tables(row["items_at"], names)
        context = json.loads(row["context"])
        profiled = context.pop("profiled", True)
        unit = features[i] if profiled else dict.fromkeys(features[i])
        request = Request(decision.name, row["unit"], row["at"], context, unit)
        groups: dict[str, list[int]] = json.loads(row["groups"]) if row["groups"] != "{}" else {}
        limits = [Limit(np.array(groups[g.name], np.int64), g.n) for g in decision.guards if g.name in groups]  # type: ignore[attr-defined]
        parts, open_ = policy.components(request, candidates), np.ones(len(names), np.bool_)
        _, p, matrix = fill_slots(parts, open_, len(forced), limits=limits, forced=forced, full=True)
        chance[i, : len(p)] = p
        known = known and all(c.kind != FUNCTION for c in parts)
        if known:
            mean = average_chances(parts, open_, len(forced), limits=limits, draws=DRAWS, rng=rng)
            alone[i, : len(forced)] = mean[np.arange(len(forced)), forced]
        matrices.append(matrix)
        ids.append(np.array(names))
        logged.append(forced)
    return Walked(chance, alone if known else None, matrices, ids, logged)


def drawn_alone(studio: Studio, decision: Decision, frame: pl.DataFrame, slots: int, seed: int) -> Array | None:
    """Chance of each logged action in its slot, whatever stood above it, under the policy that drew it, (n, slots).

    None where a policy is not in this studio (an imported log), or has no chances of that kind.
    """
    import polars as pl

    if slots == 1:
        return None
    chances = np.ones((len(frame), slots))
    for name in frame["policy"].unique().sort().to_list():
        rows = (frame["policy"] == name).to_numpy()
        try:
            drew = studio.policy(name)
        except UnknownNameError:
            return None
        walked = walk(studio, decision, drew, frame.filter(pl.Series(rows)), slots, seed)
        if walked.alone is None:
            return None
        # The slots that did stand above are one more draw: what was drawn has a chance.
        chances[rows] = (DRAWS * walked.alone + walked.chance) / (DRAWS + 1)
    return chances


def _features(studio: Studio, decision: Decision, policy: Policy, frame: pl.DataFrame) -> list[dict[str, Any]]:
    """The unit's features for each choice, as of its own time."""
    import polars as pl

    needed: dict[str, Features] = {f.name: f for s in policy.scorers() for f in s.needs if f.key == decision.unit}
    if not needed:
        return [{} for _ in range(len(frame))]
    integer = len(frame) > 0 and frame["unit_type"][0] == "int"
    labels = frame.select(pl.col("unit").cast(pl.Int64 if integer else pl.String).alias(decision.unit), pl.col("at"))
    columns = [one.batch(studio.facts, labels).select(one.names) for one in needed.values()]
    return pl.concat(columns, how="horizontal").to_dicts() if columns else []


def _generations(studio: Studio, decision: Decision, frame: pl.DataFrame) -> Any:
    """Finds the candidates' columns of a generation: `find(items_at, names) -> Candidates`."""

    if decision.options is not None:
        options = decision.options.candidates()
        index = {str(i): k for k, i in enumerate(options.ids.tolist())}
        return lambda at, names: options.take(np.array([index[n] for n in names], np.int64))
    entity = catalogue.entity_of(decision, studio.facts)
    item = [f for f in studio.features.values() if f.key == entity.schema.key and f.key != decision.unit]
    times = sorted(set(frame["items_at"].drop_nulls().to_list()))
    if len(times) > GENERATIONS:
        raise RefusedError(
            f"the choices saw {len(times)} generations of candidates, must be at most {GENERATIONS} in one evaluation: "
            "narrow it with since= and until="
        )
    built: dict[datetime | None, tuple[Candidates, dict[str, int]]] = {}

    def table(at: datetime | None) -> tuple[Candidates, dict[str, int]]:
        if at not in built:
            made = catalogue.build(decision, studio.facts, item, at or frame["at"].min())  # type: ignore[arg-type]
            built[at] = made, {str(i): k for k, i in enumerate(made.ids.tolist())}
        return built[at]

    def find(at: datetime | None, names: Sequence[str]) -> Candidates:
        candidates, index = table(at)
        return candidates.take(np.array([index[n] for n in names], np.int64))

    return find
