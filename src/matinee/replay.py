"""A policy walked along logged choices through the serving code: the chance it gives each logged action, given those before it.

The candidates are those that were logged as allowed. Features are computed in batch, as of each choice's own time: online
and batch agree (promise 5), so this is what the policy would have seen.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from matinee import catalogue
from matinee.decisions import Decision
from matinee.draw import FUNCTION, Limit, average_chances
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
    slates: Slates


@dataclass
class Slates:
    """Candidates and actions of logged choices as numbers: places in a vocabulary of ids as text."""

    vocabulary: list[str]
    candidates: list[Array]  # one array a choice
    logged: list[Array]  # where each logged action stands among the candidates

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Slates:
        """All at once: a choice has hundreds of candidates, and most choices have the same ones."""
        import polars as pl

        text = frame["candidates"].explode(empty_as_null=False).cast(pl.String)
        vocabulary = text.unique().sort()
        table = pl.DataFrame({"id": vocabulary, "code": pl.int_range(len(vocabulary), eager=True)})

        def coded(ids: pl.Series) -> Array:
            found = ids.alias("id").to_frame().join(table, on="id", how="left", maintain_order="left")["code"]
            return found.fill_null(-1).to_numpy()

        candidates = np.split(coded(text), np.cumsum(frame["candidates"].list.len().to_numpy())[:-1])
        actions = frame["action"].explode(empty_as_null=False).cast(pl.String)
        taken = np.split(coded(actions), np.cumsum(frame["action"].list.len().to_numpy())[:-1])
        place = np.zeros(len(vocabulary) + 1, np.int64)
        logged = []
        for among, some in zip(candidates, taken, strict=True):
            place[among] = np.arange(len(among))
            logged.append(place[some])
        return cls(vocabulary.to_list(), candidates, logged)


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
    slates, matrices = Slates.of(frame), []
    columns = ("unit", "at", "items_at", "context", "groups")
    for i, row in enumerate(frame.select(columns).iter_rows(named=True)):
        forced = slates.logged[i]
        candidates = tables(row["items_at"], slates.candidates[i], slates.vocabulary)
        context = json.loads(row["context"])
        profiled = context.pop("profiled", True)
        unit = features[i] if profiled else dict.fromkeys(features[i])
        request = Request(decision.name, row["unit"], row["at"], context, unit)
        groups: dict[str, list[int]] = json.loads(row["groups"]) if row["groups"] != "{}" else {}
        limits = [Limit(np.array(groups[g.name], np.int64), g.n) for g in decision.guards if g.name in groups]  # type: ignore[attr-defined]
        drawn = policy.draw(request, candidates, len(forced), limits=limits, forced=forced, full=True)
        chance[i, : len(drawn.chance)] = drawn.chance
        known = known and drawn.components is not None and all(c.kind != FUNCTION for c in drawn.components)
        if known and drawn.components is not None:
            mean = average_chances(
                drawn.components, np.ones(len(candidates), np.bool_), len(forced), limits=limits, draws=DRAWS, rng=rng
            )
            alone[i, : len(forced)] = mean[np.arange(len(forced)), forced]
        matrices.append(drawn.matrix)
    return Walked(chance, alone if known else None, matrices, slates)


def drawn_alone(studio: Studio, decision: Decision, frame: pl.DataFrame, slots: int, seed: int) -> Array | None:
    """Chance of each logged action in its slot, whatever stood above it, under the policy that drew it, (n, slots).

    None where a policy is not in this studio (an imported log), or has no chances of that kind.
    """
    if slots == 1:
        return None
    # The same for every policy that is judged on these choices: what was drawn is not drawn again.
    told = blake2b(json.dumps([decision.name, seed, slots, *frame["id"].to_list()]).encode()).digest()
    held = _DRAWN.get(studio)
    if held is None or held[0] != told:
        held = _DRAWN[studio] = told, _chances_alone(studio, decision, frame, slots, seed)
    return held[1]


_DRAWN: WeakKeyDictionary[Studio, tuple[bytes, Array | None]] = WeakKeyDictionary()


def _chances_alone(studio: Studio, decision: Decision, frame: pl.DataFrame, slots: int, seed: int) -> Array | None:
    import polars as pl

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
    """Finds the candidates' columns of a generation: `find(items_at, codes, vocabulary) -> Candidates`."""
    places: dict[datetime | None, Array] = {}

    def taken(at: datetime | None, made: Candidates, codes: Array, vocabulary: Sequence[str]) -> Candidates:
        if at not in places:
            index = {str(i): k for k, i in enumerate(made.ids.tolist())}
            places[at] = np.array([index.get(name, -1) for name in vocabulary], np.int64)
        found = places[at][codes]
        if (found < 0).any():
            raise UnknownNameError("candidate", vocabulary[codes[found.argmin()]], [str(i) for i in made.ids.tolist()])
        return made.take(found)

    if decision.options is not None:
        options = decision.options.candidates()
        return lambda _at, codes, vocabulary: taken(None, options, codes, vocabulary)
    entity = catalogue.entity_of(decision, studio.facts)
    item = [f for f in studio.features.values() if f.key == entity.schema.key and f.key != decision.unit]
    times = sorted(set(frame["items_at"].drop_nulls().to_list()))
    if len(times) > GENERATIONS:
        raise RefusedError(
            f"the choices saw {len(times)} generations of candidates, must be at most {GENERATIONS} in one evaluation: "
            "narrow it with since= and until="
        )
    built: dict[datetime | None, Candidates] = {}

    def find(at: datetime | None, codes: Array, vocabulary: Sequence[str]) -> Candidates:
        if at not in built:
            built[at] = catalogue.build(decision, studio.facts, item, at or frame["at"].min())  # type: ignore[arg-type]
        return taken(at, built[at], codes, vocabulary)

    return find
