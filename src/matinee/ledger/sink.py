"""Where sealed rows go: the protocol, and the studio's tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from matinee.facts import Schema
from matinee.ledger.columns import (
    CHOICES_PERSONAL,
    CHOICES_SCHEMA,
    OUTCOMES_PERSONAL,
    OUTCOMES_SCHEMA,
    id_hash,
)

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from matinee.tables import Tables

MARK = "matinee.sealed."


class SealSink(Protocol):
    """What sealing needs of the tables. Each `write` is one atomic commit of rows and marks together."""

    def marks(self, table: str) -> Mapping[str, int]:
        """Stream -> the last segment whose rows this table has. Empty for a table that does not exist yet."""

    def write(self, table: str, data: pa.Table | pl.DataFrame, marks: Mapping[str, int]) -> None:
        """Append rows and set the marks of these streams, all of it or nothing; `seq` follows the rows' order."""

    def counted(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Of these outcome ids, those that `outcomes` has, with the `source` of the occurrence that counted."""

    def schema(self, fact: str) -> Schema:
        """What rows of this fact must be like; raises `UnknownNameError` for a fact nobody declared."""

    def present(self, schema: Schema, rows: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
        """Of the values of these columns in `rows`, those that the fact's table has already."""


class TableSink:
    """Seals into the studio's tables; makes `choices` and `outcomes` when they are first needed.

    Args:
        tables: The tables.
        facts: Gives the schema of a fact by name, or raises `UnknownNameError`.
        commit: Numbers rows and appends them with their marks. For a studio that numbers what it appends itself
            (`FactStore.commit`), so that appended and sealed rows share one order; without it the tables number them.
    """

    def __init__(
        self,
        tables: Tables,
        facts: Callable[[str], Schema],
        *,
        commit: Callable[[str, pl.DataFrame, Mapping[str, str]], object] | None = None,
    ) -> None:
        self._tables, self._facts = tables, facts
        self._commit = commit
        self._made: set[str] = set()

    def marks(self, table: str) -> Mapping[str, int]:
        """Stream -> last sealed segment, read from the table's properties anew each time."""
        if not self._tables.exists(table):
            return {}
        properties = self._tables.properties(table)
        return {key[len(MARK) :]: int(value) for key, value in properties.items() if key.startswith(MARK)}

    def write(self, table: str, data: pa.Table | pl.DataFrame, marks: Mapping[str, int]) -> None:
        """Append with the marks as table properties of the same commit."""
        if table not in self._made:
            self._make(table)
            self._made.add(table)
        mark = {MARK + stream: str(number) for stream, number in marks.items()}
        if self._commit is None:
            self._tables.append(table, data, mark=mark)
        else:
            import polars as pl

            self._commit(table, pl.DataFrame(data), mark)

    def counted(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Looks through eight bytes a row (`id_hash`); ids are read only where the hash is one of those asked for."""
        import polars as pl

        if not ids or not self._tables.exists("outcomes"):
            return {}
        wanted = set(ids)
        hashes = pl.Series([id_hash(one) for one in wanted], dtype=pl.Int64)
        rows = self._tables.scan("outcomes", columns=["id", "id_hash", "source"])
        found = rows.filter(pl.col("id_hash").is_in(hashes.implode())).select("id", "source").collect()
        return {one: source for one, source in found.iter_rows() if one in wanted}

    def schema(self, fact: str) -> Schema:
        """The schema of a fact by name."""
        return self._facts(fact)

    def present(self, schema: Schema, rows: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
        """Values of the columns that the table has; reads only the buckets of the rows' keys when these are few."""
        if not self._tables.exists(schema.name):
            return rows.select(columns).head(0)
        keys = rows[schema.key].unique().to_list()
        there = self._tables.scan(
            schema.name, columns=list(dict.fromkeys([*columns, schema.key])), keys=keys if len(keys) <= 1000 else None
        )
        found: pl.DataFrame = there.select(columns).join(
            rows.lazy().select(columns), on=list(columns), how="semi", nulls_equal=True
        ).unique().collect()
        return found

    def _make(self, table: str) -> None:
        if table == "choices":
            self._tables.create(table, CHOICES_SCHEMA, key="unit", personal=CHOICES_PERSONAL)
        elif table == "outcomes":
            self._tables.create(table, OUTCOMES_SCHEMA, key="unit", personal=OUTCOMES_PERSONAL)
        elif not self._tables.exists(table):
            schema = self._facts(table)
            self._tables.create(table, schema.arrow(), key=schema.key, personal=schema.personal)
