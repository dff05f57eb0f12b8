"""Outcomes on their way into tables: is each row what its fact says, and has it been counted before."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import NoneType
from typing import TYPE_CHECKING, Any

from matinee.choices import Outcome
from matinee.exceptions import did_you_mean
from matinee.facts import Field, Schema
from matinee.validate import check_rows

if TYPE_CHECKING:
    import polars as pl

# How each kind looks in JSON.
_JSON: dict[str, type] = {
    "int": int, "float": float, "str": str, "bool": bool, "datetime": str, "date": str, "bytes": str,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One outcome as it stands in the log. `order` counts through the batch; `source` names the place for good."""

    outcome: Outcome
    order: int
    stream: str
    number: int
    source: str


@dataclass(frozen=True)
class Sound:
    """The occurrences of one fact whose rows are as declared, with those rows as a frame, aligned."""

    schema: Schema
    occurrences: list[Occurrence]
    frame: pl.DataFrame  # the fact's columns, then at, known, choice, outcome

    def only(self, orders: set[int]) -> Sound:
        """Those at these places in the batch."""
        import polars as pl

        keep = [o.order in orders for o in self.occurrences]
        return Sound(
            self.schema,
            [o for o, kept in zip(self.occurrences, keep, strict=True) if kept],
            self.frame.filter(pl.Series(keep, dtype=pl.Boolean)),
        )


def check(
    schema: Schema, occurrences: Sequence[Occurrence], now: datetime
) -> tuple[Sound, list[tuple[Occurrence, str]]]:
    """Split into rows that are as their fact declares and those that are not, with the reason.

    JSON has types, so nothing is converted but what JSON cannot say: times and dates from ISO text, bytes from
    base64, a whole number to a float. Uniqueness is judged later, when copies of one outcome are out of the way.
    """
    import polars as pl

    bad: list[tuple[Occurrence, str]] = []
    rows: list[tuple[Occurrence, Mapping[str, Any]]] = []
    for one in occurrences:
        reason = _shape(schema, one.outcome.row)
        if reason:
            bad.append((one, reason))
        else:
            rows.append((one, one.outcome.row))
    columns: dict[str, pl.Series] = {}
    for field in schema.fields:
        values, wrong = _values(schema, field, [row for _, row in rows])
        if wrong:
            bad += [(rows[i][0], reason) for i, reason in wrong.items()]
            rows = [r for i, r in enumerate(rows) if i not in wrong]
            columns = {name: s.gather([i for i in range(len(s)) if i not in wrong]) for name, s in columns.items()}
            values = [v for i, v in enumerate(values) if i not in wrong]
        as_text = field.kind in ("datetime", "date")
        columns[field.name] = pl.Series(field.name, values, dtype=pl.String() if as_text else field.polars_type())
    stamp = pl.Datetime("us", "UTC")
    frame = pl.DataFrame(
        {
            **columns,
            "at": pl.Series([o.outcome.at for o, _ in rows], dtype=stamp),
            "known": pl.Series([o.outcome.known for o, _ in rows], dtype=stamp),
            "choice": pl.Series([o.outcome.choice for o, _ in rows], dtype=pl.String),
            # Carries the row's place through the check, which returns good and bad rows apart.
            "outcome": pl.Series([str(i) for i in range(len(rows))], dtype=pl.String),
        }
    )
    single = replace(schema, unique=(), entity=False, scheduled=schema.scheduled or schema.entity)
    checked = check_rows(single, frame, now=now)
    for row in checked.bad.select("outcome", "reasons").to_dicts():
        bad.append((rows[int(row["outcome"])][0], "; ".join(row["reasons"])))
    sound = [rows[int(i)][0] for i in checked.good["outcome"]]
    good = checked.good.with_columns(pl.Series("outcome", [o.outcome.id for o in sound], dtype=pl.String))
    return Sound(schema, sound, good), bad


def first_of_each(
    sounds: Sequence[Sound], counted: Mapping[str, str], settled: Mapping[str, int]
) -> tuple[set[int], int]:
    """Places in the batch of the occurrences that count, and how many copies do not.

    An id counts once ever: the first occurrence in the log's order, unless `outcomes` has the id already. If what it
    has is this very occurrence, an earlier seal committed it and died before its fact's row was: it still counts.

    Args:
        sounds: The batch, by fact.
        counted: Id -> source of what `outcomes` has.
        settled: Stream -> last segment that `outcomes` has.
    """
    taken = dict(counted)
    wins: set[int] = set()
    copies = 0
    everything = sorted((o for sound in sounds for o in sound.occurrences), key=lambda o: o.order)
    for one in everything:
        winner = taken.get(one.outcome.id)
        if winner is None:
            if one.number <= settled.get(one.stream, 0):
                continue  # settled by an earlier seal: quarantined then, or erased since
            taken[one.outcome.id] = one.source
            wins.add(one.order)
        elif winner == one.source:
            wins.add(one.order)
        else:
            copies += 1
    return wins, copies


def unique_columns(schema: Schema) -> list[str]:
    """Columns that together may occur once in the fact's table; an entity has one state a moment."""
    return list(schema.unique) or ([schema.key, "at", "known"] if schema.entity else [])


def repeated(sound: Sound, present: pl.DataFrame, columns: Sequence[str]) -> set[int]:
    """Places of the rows whose unique columns the table has already, or an earlier row of the batch."""
    import polars as pl

    marked = sound.frame.select(columns).with_row_index("row")
    there = marked.join(present, on=list(columns), how="semi", nulls_equal=True)["row"]
    later = marked.filter(pl.int_range(pl.len()).over(list(columns)) > 0)["row"]
    return {sound.occurrences[i].order for i in {*there, *later}}


def as_row(outcome: Outcome) -> dict[str, Any]:
    """The row with the columns that come with every fact, for quarantine."""
    return {
        **outcome.row,
        "at": outcome.at.isoformat(),
        "known": outcome.known.isoformat(),
        "choice": outcome.choice,
        "outcome": outcome.id,
    }


def _shape(schema: Schema, row: Mapping[str, Any]) -> str:
    """Why the row's columns are not the fact's; empty if they are."""
    names = schema.columns
    unknown = [c for c in row if c not in names]
    if unknown:
        return (
            f"column == {unknown[0]!r}, must be a column of {schema.name} ({', '.join(names)})"
            f"{did_you_mean(unknown[0], names)}"
        )
    missing = [f.name for f in schema.fields if f.required and row.get(f.name, f.default) is None]
    return f"{missing[0]} is missing, must be given ({schema.field(missing[0]).kind})" if missing else ""


def _values(schema: Schema, field: Field, rows: Sequence[Mapping[str, Any]]) -> tuple[list[Any], dict[int, str]]:
    """The column's values, and reasons for those of another type."""
    values = [row.get(field.name, field.default) for row in rows]
    if set(map(type, values)) <= {_JSON.get(field.kind), NoneType} and field.kind not in ("int", "bytes"):
        return values, {}
    wrong: dict[int, str] = {}
    for i, value in enumerate(values):
        if value is None:
            continue
        try:
            values[i] = _value(field.kind, value)
        except (TypeError, OverflowError, binascii.Error):
            wrong[i] = f"{field.name} == {value!r}, must be {field.kind}, not {type(value).__name__}"
    return values, wrong


def _value(kind: str, value: Any) -> Any:
    """The value in the column's own type; raises where JSON's type is another."""
    if kind.startswith("list["):
        if not isinstance(value, list):
            raise TypeError
        return [_value(kind[5:-1], one) for one in value]
    if kind == "float" and type(value) is int:
        return float(value)
    if type(value) is not _JSON[kind]:
        raise TypeError
    if isinstance(value, int) and kind == "int" and not -(2**63) <= value < 2**63:
        raise OverflowError
    return base64.b64decode(str(value), validate=True) if kind == "bytes" else value
