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
from matinee.checks import must
from matinee.decisions import Decision
from matinee.exceptions import BadInputError, ConsentError, MatineeError
from matinee.facts import Fact
from matinee.log_weights import LogWeights
from matinee.policies import Policy, Scorer
from matinee.results import Table
from matinee.rewarded import context_columns, mature_before, rewarded_slots
from matinee.scorers import Storable, Trained
from matinee.times import instant
from matinee.training import (
    Allowed,
    Pinned,
    assemble,
    code_version,
    denied,
    fit,
    model_digest,
    refuse_leaks,
    split_inputs,
)

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
    until: datetime | float | None,
    context: Sequence[str],
    clock: bool,
    action: bool,
    seed: int,
    consent: str | None,
    dry: bool,
    weights: LogWeights | None = None,
    since: datetime | None = None,
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
    if labels is not None and (until is not None or since is not None or weights is not None or proxy):
        raise BadInputError(
            "labels and until are both given, must be one: until, since, weights and proxy say how the log is read, "
            "and labels are their own cut"
        )
    purposes = [one for one in dict.fromkeys((decision.consent, consent)) if one is not None]
    cut: datetime | None = None
    if labels is None:
        if studio.tables.exists("choices"):
            source.snapshots["choices"] = studio.tables.snapshot("choices")
        cut = _cut(studio, decision, until, now, source.snapshots.get("choices"))
        wanted = decision.by_proxy() if proxy else decision
        rows = _from_log(studio, wanted, source, list(context), now, weights, since, cut)
    else:
        rows = labels(_allowed(studio, decision, purposes, now, source)) if callable(labels) else labels
        if not isinstance(rows, pl.DataFrame):
            raise BadInputError(f"labels gave {type(rows).__name__}, must give a Polars frame")
    refuse_leaks(inputs.names(), rows.columns)
    rows, refused = _consenting(rows, purposes, source, now, decision.shelter)
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
        "refused_without_consent": sum(refused.values()),
        "refused_by_rule": refused,
        "consent": purposes,
        "as_of": now.isoformat(),
        "until": None if cut is None else cut.isoformat(),
        "learned_until": _newest(rows),
        "data_digest": training.digest,
        "labels": _described(labels),
        "weights": None if weights is None else vars(weights),
        "since": None if since is None else since.isoformat(),
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
    facts: Sequence[type[Fact]] | Allowed,
    uses: Sequence[str],
    record: Mapping[str, Any] | None,
    learned_until: datetime | None,
) -> str:
    """See `Studio.keep`."""
    if isinstance(facts, Allowed):
        source: Pinned = facts
        asked = {"consent": list(facts.purposes)}
    else:
        source, asked = Pinned(studio.facts), {}
        for fact in facts:
            _must_not_ask(studio, fact)
            source.snapshot(fact)
    if learned_until is None and source.snapshots:
        learned_until = studio.clock()  # it may have read all there is
    told = {"learned_until": None if learned_until is None else learned_until.isoformat(), **asked}
    return _keep(studio, name, scorer, source, uses, {**told, **(record or {})})


def _must_not_ask(studio: Studio, fact: type[Fact]) -> None:
    """Refuse a fact about units whom a decision asks for consent: nobody asked them before they were learned from."""
    for decision in studio.decisions.values():
        if decision.consent is not None and decision.unit in fact.schema.columns:
            raise ConsentError(
                f"facts holds {fact.__name__}, whose rows are about somebody ({decision.unit}), and decision {decision.name!r} "
                f"asks each for {decision.consent!r}: must be learned from through source = studio.source({decision.name!r}), "
                "and kept with facts=source"
            )


def _allowed(
    studio: Studio, decision: Decision, purposes: Sequence[str], now: datetime, source: Pinned | None = None
) -> Allowed:
    """What a function of labels, or a scorer of the caller's, may read for a decision."""
    pins = None if source is None else source.snapshots
    return Allowed(studio.facts, decision.unit, purposes, now, pins, engine=studio.engine, shelter=decision.shelter)


def source(studio: Studio, decision: Decision, consent: str | None) -> Allowed:
    """See `Studio.source`."""
    purposes = [one for one in dict.fromkeys((decision.consent, consent)) if one is not None]
    return _allowed(studio, decision, purposes, studio.clock())


def _newest(rows: pl.DataFrame) -> str | None:
    """Time of the newest row that a model learned from."""
    newest = rows["at"].max() if "at" in rows.columns else None
    return newest.isoformat() if isinstance(newest, datetime) else None


@dataclass(frozen=True)
class Learned:
    """Up to when something learned, and which model did so last; nothing where it learned from nothing."""

    until: datetime | None = None
    by: str = ""


def learned_until(studio: Studio, policy: Policy) -> Learned:
    """Up to when the scorers of a policy learned, those that they read included, and which one learned last.

    Nothing for a policy that learned from nothing. What was kept before times of learning were recorded counts as
    having learned up to the moment at which it was kept.
    """
    found = Learned()
    for scorer in policy.scorers():
        uri = f"model://{scorer.name}"
        models = [studio.graph.get(uri), *(n for _, n, _ in studio.graph.origin(uri).dependents if n.kind == "model")]
        for one in models:
            told = one.data.get("learned_until", one.data.get("at"))
            if told is not None and (found.until is None or instant(told) > found.until):
                found = Learned(instant(told), one.name)
    return found


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


def _cut(
    studio: Studio, decision: Decision, until: datetime | float | None, now: datetime, snapshot: int | None
) -> datetime | None:
    """The time before which choices are learned from; a share is counted in choices whose reward is complete."""
    if until is None:
        return None
    if isinstance(until, datetime):
        return instant(until)
    from matinee.sealing import choices

    share = must(float(until), "until", gt=0, lt=1)
    times = choices(studio, decision.name, until=mature_before(decision, now), snapshot=snapshot)["at"].sort()
    return instant(times[min(len(times) - 1, int(share * len(times)))]) if len(times) else None


def _from_log(
    studio: Studio,
    decision: Decision,
    source: Pinned,
    context: list[str],
    now: datetime,
    weights: LogWeights | None = None,
    since: datetime | None = None,
    cut: datetime | None = None,
) -> pl.DataFrame:
    """Labels from the logged choices, as pinned, whose reward was complete at a time; those before the cut."""
    import polars as pl

    from matinee.sealing import choices

    mature = mature_before(decision, now)
    until = mature if cut is None else min(cut, mature)
    log = choices(studio, decision.name, since=since, until=until, snapshot=source.snapshots.get("choices"))
    if not len(log):
        raise BadInputError(
            f"decision {decision.name!r} has no logged choice whose reward is complete"
            f"{'' if cut is None else f' before {cut:%Y-%m-%d %H:%M}'}, must have some to learn from; "
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


def _consenting(
    rows: pl.DataFrame, purposes: Sequence[str], source: Pinned, now: datetime, shelter: tuple[Features, str] | None
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Only the rows of units that have allowed every purpose, as of the training; and rows left out, by the rule."""
    if not purposes:
        return rows, {}
    import polars as pl

    units = rows["unit"].cast(pl.String)
    rules = denied(source, units, purposes, now, shelter)
    rule = pl.Series([rules[person] for person in units], dtype=pl.String)
    refused = {str(r): int(n) for r, n in rule.filter(rule != "").value_counts(name="rows").sort("rows").iter_rows()}
    kept = rows.filter(rule == "")
    if not len(kept):
        raise BadInputError(
            f"no unit has consent for {' and '.join(map(repr, purposes))} in force ({'; '.join(refused)}), must have "
            "some to train on: append Consent facts, or ask for them in the product"
        )
    return kept, refused


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
        else labels(_allowed(studio, decision, data["consent"], now, source)) if callable(labels) else labels
    )  # fmt: skip
    rows, _ = _consenting(rows, data["consent"], source, now, decision.shelter)
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
