"""What a choice is worth, computed from the outcomes that followed it.

    did(Played, within="48h", where=Played.seconds > 1200)
    sum(Charged.amount_minor, within="14d", where=Charged.approved) - fee("route")

A reward is a sum of terms. A term over facts looks at rows with `choice.at < at <= choice.at + within`, tied to the
choice by its id where there is one, else by the unit. A cost term looks at the action itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from matinee.exceptions import DeclarationError
from matinee.expressions import ColumnLike, Expression
from matinee.facts import Fact
from matinee.times import duration

if TYPE_CHECKING:
    import polars as pl

LATENESS = timedelta(hours=48)


@dataclass(frozen=True)
class Term:
    """One part of a reward: an aggregate over outcomes, or a cost of the action.

    Attributes:
        kind: "did", "count", "sum", or "cost".
        fact: Whose rows count; None for a cost.
        value: What is summed; None for did, count, cost.
        where: Which rows count.
        within: How long after the choice.
        scale: What the term is multiplied with.
        column: Cost: the candidate column that holds it.
        table: Cost: cost by action, instead of a column.
    """

    kind: str
    fact: type[Fact] | None = None
    value: Expression | None = None
    where: Expression | None = None
    within: timedelta = timedelta(days=1)
    scale: float = 1.0
    column: str | None = None
    table: Mapping[Any, float] | None = None

    def __repr__(self) -> str:
        sign = "" if self.scale == 1 else f"{self.scale:g} × "
        if self.kind == "cost":
            return f"{sign}cost of {self.column or 'the action'}"
        what = f"{self.kind} {self.value!r}" if self.value is not None else f"{self.kind} {self.fact!r}"
        return f"{sign}{what} within {_words(self.within)}" + (
            f" where {self.where!r}" if self.where is not None else ""
        )


class Reward:
    """A sum of terms; combine with `+`, `-` and a number."""

    def __init__(self, terms: Sequence[Term], function: Callable[[pl.DataFrame], Any] | None = None) -> None:
        self.terms, self.function = tuple(terms), function

    @property
    def facts(self) -> set[type[Fact]]:
        """Facts whose rows it reads."""
        return {t.fact for t in self.terms if t.fact is not None}

    @property
    def horizon(self) -> timedelta:
        """How long after a choice its reward is complete, lateness not counted."""
        return max((t.within for t in self.terms if t.fact is not None), default=timedelta(0))

    def _scaled(self, factor: float) -> Reward:
        from dataclasses import replace

        return Reward([replace(t, scale=t.scale * factor) for t in self.terms])

    def __add__(self, other: Reward) -> Reward:
        if not isinstance(other, Reward):
            raise DeclarationError(f"reward + {other!r}, must add another reward term")
        return Reward([*self.terms, *other.terms])

    def __sub__(self, other: Reward) -> Reward:
        if not isinstance(other, Reward):
            raise DeclarationError(f"reward - {other!r}, must subtract another reward term")
        return Reward([*self.terms, *other._scaled(-1.0).terms])

    def __mul__(self, factor: float) -> Reward:
        return self._scaled(float(factor))

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Reward:
        return self._scaled(1.0 / divisor)

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.terms)).replace("+ -1 × ", "− ") or "own function"


def did(fact: type[Fact], *, within: str | timedelta, where: ColumnLike = None) -> Reward:
    """1 if such a fact followed within the time, else 0."""
    return Reward([Term("did", fact, None, where, duration(within))])


def sum(  # the field's word; the builtin is not needed here
    value: ColumnLike,
    window: str | timedelta | None = None,
    *,
    within: str | timedelta | None = None,
    where: ColumnLike = None,
) -> Any:
    """The sum of a column: over the `window` before (a feature), or over what followed `within` a time (a reward)."""
    if within is None:
        from matinee import features

        return features.sum(value, window, where=where)
    if window is not None:
        raise DeclarationError(f"sum({value!r}) has a window and within, must have one: back from t, or ahead of it")
    if value.fact is None:
        raise DeclarationError(f"sum({value!r}), must sum a column of a fact")
    return Reward([Term("sum", value.fact, value, where, duration(within))])


def count(
    what: type[Fact] | ColumnLike,
    window: str | timedelta | None = None,
    *,
    within: str | timedelta | None = None,
    where: ColumnLike = None,
) -> Any:
    """How many rows: over the `window` before (a feature), or of what followed `within` a time (a reward)."""
    if within is None:
        from matinee import features

        return features.count(what, window, where=where)
    if window is not None:
        raise DeclarationError(f"count({what!r}) has a window and within, must have one: back from t, or ahead of it")
    fact = what.fact if isinstance(what, Expression) else what
    if fact is None:
        raise DeclarationError(f"count({what!r}), must count a fact")
    return Reward([Term("count", fact, None, where, duration(within))])


def cost(of: str | Mapping[Any, float]) -> Reward:
    """What the action itself costs: a candidate column by name, or a table of cost by action.

    Subtract it: `sum(...) - cost("fee_minor")`.
    """
    if isinstance(of, str):
        return Reward([Term("cost", column=of)])
    return Reward([Term("cost", table=dict(of))])


def fee(column: str) -> Reward:
    """The fee that the chosen route charges, from a candidate column; an alias of `cost` for payments."""
    return cost(column)


def own(function: Callable[[pl.DataFrame], Any]) -> Reward:
    """A plain function from a frame of choices (`choice`, `unit`, `at`, `action`) to one reward a row."""
    return Reward([], function)


def slot_rewards(
    reward: Reward,
    choices: pl.DataFrame,
    scan: Callable[[type[Fact]], pl.LazyFrame],
    *,
    unit: str,
    among: str | None,
    columns: Callable[[str], Mapping[Any, float]],
) -> pl.DataFrame:
    """The reward of each slot of each choice.

    Args:
        reward: What to compute.
        choices: One row a slot: `choice` (id), `unit` (text), `at`, `slot`, `action` (text).
        scan: Rows of a fact, all columns.
        unit: Name of the unit's column in facts.
        among: Name of the candidates' column, when the candidates are an entity: a fact that has the column rewards
            the slot whose action it names; any other fact rewards the whole choice, and is put on its first slot.
        columns: Candidate column -> value by action (for costs).

    Returns:
        `choices` with a Float64 column `reward`, row order kept.
    """
    import polars as pl

    if reward.function is not None:
        given = pl.Series("reward", reward.function(choices), dtype=pl.Float64, strict=False)
        if len(given) != len(choices):
            raise DeclarationError(
                f"the reward function gave {len(given)} rewards, must give {len(choices)}, one a row"
            )
        return choices.with_columns(given)
    total_ = pl.lit(0.0)
    out = choices.with_row_index("_row").with_columns(pl.col("_row").cast(pl.Int64))
    for i, term in enumerate(reward.terms):
        name = f"_term{i}"
        if term.kind == "cost":
            table = term.table if term.table is not None else columns(str(term.column))
            keys = pl.Series("action", [str(k) for k in table], dtype=pl.String)
            costs = pl.DataFrame({"action": keys, name: pl.Series(list(table.values()), dtype=pl.Float64)})
            out = out.join(costs, on="action", how="left", maintain_order="left")
            missing = out.filter(pl.col(name).is_null())
            if len(missing):
                raise DeclarationError(
                    f"cost({term.column or 'table'!r}) has no value for action {missing['action'][0]!r}, must have one each"
                )
        else:
            out = _fact_term(term, name, out, scan, unit, among)
        total_ = total_ + pl.col(name).fill_null(0.0) * term.scale
    drop = [c for c in out.columns if c.startswith("_")]
    return out.sort("_row").with_columns(total_.alias("reward")).drop(drop)


def _fact_term(
    term: Term,
    name: str,
    choices: pl.DataFrame,
    scan: Callable[[type[Fact]], pl.LazyFrame],
    unit: str,
    among: str | None,
) -> pl.DataFrame:
    import polars as pl

    assert term.fact is not None
    schema = term.fact.schema
    by_slot = among is not None and among in schema.columns
    value = pl.lit(1.0) if term.value is None else term.value.polars().cast(pl.Float64)
    rows = scan(term.fact)
    if term.where is not None:
        rows = rows.filter(term.where.polars())
    picked = [pl.col("at").alias("_at"), pl.col("choice").alias("_choice"), value.alias("_value")]
    if unit in schema.columns:
        picked.append(pl.col(unit).cast(pl.String).alias("_unit"))
    if by_slot:
        picked.append(pl.col(str(among)).cast(pl.String).alias("_action"))
    facts = rows.select(picked).collect()
    slots = choices.select("_row", "choice", "unit", "at", "slot", "action")
    if not by_slot:
        slots = slots.filter(pl.col("slot") == 0)
    on_action = (["action"], ["_action"]) if by_slot else ([], [])
    tied = slots.join(
        facts.filter(pl.col("_choice").is_not_null()),
        left_on=["choice", *on_action[0]],
        right_on=["_choice", *on_action[1]],
    )
    hits = [tied.select("_row", "at", "_at", "_value")]
    if "_unit" in facts.columns:
        loose = slots.join(
            facts.filter(pl.col("_choice").is_null()),
            left_on=["unit", *on_action[0]],
            right_on=["_unit", *on_action[1]],
        )
        hits.append(loose.select("_row", "at", "_at", "_value"))
    inside = (pl.col("_at") > pl.col("at")) & (pl.col("_at") <= pl.col("at") + term.within)
    found = (
        pl.concat(hits).filter(inside).group_by("_row").agg(pl.col("_value").sum().alias(name), pl.len().alias("_n"))
    )
    if term.kind == "did":
        found = found.with_columns((pl.col("_n") > 0).cast(pl.Float64).alias(name))
    elif term.kind == "count":
        found = found.with_columns(pl.col("_n").cast(pl.Float64).alias(name))
    return choices.join(found.select("_row", name), on="_row", how="left", maintain_order="left")


def _words(length: timedelta) -> str:
    hours = length.total_seconds() / 3600
    if hours >= 48 and hours % 24 == 0:
        return f"{hours / 24:g} d"
    return f"{hours:g} h" if hours >= 1 else f"{hours * 60:.3g} min"
