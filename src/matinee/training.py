"""Training: labels, point-in-time features, a model; pinned to the snapshots it saw, so that it can be made again bit for bit."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matinee import catalogue
from matinee.decisions import Decision
from matinee.exceptions import BadInputError, LeakError, UnknownColumnError
from matinee.facts import Fact
from matinee.guards import consents
from matinee.policies import Candidates, Request, Scorer
from matinee.rights import Consent, in_force
from matinee.scorers import CLOCK, Inputs, Trained
from matinee.store import FactStore

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from matinee.features import Features
    from matinee.models import Model


class Pinned:
    """A fact store at fixed snapshots: whatever is appended meanwhile, every read of one training sees the same rows."""

    def __init__(
        self, facts: FactStore, snapshots: Mapping[str, int | None] | None = None, *, engine: str | None = None
    ) -> None:
        self._facts, self.engine = facts, engine
        self.snapshots: dict[str, int | None] = dict(snapshots or {})

    @property
    def buckets(self) -> int:
        """Number of buckets of every fact table."""
        return self._facts.buckets

    def bucket_of(self, values: Any) -> Any:
        """Bucket of each key value."""
        return self._facts.bucket_of(values)

    def snapshot(self, fact: type[Fact] | str) -> int | None:
        """The snapshot this training reads; the newest one at the first time of asking."""
        name = self._facts.fact(fact).schema.name
        if name not in self.snapshots:
            self.snapshots[name] = self._facts.snapshot(name)
        return self.snapshots[name]

    def rows(self, fact: type[Fact] | str) -> int | None:
        """Number of rows of the fact at its pinned snapshot."""
        return self._facts.rows(fact, self.snapshot(fact))

    def scan(
        self,
        fact: type[Fact] | str,
        columns: Sequence[str] | None = None,
        known_before: datetime | None = None,
        bucket: int | None = None,
    ) -> pl.LazyFrame:
        """Rows of the fact at its pinned snapshot."""
        return self._facts.scan(fact, columns, known_before, bucket, snapshot=self.snapshot(fact))


class Allowed(Pinned):
    """A fact store at fixed snapshots as far as units allow: rows of a unit without every consent in force are not in it.

    Rows of facts that do not name the unit are all in it.

    Args:
        facts: Where from.
        unit: The column that names the unit.
        purposes: What every unit must have allowed.
        now: The moment of use.
        snapshots, engine: As of `Pinned`.
        shelter: Of units for whom this feature is so, nothing is learned whatever they allowed.
    """

    def __init__(
        self, facts: FactStore, unit: str, purposes: Sequence[str], now: datetime,
        snapshots: dict[str, int | None] | None = None, *, engine: str | None = None,
        shelter: tuple[Features, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(facts, engine=engine)
        if snapshots is not None:
            self.snapshots = snapshots  # shared: what either reads first is pinned for both
        self.unit, self.purposes, self.now, self.shelter = unit, tuple(purposes), now, shelter

    @cached_property
    def _people(self) -> pl.Series:
        """Units, as text, that allow every purpose."""
        import polars as pl

        whole = Pinned(self._facts, engine=self.engine)
        whole.snapshots = self.snapshots
        everyone = whole.scan(Consent, ["person"]).unique().collect()["person"]
        rules = denied(whole, everyone, self.purposes, self.now, self.shelter)
        return pl.Series(sorted(one for one, rule in rules.items() if one is not None and not rule), dtype=pl.String)

    def allows(self, units: pl.Series) -> pl.Series:
        """Whether each unit allows every purpose, as booleans; for rows that are no facts, such as choices."""
        import polars as pl

        if not self.purposes:
            return pl.repeat(value=True, n=len(units), eager=True)
        return units.cast(pl.String).is_in(self._people.implode()).fill_null(value=False)

    def scan(
        self,
        fact: type[Fact] | str,
        columns: Sequence[str] | None = None,
        known_before: datetime | None = None,
        bucket: int | None = None,
    ) -> pl.LazyFrame:
        """Rows of the fact at its pinned snapshot whose unit allows every purpose."""
        import polars as pl

        schema = self._facts.fact(fact).schema
        if not self.purposes or self.unit not in schema.columns or schema.name == Consent.schema.name:
            return super().scan(fact, columns, known_before, bucket)
        wanted = None if columns is None else [*columns, *({self.unit} - set(columns))]
        rows = super().scan(fact, wanted, known_before, bucket)
        mine = rows.filter(pl.col(self.unit).cast(pl.String).is_in(self._people.implode()))
        return mine if columns is None else mine.select(columns)


def denied(
    source: Any, people: pl.Series, purposes: Sequence[str], now: datetime, shelter: tuple[Features, str] | None = None
) -> dict[str | None, str]:
    """By person, the rule that keeps out their rows, "" where every purpose is allowed by a consent in force at `now`.

    With a shelter (features, and which of them), people for whom it is so are kept out as well.
    """
    import polars as pl

    asked = people.cast(pl.String).alias("person").to_frame().unique(maintain_order=True).drop_nulls()
    asked = asked.with_columns(pl.lit(now, dtype=pl.Datetime("us", "UTC")).alias("at"))
    found: dict[str | None, str] = {None: "the row names no unit"}
    for history in consents().batch(source, asked).iter_rows(named=True):
        rules = (in_force(history, purpose, now) for purpose in purposes)
        found[history["person"]] = next((rule for allowed, rule in rules if not allowed), "")
    if shelter is not None:
        features, name = shelter
        kind = pl.Int64 if features.key_kind == "int" else pl.String
        units = asked.select(pl.col("person").cast(kind, strict=False).alias(features.key), "at").drop_nulls()
        sheltered = features.batch(source, units).filter(pl.col(name).fill_null(value=False))
        found |= dict.fromkeys(sheltered[features.key].cast(pl.String).to_list(), f"{name}: nothing is learned from them")
    return found


@dataclass(frozen=True)
class Training:
    """What a model is fitted on.

    Attributes:
        X: The model's columns.
        y: Labels, shape (rows,).
        weight: One a row, or None.
        group: Rows of one choice carry the same number (ranking), or None.
        digest: Hash of all of it: two trainings of one digest see the same bits.
    """

    X: pl.DataFrame
    y: np.ndarray[Any, Any]
    weight: np.ndarray[Any, Any] | None
    group: np.ndarray[Any, Any] | None
    digest: str


def assemble(
    decision: Decision,
    labels: pl.DataFrame,
    inputs: Inputs,
    source: Pinned,
    *,
    unit_features: Sequence[Features],
    item_features: Sequence[Features],
    parts: Mapping[str, Scorer],
    entity: type[Fact] | None,
) -> Training:
    """Join labels with everything the model reads, as it was known at each label's own time.

    Args:
        decision: For whom the model scores.
        labels: One row a candidate shown: `unit`, `at`, `action`, `y`; optionally `items_at` (the generation of
            candidate columns that was live), `weight`, `group`, and `context.NAME` columns.
        inputs: The model's columns.
        source: Pinned facts.
        unit_features, item_features: Where `inputs.unit` and `inputs.item` come from.
        parts: Scorers whose scores are columns.
        entity: The candidates' entity, or None for options.
    """
    import numpy as np
    import polars as pl

    for column in ("unit", "at", "action", "y"):
        if column not in labels.columns:
            raise UnknownColumnError("the labels", column, labels.columns)
    if len(labels) == 0:
        raise BadInputError("labels have 0 rows, must have at least one; is there anything in the log yet?")
    if labels["y"].is_null().any() or not bool(labels["y"].cast(pl.Float64).is_finite().all()):
        raise BadInputError("labels.y holds empty or non-finite values, must hold a number in every row")
    frame = labels.with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))
    if "items_at" not in frame.columns:
        frame = frame.with_columns(items_at=pl.col("at"))
    frame = frame.with_columns(pl.col("items_at").fill_null(pl.col("at")))
    needed = {f.name: f for f in [*unit_features, *(n for p in parts.values() for n in p.needs)]}
    for one in needed.values():
        frame = _joined(one, source, frame, key="unit", at="at", prefix="unit.")
    if entity is not None:
        if entity.schema.field(entity.schema.key).kind == "int":
            # The log holds ids as text; scorers meet them in training as they do in serving.
            frame = frame.with_columns(pl.col("action").cast(pl.Int64))
        for one in (catalogue.attributes_of(entity), *item_features):
            frame = _joined(one, source, frame, key="action", at="items_at", prefix="item.")
    else:
        frame = _options(decision, frame)
    if inputs.clock:
        frame = frame.with_columns(
            pl.col("at").dt.hour().cast(pl.Int64).alias("clock.hour"),
            (pl.col("at").dt.weekday() - 1).cast(pl.Int64).alias("clock.weekday"),
        )
    scores = _scores({n: parts[n] for n in inputs.scorers}, decision, frame)
    frame = frame.with_columns(pl.Series(f"score.{name}", values) for name, values in scores.items())
    for name in inputs.context:
        if f"context.{name}" not in frame.columns:
            raise UnknownColumnError("the labels", f"context.{name}", labels.columns)
    if inputs.action:
        frame = frame.with_columns(pl.col("action").cast(pl.String))  # ids are text in the log, and so for the model
    X = frame.select(inputs.names()).with_columns(
        # Candidates' text arrays hold "" for nothing; so must the frame, or one level would have two names.
        pl.col(pl.String).fill_null("")
    )
    nested = [n for n, t in X.schema.items() if t.is_nested()]
    X = X.drop(nested)
    y = frame["y"].cast(pl.Float64).to_numpy().copy()
    weight = frame["weight"].cast(pl.Float64).to_numpy().copy() if "weight" in frame.columns else None
    group = frame["group"].rank("dense").cast(pl.Int64).to_numpy() - 1 if "group" in frame.columns else None
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([str(s) for s in X.schema.items()]).encode())
    digest.update(X.hash_rows(seed=1).to_numpy().tobytes())
    digest.update(np.ascontiguousarray(y).tobytes())
    return Training(X, y, weight, group, digest.hexdigest())


def _joined(one: Features, source: Pinned, frame: pl.DataFrame, *, key: str, at: str, prefix: str) -> pl.DataFrame:
    """Feature columns as of each row's own time; equal (key, time) pairs are computed once."""
    import polars as pl

    wanted = [n for n in one.names if f"{prefix}{n}" not in frame.columns]
    if not wanted:
        return frame
    fact_key = next(iter(one.facts)).schema.field(one.key) if one.facts else None
    kind = pl.Int64() if fact_key is not None and fact_key.kind == "int" else pl.String()
    pairs = frame.select(pl.col(key).cast(kind, strict=False).alias(one.key), pl.col(at).alias("at"))
    distinct = pairs.unique(maintain_order=True).drop_nulls()
    values = one.batch(source, distinct, engine=source.engine).rename({n: f"{prefix}{n}" for n in wanted})
    joined = pairs.join(
        values.select(one.key, "at", *[f"{prefix}{n}" for n in wanted]),
        on=[one.key, "at"],
        how="left",
        maintain_order="left",
    )
    return frame.with_columns(joined.select([f"{prefix}{n}" for n in wanted]))


def _options(decision: Decision, frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    assert decision.options is not None
    options = decision.options.candidates()
    table = pl.DataFrame(
        {
            "action": pl.Series([str(i) for i in options.ids.tolist()], dtype=pl.String),
            **{f"item.{n}": c for n, c in options.columns.items() if "#" not in n},
        }
    )
    frame = frame.with_columns(pl.col("action").cast(pl.String))
    return frame.join(table, on="action", how="left", maintain_order="left")


def _scores(parts: Mapping[str, Scorer], decision: Decision, frame: pl.DataFrame) -> dict[str, np.ndarray[Any, Any]]:
    """Scores of each part for each row, one call a choice (rows of one unit and time), through the serving code path."""
    import numpy as np
    import polars as pl

    out = {name: np.empty(len(frame)) for name in parts}
    if not parts:
        return out
    unit = [c for c in frame.columns if c.startswith("unit.")]
    context = [c for c in frame.columns if c.startswith("context.")]
    columns = {
        k: v for c in frame.columns if c.startswith("item.") for k, v in catalogue.as_columns(c[5:], frame[c]).items()
    }
    actions = frame["action"].to_numpy()
    groups = (
        frame.lazy()
        .select("unit", "at")
        .with_row_index("row")
        .group_by("unit", "at", maintain_order=True)
        .agg(pl.col("row"))
        .collect()["row"]
    )
    for rows in groups:
        where = rows.to_numpy().astype(np.int64)
        first = frame.row(int(where[0]), named=True)
        candidates = Candidates(actions[where], {name: column[where] for name, column in columns.items()})
        request = Request(
            decision.name,
            first["unit"],
            first["at"],
            {c[8:]: first[c] for c in context},
            {c[5:]: first[c] for c in unit},
        )
        for name, part in parts.items():
            out[name][where] = part.score(request, candidates).mean
    return out


def refuse_leaks(names: Sequence[str], labels: Sequence[str]) -> None:
    """Refuse columns that are known only after the decision: outcomes and rewards offered as inputs.

    Raises:
        LeakError: With the column's name.
    """
    for name in names:
        bare = name.split(".", 1)[-1]
        if bare in ("y", "reward", "outcome", "outcomes") or (name in labels and bare in ("choice", "seq", "known")):
            raise LeakError(f"column == {name!r} is known only after the decision, must not be an input of the model")


def model_digest(folder: Path) -> str:
    """Hash of every byte of a saved model, file names included."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def code_version(folder: Path | None = None) -> str:
    """Version of this package, and of the user's own code where that is in a git checkout."""
    own = version("matinee")
    if folder is None or not folder.is_dir():
        return own
    try:
        shown = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return own
    return f"{own}+{shown.stdout.strip()}" if shown.returncode == 0 else own


def split_inputs(
    on: Sequence[Any],
    decision: Decision,
    entity: type[Fact] | None,
    context: Sequence[str],
    *,
    clock: bool,
    action: bool,
) -> tuple[Inputs, list[Features], list[Features], dict[str, Scorer]]:
    """Sort what a model is trained on by where it comes from: the unit, the candidate, other scorers."""
    from matinee.features import Features

    unit: list[Features] = []
    item: list[Features] = []
    parts: dict[str, Scorer] = {}
    for one in on:
        if isinstance(one, Features):
            (item if entity is not None and one.key == entity.schema.key and one.key != decision.unit else unit).append(
                one
            )
        elif isinstance(one, Scorer):
            parts[one.name.rpartition("@")[0] or one.name] = one
        else:
            raise BadInputError(f"on holds {one!r}, must be Features or scorers")
    for one in [*unit, *item]:
        for fact, columns in one.reads.items():
            personal = sorted(columns & set(fact.schema.personal))
            if personal:
                # A model keeps the levels of the text it saw: what can be erased must not get into one.
                raise LeakError(
                    f"features {one.name!r} read {fact.__name__}.{personal[0]}, which is personal text: "
                    "a model would keep it after an erasure, must be left out"
                )
    usable = ("int", "float", "bool", "str")
    unit_names = [n for f in unit for n in f.names if f.types[n] in usable]
    item_names = [n for f in item for n in f.names if f.types[n] in usable]
    if entity is not None:
        item_names += [
            f.name for f in entity.schema.fields if f.kind in ("int", "float", "bool") and f.name != entity.schema.key
        ]
    elif decision.options is not None:
        item_names += [n for n in decision.options.candidates().columns if "#" not in n]
    inputs = Inputs(tuple(unit_names), tuple(item_names), tuple(context), clock, tuple(parts), action)
    return inputs, unit, item, parts


def fit(model: Model, training: Training, *, seed: int) -> Model:
    """Fit the model on assembled training data."""
    extra: dict[str, Any] = {}
    if training.group is not None and getattr(model, "ranks", False):
        extra["group"] = training.group
    return model.fit(training.X, training.y, weight=training.weight, seed=seed, **extra)


__all__ = [
    "CLOCK", "Allowed", "Pinned", "Trained", "Training", "assemble", "denied", "fit", "model_digest", "refuse_leaks",
    "split_inputs",
]  # fmt: skip
