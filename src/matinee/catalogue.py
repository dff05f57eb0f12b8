"""The candidates of a decision as arrays: ids, attributes, features, windows of scheduled facts.

For a fixed list of options they come from the declaration. For an entity they are built from the facts as of a time
and published, so that serving maps them into memory and reads no table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from matinee.decisions import Decision
from matinee.exceptions import DeclarationError
from matinee.facts import Fact
from matinee.policies import Candidates
from matinee.store import FactStore

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from matinee.features import Features

    Array = np.ndarray[Any, Any]


def entity_of(decision: Decision, facts: FactStore) -> type[Fact]:
    """The entity whose keys are the decision's candidates."""
    for name in facts.names():
        fact = facts.fact(name)
        if fact.schema.entity and fact.schema.key == decision.entity:
            return fact
    raise DeclarationError(
        f"decision {decision.name!r} chooses among {decision.entity!r}, must be the key of an entity of this studio"
    )


def attributes_of(entity: type[Fact]) -> Features:
    """The entity's own columns as features: the state as of a time, the same in training and in serving."""
    from matinee.features import Features, state

    columns = {c: state(getattr(entity, c)) for c in entity.schema.columns if c != entity.schema.key}
    return Features.of(entity.schema.key, f"{entity.schema.name}_attributes", columns)


def build(decision: Decision, facts: FactStore, features: Sequence[Features], at: datetime) -> Candidates:
    """The candidates of a decision as of a time.

    Args:
        decision: Whose candidates.
        facts: Where from.
        features: Features keyed by the candidate.
        at: As of when; nothing known later is in them.
    """
    if decision.options is not None:
        return decision.options.candidates()
    import numpy as np
    import polars as pl

    entity = entity_of(decision, facts)
    key = entity.schema.key
    ids = facts.scan(entity, columns=[key], known_before=at).select(pl.col(key).unique().sort()).collect()[key]
    labels = pl.DataFrame({key: ids, "at": pl.Series([at] * len(ids), dtype=pl.Datetime("us", "UTC"))})
    columns: dict[str, Array] = {}
    for one in (attributes_of(entity), *features):
        frame = one.batch(facts, labels)
        for name in one.names:
            columns |= as_columns(name, frame[name])
    for fact in decision.windows:
        columns |= windows_of(fact, facts, ids, at)
    return Candidates(ids.to_numpy() if ids.dtype.is_integer() else np.array(ids.to_list(), np.str_), columns)


def as_columns(name: str, series: pl.Series) -> dict[str, Array]:
    """A feature column as NumPy: numbers as float64 (null is NaN), text as strings with group codes beside it."""
    import numpy as np
    import polars as pl

    kind = series.dtype
    if kind.is_numeric() or kind == pl.Boolean():
        return {name: series.cast(pl.Float64).to_numpy().copy()}
    if kind == pl.String():
        return _text(name, series)
    if isinstance(kind, pl.List) and kind.inner == pl.String():
        return {name: np.array(series.list.join("|").fill_null("").to_list(), np.str_)}
    if isinstance(kind, pl.Datetime | pl.Date):
        days = series.cast(pl.Datetime("us")).cast(pl.Int64).cast(pl.Float64).to_numpy()
        return {name: days.copy()}
    return {}


def _text(name: str, series: pl.Series) -> dict[str, Array]:
    import numpy as np

    values = np.array(series.fill_null("").to_list(), np.str_)
    codes = np.unique(values, return_inverse=True)[1].astype(np.int64)
    # What is unknown is not one group: the ones without a provider do not share a provider.
    codes[values == ""] = -1
    return {name: values, f"{name}#codes": codes}


def windows_of(fact: type[Fact], facts: FactStore, ids: pl.Series, at: datetime) -> dict[str, Array]:
    """Windows of a scheduled fact as known at a time, open or not, shape (candidates, most windows of one).

    A candidate without any has none open.
    """
    import numpy as np
    import polars as pl

    schema = fact.schema
    frame = facts.scan(fact, known_before=at).sort("at", "known", "seq").collect()
    times = [f.name for f in schema.fields if f.kind == "datetime"]
    texts = [f.name for f in schema.fields if f.kind == "str" and f.name != schema.key]
    # The newest row about the same start in the same territory is the one that holds.
    frame = frame.unique([schema.key, *texts, *times[:1]], keep="last", maintain_order=True)
    order = {i: row for row, i in enumerate(ids.to_list())}
    frame = frame.filter(pl.col(schema.key).is_in(ids.implode()))
    rows = np.array([order[i] for i in frame[schema.key].to_list()], np.int64)
    place = frame.select((pl.int_range(pl.len()).over(schema.key)).alias("n"))["n"].to_numpy() if len(frame) else rows
    width = int(place.max()) + 1 if len(frame) else 1
    out: dict[str, Array] = {}
    for name in times:
        # An open end never comes; a missing window never opens.
        first = name == times[0]
        column = np.full((len(ids), width), np.iinfo(np.int64).max if first else np.iinfo(np.int64).min)
        values = frame[name].cast(pl.Int64).fill_null(np.iinfo(np.int64).min if first else np.iinfo(np.int64).max)
        column[rows, place] = values.to_numpy()
        out[f"{schema.name}.{name}"] = column
    for name in texts:
        text = np.full(
            (len(ids), width), "", dtype=f"<U{max([1, *(len(v) for v in frame[name].drop_nulls().to_list())])}"
        )
        text[rows, place] = np.array(frame[name].fill_null("*").to_list(), np.str_) if len(frame) else text[rows, place]
        out[f"{schema.name}.{name}"] = text
    return out


def option_table(decision: Decision, candidates: Candidates) -> Mapping[str, Mapping[Any, float]]:
    """Candidate column -> value by action, for costs in rewards."""
    ids = candidates.ids.tolist()
    numbers = {n: c for n, c in candidates.columns.items() if c.dtype.kind == "f" and c.ndim == 1}
    return {n: dict(zip(ids, c.tolist(), strict=True)) for n, c in numbers.items()}
