"""Arrow schemas of tables: which types are allowed, how a table may change, how data is fitted to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matinee.exceptions import DeclarationError, MatineeError, UnknownColumnError, did_you_mean

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from polars._typing import PolarsDataType
    from pyiceberg.schema import Schema as IcebergSchema

SEQ = "seq"  # order of appending; numbered here, under the table's lock, when the data does not carry it
_WORDS = (
    "int64, float64, string, bool, timestamp in UTC microseconds, date, binary, or a list of int64, float64 or string"
)


def checked(name: str, schema: pa.Schema, key: str | None) -> pa.Schema:
    """The schema in the types that tables hold, or an error that names the column that cannot be stored.

    Raises:
        DeclarationError: A type that would not come back as it went in, a repeated column, a key that is no column.
    """
    import pyarrow as pa

    if len(set(schema.names)) != len(schema.names):
        raise DeclarationError(f"columns of {name} == {schema.names}, must have different names")
    fields = [pa.field(f.name, _stored_type(name, f), nullable=f.nullable) for f in schema]
    if key is not None:
        if key not in schema.names:
            near = did_you_mean(key, schema.names)
            raise DeclarationError(f"key == {key!r}, must be a column of {name} ({', '.join(schema.names)}){near}")
        of = fields[schema.get_field_index(key)].type
        if of not in (pa.int64(), pa.large_string()):
            raise DeclarationError(f"{name}.{key}: {of}, must be int64 or string to be a key")
    return pa.schema(fields)


def _stored_type(name: str, field: pa.Field) -> pa.DataType:
    import pyarrow as pa

    text = (pa.string(), pa.large_string(), pa.string_view())
    scalars = (pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("us", "UTC"), pa.date32())
    if field.type in scalars:
        return field.type
    if field.type in text:
        return pa.large_string()
    if field.type in (pa.binary(), pa.large_binary(), pa.binary_view()):
        return pa.large_binary()
    if pa.types.is_list(field.type) or pa.types.is_large_list(field.type):
        item = field.type.value_type
        if item in (pa.int64(), pa.float64(), *text):
            return pa.large_list(pa.large_string() if item in text else item)
    raise DeclarationError(f"{name}.{field.name}: {field.type}, must be {_WORDS}")


def arrow_schema(schema: IcebergSchema, *, field_ids: bool = False) -> pa.Schema:
    """The Arrow schema of a stored table, in the types of `Field.arrow_type`; with `field_ids`, that of its files."""
    import pyarrow as pa
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    given = schema_to_pyarrow(schema, include_field_ids=field_ids)
    if field_ids:
        return given
    # pyiceberg names list items "element"; Arrow, Polars and our declarations say "item".
    return pa.schema([pa.field(f.name, _stored_type("table", f), nullable=f.nullable) for f in given])


def polars_schema(schema: pa.Schema) -> dict[str, pl.DataType]:
    """The frame types of a table's columns, in order."""
    import polars as pl

    return dict(pl.Schema(schema))


def evolution(name: str, stored: pa.Schema, wanted: pa.Schema) -> tuple[list[str], list[str]]:
    """Columns to add and columns to make nullable, so that rows of the wanted schema can be appended.

    A column that only the table has stays, filled with nulls (an older version of the code still appends).

    Raises:
        DeclarationError: A type changed, a new column is required, or a required column is no longer given.
    """
    add, relax = [], []
    for field in wanted:
        if field.name not in stored.names:
            if not field.nullable:
                raise DeclarationError(
                    f"{name}.{field.name} is new and required, must be nullable: rows already there have no value"
                )
            add.append(field.name)
            continue
        held = stored.field(field.name)
        if held.type != field.type:
            raise DeclarationError(
                f"{name}.{field.name}: {field.type}, must stay {held.type} as in the table; add another column for it"
            )
        if field.nullable and not held.nullable:
            relax.append(field.name)
    for field in stored:
        if field.name not in wanted.names and not field.nullable:
            raise DeclarationError(f"{name}.{field.name} is required in the table, must stay a column of {name}")
    return add, relax


def fitted(name: str, data: pa.Table | pl.DataFrame, schema: pa.Schema) -> pl.DataFrame:
    """The data as a frame of exactly the table's columns, in order and type; absent nullable columns are null.

    `seq` may be absent: the caller numbers it. Only conversions that lose nothing are made (int32 to int64, float32
    to float64, categories to text).

    Raises:
        UnknownColumnError: A column that the table does not have.
        MatineeError: A required column is absent or holds nulls, or a type does not fit.
    """
    import polars as pl

    if not isinstance(data, pl.DataFrame):
        frame = pl.from_arrow(data)
        assert isinstance(frame, pl.DataFrame)
    else:
        frame = data
    for column in frame.columns:
        if column not in schema.names:
            raise UnknownColumnError(name, column, schema.names)
    out = []
    for field, wanted in zip(schema, polars_schema(schema).values(), strict=True):
        if field.name not in frame.columns:
            if field.name == SEQ:
                continue
            if not field.nullable:
                raise MatineeError(f"{name}.{field.name} is missing, must be given ({field.type})")
            out.append(pl.repeat(None, frame.height, dtype=wanted, eager=True).alias(field.name))
            continue
        column = frame[field.name]
        if column.dtype != wanted:
            if not _widens(column.dtype, wanted):
                raise MatineeError(f"{name}.{field.name}: {column.dtype}, must be {wanted}")
            column = column.cast(wanted)
        if not field.nullable and column.null_count():
            raise MatineeError(
                f"{name}.{field.name} holds {column.null_count():,} nulls, must hold none: it is required"
            )
        out.append(column)
    return pl.DataFrame(out)


def _widens(given: PolarsDataType, wanted: PolarsDataType) -> bool:
    """Whether every value of the one type is exactly a value of the other."""
    import polars as pl

    if given == pl.Null:
        return True
    if wanted == pl.Int64:
        return given in (pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32)
    if wanted == pl.Float64:
        return given in (pl.Float32, pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32)
    if wanted == pl.String:
        return given in (pl.Categorical, pl.Enum)
    if isinstance(given, pl.List) and isinstance(wanted, pl.List):
        return _widens(given.inner, wanted.inner)
    return False
