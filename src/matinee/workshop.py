"""Where models are made: assemble, fit, keep, record. What `studio.train` and `studio.keep` do, and making one again."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matinee import catalogue
from matinee.decisions import Decision
from matinee.exceptions import BadInputError, MatineeError
from matinee.facts import Fact
from matinee.log_weights import LogWeights
from matinee.policies import Scorer
from matinee.results import Table
from matinee.rewarded import context_columns, mature_before, rewarded_slots
from matinee.rights import in_force
from matinee.scorers import Storable, Trained
from matinee.times import instant
from matinee.training import Pinned, assemble, code_version, fit, model_digest, refuse_leaks, split_inputs

if TYPE_CHECKING:
    import polars as pl

    from matinee.features import Features
    from matinee.models import Model
    from matinee.studio import Studio

PIN_DAYS = 365


def train(
    studio: Studio,
    decision: Decision,
    model: Model,
    *,
    on: Sequence[Features | Scorer],
    name: str | None,
    labels: pl.DataFrame | Callable[[Any], pl.DataFrame] | None,
    context: Sequence[str],
    clock: bool,
    action: bool,
    seed: int,
    consent: str | None,
    dry: bool,
    weights: LogWeights | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    proxy: bool = False,
) -> Trained:
    """See `Studio.train`."""
    import polars as pl

    started = time.perf_counter()
    entity = catalogue.entity_of(decision, studio.facts) if decision.entity else None
    inputs, unit, item, parts = split_inputs(on, decision, entity, context, clock=clock, action=action)
    for features in [*unit, *item]:
        studio.add_features(features)
    source, now = Pinned(studio.facts, engine=studio.engine), studio.clock()
    if labels is None:
        if studio.tables.exists("choices"):
            source.snapshots["choices"] = studio.tables.snapshot("choices")
        wanted = decision.by_proxy() if proxy else decision
        rows = _from_log(studio, wanted, source, list(context), now, weights, since, until)
    elif weights is not None or since is not None or until is not None or proxy:
        raise BadInputError(
            "labels are given, and weights, since, until or proxy too, must be one or the other: those read the log"
        )
    else:
        rows = labels(source) if callable(labels) else labels
        if not isinstance(rows, pl.DataFrame):
            raise BadInputError(f"labels gave {type(rows).__name__}, must give a Polars frame")
    refuse_leaks(inputs.names(), rows.columns)
    purpose = consent or decision.consent
    rows, refused = _consenting(rows, purpose, source, now)
    training = assemble(
        decision, rows, inputs, source, unit_features=unit, item_features=item, parts=parts, entity=entity
    )
    # Columns that hold lists or times are no columns of a model; what is left is what serving must bring.
    kept = set(training.X.columns)
    inputs = type(inputs)(
        tuple(n for n in inputs.unit if f"unit.{n}" in kept),
        tuple(n for n in inputs.item if f"item.{n}" in kept),
        inputs.context, inputs.clock, inputs.scorers, inputs.action,
    )  # fmt: skip
    fitted = fit(model, training, seed=seed)
    trained = Trained("", fitted, inputs, unit, parts)
    if dry:
        trained.name = f"{name or decision.name + '-ranker'}@dry"
        return trained
    record = {
        "learner": model.kind,
        "parameters": dict(model.parameters),
        "seed": seed,
        "rows": training.X.height,
        "refused_without_consent": refused,
        "consent": purpose,
        "as_of": now.isoformat(),
        "data_digest": training.digest,
        "labels": _described(labels),
        "weights": None if weights is None else vars(weights),
        "since": None if since is None else since.isoformat(),
        "until": None if until is None else until.isoformat(),
        "proxy": decision.proxy_unit if proxy else None,
        "columns": training.X.columns,
        "context": list(context),
        "clock": clock,
        "action": action,
        "seconds": time.perf_counter() - started,
        "metrics": _fit_metrics(fitted, training),
        "decision": decision.name,
    }
    uses = [f"features://{f.name}@{f.hash[:10]}" for f in [*unit, *item]] + [
        f"model://{p.name}" for p in parts.values()
    ]
    _keep(studio, name or f"{decision.name}-ranker", trained, source, uses, record)
    return trained


def keep(
    studio: Studio,
    name: str,
    scorer: Storable,
    *,
    facts: Sequence[type[Fact]],
    uses: Sequence[str],
    record: Mapping[str, Any] | None,
) -> str:
    """See `Studio.keep`."""
    source = Pinned(studio.facts)
    for fact in facts:
        source.snapshot(fact)
    return _keep(studio, name, scorer, source, uses, dict(record or {}))


def _keep(
    studio: Studio, name: str, scorer: Storable, source: Pinned, uses: Sequence[str], record: dict[str, Any]
) -> str:
    full = studio.shelf.save(name, scorer)
    tag = f"train-{full.replace('@', '-')}"
    edges = dict.fromkeys(uses, "trained on")
    for fact, snapshot in sorted(source.snapshots.items()):
        if snapshot is None:
            continue
        studio.tables.pin(fact, tag, max_age=timedelta(days=PIN_DAYS), snapshot=snapshot)
        rows = studio.tables.rows(fact, snapshot=snapshot)
        pin = studio.graph.put(
            f"pin://{fact}@{tag}", {"fact": fact, "tag": tag, "snapshot": snapshot, "rows": rows, "erased": 0},
            {f"fact://{fact}": "pinned"} if fact in studio.facts.names() else {},
        )  # fmt: skip
        edges[pin] = "trained on"
    folder = studio.shelf.path(full)
    studio.graph.put(
        f"model://{full}",
        {
            **record,
            "code": code_version(studio.root),
            "digest": model_digest(folder),
            "snapshots": source.snapshots,
            "at": studio.clock().isoformat(),
        },
        edges,
    )
    return full


def _from_log(
    studio: Studio,
    decision: Decision,
    source: Pinned,
    context: list[str],
    now: datetime,
    weights: LogWeights | None,
    since: datetime | None,
    until: datetime | None,
) -> pl.DataFrame:
    """Labels from the logged choices, as pinned, whose reward was complete at a time."""
    import polars as pl

    from matinee.sealing import choices

    mature = mature_before(decision, now)
    end = mature if until is None else min(until, mature)
    log = choices(studio, decision.name, since=since, until=end, snapshot=source.snapshots.get("choices"))
    if not len(log):
        raise BadInputError(
            f"decision {decision.name!r} has no logged choice whose reward is complete, must have some to learn from; "
            "give labels=, or serve for a while and `matinee seal`"
        )
    # What was decided without profiling is not profiled afterwards either.
    profiled = pl.col("context").str.json_path_match("$.profiled").fill_null("true") != "false"
    log = log.filter(pl.col("fallback").is_null() & (pl.col("mode") == "decide") & profiled)
    slots = rewarded_slots(studio, decision, log, scan=lambda fact: source.scan(fact))
    slots = context_columns(slots, context)
    group = slots["choice"].rank("dense").cast(pl.Int64)
    if weights is not None:
        columns = (slots[name].to_numpy() for name in ("slot", "reward", "propensity"))
        slots = slots.with_columns(pl.Series("weight", weights.of(*columns)))
    return slots.with_columns(pl.col("reward").alias("y"), group.alias("group")).drop("reward")


def _consenting(rows: pl.DataFrame, purpose: str | None, source: Pinned, now: datetime) -> tuple[pl.DataFrame, int]:
    """Only the rows of units that have allowed the purpose, as of the training; how many rows were left out."""
    if purpose is None:
        return rows, 0
    import polars as pl

    from matinee.guards import consents

    people = rows.select(pl.col("unit").cast(pl.String).alias("person")).unique()
    asked = people.with_columns(pl.lit(now, dtype=pl.Datetime("us", "UTC")).alias("at"))
    histories = consents().batch(source, asked)
    agreed = [h["person"] for h in histories.iter_rows(named=True) if in_force(h, purpose, now)[0]]
    kept = rows.filter(pl.col("unit").cast(pl.String).is_in(agreed))
    if not len(kept):
        raise BadInputError(
            f"no unit has consent for {purpose!r} in force, must have some to train on: append Consent facts, "
            "or ask for them in the product"
        )
    return kept, len(rows) - len(kept)


def _described(labels: object) -> str:
    if labels is None:
        return "rewards of logged choices"
    if callable(labels):
        return f"{labels.__module__}:{getattr(labels, '__qualname__', type(labels).__name__)}"
    return "a frame given by the caller"


def _fit_metrics(model: Model, training: Any) -> dict[str, float]:
    """How the model stands on the rows it was fitted on: a smoke alarm, never evidence."""
    import numpy as np

    score = model.score(training.X)
    y = training.y
    out = {"rows": float(len(y)), "mean_label": float(y.mean()), "mean_score": float(score.mean())}
    if set(np.unique(y).tolist()) <= {0.0, 1.0} and 0 < y.mean() < 1:
        from scipy.stats import rankdata

        ranks = rankdata(score)
        ones = y == 1
        n1, n0 = int(ones.sum()), int((~ones).sum())
        out["auc_in_sample"] = float((ranks[ones].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))
    return out


@dataclass(frozen=True)
class Reproduced(Table):
    """Whether a model came out the same from its pins."""

    name: str
    same_data: bool
    same_model: bool
    erased: int

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "model": self.name,
                "same data": self.same_data,
                "same model": self.same_model,
                "rows erased since": self.erased,
            }
        ]

    def notes(self) -> list[str]:
        if self.erased:
            return [f"{self.erased} rows were erased from its pinned set: it cannot be bit for bit the same any more"]
        return []


def reproduce(
    studio: Studio, name: str, labels: pl.DataFrame | Callable[[Any], pl.DataFrame] | None = None
) -> Reproduced:
    """Train a model again from its pinned snapshots and compare every bit.

    Args:
        studio: Where it was trained.
        name: `name@version`.
        labels: The frame it was trained on, where it was given one; a function is found again by its own name.

    Raises:
        MatineeError: If it was trained on a frame and none is given.
    """
    from importlib import import_module

    from matinee import models

    node = studio.graph.get(f"model://{name}")
    data = node.data
    if "learner" not in data:
        raise MatineeError(f"model == {name!r} was kept, not trained here, must be made again by what made it")
    scorer = studio.scorer(name)
    assert isinstance(scorer, Trained)
    decision = studio.decision(data["decision"])
    entity = catalogue.entity_of(decision, studio.facts) if decision.entity else None
    tag = f"train-{name.replace('@', '-')}"
    source, now = Pinned(studio.facts, _pinned_now(studio, tag, data["snapshots"])), instant(data["as_of"])
    if labels is None and data["labels"] == "a frame given by the caller":
        raise MatineeError(
            f"model {name!r} was trained on a frame given by the caller, must be given it again: labels="
        )
    if labels is None and data["labels"] != "rewards of logged choices":
        module, _, qualname = data["labels"].partition(":")
        found: Any = import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
        labels = found
    wanted = decision.by_proxy() if data.get("proxy") else decision
    rows = (
        _from_log(studio, wanted, source, list(data["context"]), now, *_log_read(data)) if labels is None
        else labels(source) if callable(labels) else labels
    )  # fmt: skip
    rows, _ = _consenting(rows, data["consent"], source, now)
    item = [f for f in studio.features.values() if entity is not None and f.key == entity.schema.key]
    training = assemble(
        decision, rows, scorer.inputs, source, unit_features=scorer.features, item_features=item, parts=scorer.parts,
        entity=entity,
    )  # fmt: skip
    again = fit(models.build(data["learner"], data["parameters"]), training, seed=data["seed"])
    with tempfile.TemporaryDirectory() as folder:
        again.save(Path(folder) / "model")
        shutil.copy(studio.shelf.path(name) / "trained.json", folder)
        same = model_digest(Path(folder) / "model") == model_digest(studio.shelf.path(name) / "model")
    erased = sum(int(n.data.get("erased", 0)) for n in studio.graph.nodes("pin") if n.data.get("tag") == tag)
    return Reproduced(name, training.digest == data["data_digest"], same, erased)


def _log_read(data: Mapping[str, Any]) -> tuple[LogWeights | None, datetime | None, datetime | None]:
    """Which part of the log a model learned from, and how it was weighted, as recorded."""
    weighted, since, until = (data.get(name) for name in ("weights", "since", "until"))
    return (
        None if weighted is None else LogWeights(**weighted),
        None if since is None else instant(since),
        None if until is None else instant(until),
    )


def _pinned_now(studio: Studio, tag: str, snapshots: Mapping[str, int | None]) -> dict[str, int | None]:
    """The snapshots that a training's pins hold today: an erasure rewrites what is pinned, under a new number."""
    found: dict[str, int | None] = {}
    for table, snapshot in snapshots.items():
        held = [p.snapshot for p in studio.tables.pins(table) if p.tag == tag] if snapshot is not None else []
        found[table] = held[0] if held else snapshot
    return found
