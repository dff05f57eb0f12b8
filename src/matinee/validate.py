"""What a fact's rows must be like. Splits a frame into good rows and bad ones, each bad row with all its reasons."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from matinee.exceptions import BadInputError, did_you_mean
from matinee.facts import Field, Schema

if TYPE_CHECKING:
    import polars as pl

# A clock that is a little ahead is not a fact from the future.
AHEAD = timedelta(minutes=5)


@dataclass(frozen=True)
class Checked:
    """Good rows in the table's own types and order, and bad rows as they came with a `reasons` column."""

    good: pl.DataFrame
    bad: pl.DataFrame


def check_rows(schema: Schema, frame: pl.DataFrame, *, now: datetime) -> Checked:
    """Check types, required columns, bounds, finiteness, time zones and time order of every row.

    Args:
        schema: What the rows must be.
        frame: Columns of the fact, `at` (required) and `known` (the time of appending where absent), optionally
            `choice` and `outcome`.
        now: The moment of appending; nothing may be known later than that.

    Raises:
        BadInputError: If a required column is missing or an unknown one is there: that is the file's fault, not a row's.
    """
    import polars as pl

    check_columns(schema, frame)
    declared = [f.name for f in schema.fields]
    checks: list[tuple[pl.Expr, str | pl.Expr]] = []
    columns: list[pl.Expr] = []
    for one in schema.fields:
        if one.name not in frame.columns:
            columns.append(pl.lit(one.default, dtype=one.polars_type()).alias(one.name))
            continue
        converted, broken, reason = _converted(one, frame.schema[one.name])
        columns.append(converted.alias(one.name))
        if broken is not None:
            checks.append((broken, reason))
        checks += _bounds(one, converted)
        if one.required:
            empty = converted.is_null() if broken is None else converted.is_null() & ~broken
            checks.append((empty, f"{one.name} is empty, must be {one.kind}"))
    for name in ("at", "known"):
        if name not in frame.columns:
            columns.append(pl.lit(now, dtype=pl.Datetime("us", "UTC")).alias(name))
            continue
        converted, wrong, said = _time(name, frame.schema[name])
        # `known` may be left empty: it is then the moment of appending.
        columns.append((converted.fill_null(now) if name == "known" else converted).alias(name))
        checks.append((wrong, said))
        if name == "at":
            checks.append((pl.col("at").is_null(), "at is empty, must say when it happened"))
    typed = frame.with_columns(columns)
    verdict = frame.lazy().select(
        pl.concat_list(
            [pl.when(bad).then(_text(why)).otherwise(None) for bad, why in checks] or [pl.lit(None, pl.String)]
        )
        .list.drop_nulls()
        .alias("reasons")
    )
    order = _time_order(schema, typed, now)
    flags = (
        frame.lazy()
        .select(pl.any_horizontal([b.fill_null(value=False) for b, _ in checks]).alias("bad"))
        .collect()["bad"]
    )
    flags = flags | order.select(pl.col("reason").is_not_null()).to_series()
    for name in ("choice", "outcome"):
        if name not in typed.columns:
            typed = typed.with_columns(pl.lit(None, dtype=pl.String).alias(name))
    typed = typed.select([*declared, "at", "known", "choice", "outcome"])
    repeated = _repeated(schema, typed)
    if repeated is not None:
        flags = flags | repeated["reason"].is_not_null()
    if not flags.any():
        return Checked(typed, frame.head(0).with_columns(pl.lit([], dtype=pl.List(pl.String)).alias("reasons")))
    reasons = verdict.collect()["reasons"]
    extra = [order["reason"]] + ([repeated["reason"]] if repeated is not None else [])
    joined = pl.DataFrame({"reasons": reasons, **{f"x{i}": e for i, e in enumerate(extra)}}).select(
        pl.concat_list(["reasons", *[f"x{i}" for i in range(len(extra))]]).list.drop_nulls().alias("reasons")
    )["reasons"]
    return Checked(typed.filter(~flags), frame.with_columns(joined).filter(flags))


def check_columns(schema: Schema, frame: pl.DataFrame) -> None:
    """Raise where the columns of a frame are not those of a fact.

    Raises:
        BadInputError: If a required column is missing or an unknown one is there.
    """
    declared = [f.name for f in schema.fields]
    allowed = [*declared, "at", "known", "choice", "outcome"]
    unknown = [c for c in frame.columns if c not in allowed]
    if unknown:
        raise BadInputError(
            f"column == {unknown[0]!r} is not part of {schema.name}, must be one of {', '.join(allowed)}"
            f"{did_you_mean(unknown[0], allowed)}"
        )
    missing = [f.name for f in schema.fields if f.required and f.name not in frame.columns]
    missing += [] if "at" in frame.columns else ["at"]
    if missing:
        raise BadInputError(
            f"column {missing[0]!r} is missing from {schema.name}, must be there; the file has "
            f"{', '.join(frame.columns) or 'no columns'}{did_you_mean(missing[0], frame.columns)}"
        )


def _text(reason: str | pl.Expr) -> pl.Expr:
    import polars as pl

    return pl.lit(reason) if isinstance(reason, str) else reason


def _converted(one: Field, have: pl.DataType) -> tuple[pl.Expr, pl.Expr | None, str | pl.Expr]:
    """The column in its own type, which rows could not be converted, and why. Nothing is coerced silently: text that
    is a number becomes one only where the file had no types (CSV); a float that is not whole is no int."""
    import polars as pl

    column, want = pl.col(one.name), one.polars_type()
    if have == want:
        return column, None, ""
    if have == pl.Null():
        return column.cast(want), None, ""
    wrong = pl.format(f"{one.name} == {{}}, must be {one.kind}", column.cast(pl.String, strict=False))
    if one.kind == "datetime":
        return _time(one.name, have)
    if have == pl.String() and one.kind == "bool":
        low = column.str.strip_chars().str.to_lowercase()
        truth = pl.when(low.is_in(["true", "1", "yes"])).then(True).when(low.is_in(["false", "0", "no"])).then(False)
        return truth, column.is_not_null() & truth.is_null(), wrong
    if have == pl.String() and one.kind in ("int", "float", "date"):
        cleaned = pl.when(column.str.strip_chars() != "").then(column.str.strip_chars())
        converted = cleaned.str.to_date(strict=False) if one.kind == "date" else cleaned.cast(want, strict=False)
        return converted, cleaned.is_not_null() & converted.is_null(), wrong
    if have.is_integer() and one.kind in ("int", "float"):
        converted = column.cast(want, strict=False)
        return converted, column.is_not_null() & converted.is_null(), wrong
    if have.is_float() and one.kind == "float":
        return column.cast(want), None, ""
    if have.is_float() and one.kind == "int":
        whole = column.is_finite() & (column == column.round(0)) & (column.abs() < 2**53)
        return pl.when(whole).then(column).cast(want, strict=False), column.is_not_null() & ~whole, wrong
    if isinstance(have, pl.Categorical | pl.Enum) and one.kind == "str":
        return column.cast(want), None, ""
    if isinstance(have, pl.List | pl.Array) and one.kind.startswith("list["):
        return column.cast(want, strict=False), None, ""
    if have == pl.String() and one.kind.startswith("list["):
        parts = column.str.split("|")
        return parts.cast(want, strict=False), None, ""
    return pl.lit(None, dtype=want), column.is_not_null(), f"{one.name} is {have}, must be {one.kind}"


def _time(name: str, have: pl.DataType) -> tuple[pl.Expr, pl.Expr, str | pl.Expr]:
    import polars as pl

    column, stamp = pl.col(name), pl.Datetime("us", "UTC")
    none = pl.lit(value=False)
    if isinstance(have, pl.Datetime):
        if have.time_zone is None:
            why = f"{name} has no time zone, must carry one (UTC: .dt.replace_time_zone('UTC'))"
            return pl.lit(None, dtype=stamp), column.is_not_null(), why
        return column.dt.convert_time_zone("UTC").cast(stamp), none, ""
    if have == pl.String():
        text = column.str.strip_chars()
        zoned = text.str.contains(r"(Z|[+-]\d{2}:?\d{2})$")
        parsed = pl.coalesce(
            text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_zone="UTC", time_unit="us", strict=False),
            text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%#z", time_zone="UTC", time_unit="us", strict=False),
        )
        converted = pl.when(zoned).then(parsed)
        given = column.is_not_null() & (text != "")
        reason = (
            pl.when(zoned.fill_null(value=False))
            .then(pl.format(name + " == '{}', must be a time such as 2026-11-22T18:00:00Z", column))
            .otherwise(pl.format(name + " == '{}' has no time zone, must carry one such as Z or +01:00", column))
        )
        return converted, given & converted.is_null(), reason
    if have == pl.Null():
        return pl.lit(None, dtype=stamp), none, ""
    return pl.lit(None, dtype=stamp), column.is_not_null(), f"{name} is {have}, must be a time with a zone"


def _bounds(one: Field, converted: pl.Expr) -> list[tuple[pl.Expr, str | pl.Expr]]:
    import polars as pl

    checks: list[tuple[pl.Expr, str | pl.Expr]] = []
    shown = pl.col(one.name).cast(pl.String, strict=False)
    if one.kind == "float":
        # One NaN or infinity would poison every later running sum of its key.
        checks.append((~converted.is_finite(), pl.format(f"{one.name} == {{}}, must be a finite number", shown)))
    if one.bounds is not None:
        for bound, word, broken in (
            (one.bounds.ge, ">=", operator.lt),
            (one.bounds.gt, ">", operator.le),
            (one.bounds.le, "<=", operator.gt),
            (one.bounds.lt, "<", operator.ge),
        ):
            if bound is not None:
                checks.append(
                    (broken(converted, bound), pl.format(f"{one.name} == {{}}, must be {word} {bound:g}", shown))
                )
    if one.one_of is not None:
        words = ", ".join(map(str, one.one_of))
        checks.append(
            (~converted.is_in(list(one.one_of)), pl.format(f"{one.name} == {{}}, must be one of {words}", shown))
        )
    return checks


def _time_order(schema: Schema, typed: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """A reason where times contradict each other; null elsewhere."""
    import polars as pl

    limit = now + AHEAD
    reason: Any = pl.when(pl.col("known") > limit).then(
        pl.lit(f"known lies in the future, must not be after the time of appending ({now:%Y-%m-%d %H:%M} UTC)")
    )
    if not schema.scheduled and not schema.entity:
        reason = reason.when(pl.col("at") > limit).then(
            pl.lit(f"at lies in the future, must not be after {now:%Y-%m-%d %H:%M} UTC (declare the fact scheduled=True "
                   "if it is about the future)")
        ).when(pl.col("at") > pl.col("known") + AHEAD).then(
            pl.lit("known is before at, must not be: a thing is not known before it happens")
        )  # fmt: skip
    return typed.lazy().select(reason.otherwise(None).alias("reason")).collect()


def _repeated(schema: Schema, typed: pl.DataFrame) -> pl.DataFrame | None:
    """A reason for each row beyond the first with the same unique columns; an entity has one state a moment."""
    import polars as pl

    columns = list(schema.unique) or ([schema.key, "at", "known"] if schema.entity else [])
    if not columns:
        return None
    first = pl.int_range(pl.len()).over(columns) > 0
    text = f"duplicate key: another row has the same {', '.join(columns)}, must be unique"
    return typed.lazy().select(pl.when(first).then(pl.lit(text)).otherwise(None).alias("reason")).collect()


def plain(value: Any) -> Any:
    """A cell as JSON can hold it: times as ISO text, bytes as hex, non-finite numbers as words."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value
