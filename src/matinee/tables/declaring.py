"""Making a table, and fitting one that is there to a newer declaration."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pyarrow as pa
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import assign_fresh_schema_ids
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform

from matinee.exceptions import DeclarationError, UnknownColumnError
from matinee.tables.local_io import to_uri
from matinee.tables.schemas import arrow_schema, evolution
from matinee.tables.warehouse import NAMESPACE, SETTINGS, Attempt, Warehouse

_METRICS = "write.metadata.metrics.column."


def create(warehouse: Warehouse, name: str, schema: pa.Schema, key: str, personal: Sequence[str], buckets: int) -> None:
    """See `Tables.create`; the schema is checked."""
    catalog = warehouse.catalog
    if name in warehouse.names():
        _evolve(warehouse.load(name), name, schema, key, personal, buckets)
        return
    fresh = assign_fresh_schema_ids(catalog._convert_schema_if_needed(schema))
    field = PartitionField(fresh.find_field(key).field_id, 1000, BucketTransform(buckets or 1), f"{key}_bucket")
    own = {"matinee.key": key, "matinee.buckets": str(buckets)}
    catalog.create_table(
        (NAMESPACE, name),
        fresh,
        location=to_uri(warehouse.root / "tables" / name),
        partition_spec=PartitionSpec(field) if buckets else PartitionSpec(),
        properties={**SETTINGS, **own, **_privacy(personal)},
    )


def _privacy(personal: Sequence[str]) -> dict[str, str]:
    return {"matinee.personal": json.dumps(list(personal)), **{_METRICS + column: "none" for column in personal}}


def _evolve(table: Table, name: str, schema: pa.Schema, key: str, personal: Sequence[str], buckets: int) -> None:
    held = table.properties
    if held["matinee.key"] != key:
        raise DeclarationError(
            f"key of {name} == {key!r}, must stay {held['matinee.key']!r}: its rows are bucketed by it"
        )
    if int(held["matinee.buckets"]) != buckets:
        raise DeclarationError(
            f"buckets of {name} == {buckets}, must stay {held['matinee.buckets']}: its rows are in them"
        )
    add, relax = evolution(name, arrow_schema(table.schema()), schema)
    properties = {k: v for k, v in _privacy(personal).items() if held.get(k) != v}
    if not (add or relax or properties):
        return
    attempt = Attempt(table)
    if add or relax:
        update = attempt.update_schema()
        for column in relax:
            update.make_column_optional(column)
        if add:
            update.union_by_name(pa.schema([schema.field(column) for column in add]))
        for column in add:
            index = schema.get_field_index(column)
            if index:
                update.move_after(column, schema.names[index - 1])
            else:
                update.move_first(column)
        update.commit()
    if properties:
        attempt.set_properties(properties)
    attempt.commit_transaction()


def rename_column(table: Table, name: str, old: str, new: str) -> None:
    """See `Tables.rename_column`."""
    columns = arrow_schema(table.schema()).names
    if old not in columns and new in columns:
        return
    if old not in columns:
        raise UnknownColumnError(name, old, columns)
    if new in columns:
        raise DeclarationError(f"{name}.{new} is a column already, must be another name for {old!r}")
    attempt = Attempt(table)
    attempt.update_schema().rename_column(old, new).commit()
    properties = {}
    if table.properties["matinee.key"] == old:
        properties["matinee.key"] = new
    personal = json.loads(table.properties["matinee.personal"])
    if old in personal:
        properties |= _privacy([new if column == old else column for column in personal])
        attempt.remove_properties(_METRICS + old)
    if properties:
        attempt.set_properties(properties)
    attempt.commit_transaction()
