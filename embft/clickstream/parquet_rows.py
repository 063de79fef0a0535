"""Batches of a Parquet file → a column for each field, of the types that JSON lines give."""

import math
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from embft.clickstream.arrow_lines import one_chunk, values_at
from embft.clickstream.fields import Column, Kind
from embft.clickstream.quarantine import BadLine, Reason

PARQUET_MAGIC = b"PAR1"  # what a Parquet file begins with


def parquet_columns(schema: pa.Schema, columns: tuple[Column, ...]) -> dict[str, str]:
    """Find the file's columns by their whole path, or by its first key.

    Raises:
        BadLine: There is no column that tells the time, or there are two of one name.
    """
    found = {}
    for column in columns:
        for name in (column.path, column.path.split(".")[0]):
            if schema.names.count(name) > 1:
                detail = f"the object has {schema.names.count(name)} columns {name}; write each column once"
                raise BadLine(Reason.DUPLICATE_KEY, detail)
            if name in schema.names:
                found[column.name] = name
                break
    if "time" not in found:
        path = next(it.path for it in columns if it.name == "time")
        detail = f"the object has no column {path}, only {', '.join(schema.names)[:200]}; see logs.fields.time"
        raise BadLine(Reason.COLUMN_MISSING, detail)
    return found


def is_valid(batch: pa.RecordBatch) -> bool:
    """Whether all its texts are UTF-8, which Parquet asks for and Arrow does not look at."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def typed_columns(table: pa.Table, columns: tuple[Column, ...]) -> pa.Table | None:
    """Give each field the column that holds it, cast to what converters take; None where one cannot be."""
    found = {}
    for column in columns:
        if column.path in table.column_names:
            values = one_chunk(table[column.path])
        elif column.path.split(".")[0] in table.column_names:
            try:
                values = values_at(table, column.path)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError):
                return None
        else:
            values = pa.nulls(table.num_rows)
        values = _familiar(values, column.kind)
        if values is None:
            return None
        found[column.name] = values
    return pa.table(found)


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    """Give a row as the line of JSON it might have been: no NaN, and a dotted name as a path."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        *parents, leaf = name.split(".")
        node = found
        for key in parents:
            if not isinstance(node.get(key), dict):
                node[key] = {}
            node = node[key]
        node[leaf] = _without_nan(value)
    return found


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(it) for name, it in value.items()}
    if isinstance(value, list):
        return [_without_nan(it) for it in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _familiar(values: pa.Array, kind: Kind) -> pa.Array | None:
    """Cast large, dictionary-encoded and narrow types to those that JSON gives."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    type_ = values.type
    if pa.types.is_null(type_) or (kind is Kind.TIME and pa.types.is_timestamp(type_)):
        return values
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        within = type_.value_type.value_type if pa.types.is_dictionary(type_.value_type) else type_.value_type
        # Arrow would write numbers and times out as texts.
        if kind not in (Kind.IDS, Kind.LIST) or not (
            pa.types.is_integer(within) or pa.types.is_null(within) or _is_text(within)
        ):
            return None
        return _cast(values, pa.list_(pa.int64() if pa.types.is_integer(within) else pa.string()))
    if pa.types.is_integer(type_):
        wanted = pa.float64() if kind is Kind.SECONDS else pa.int64()
        return _cast(values, wanted) if kind not in (Kind.QUERY, Kind.TEXT, Kind.LIST) else None
    if pa.types.is_floating(type_):
        # Where a whole number may be missing, pandas writes floats, and NaN for what is missing.
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, type_), values)
        wanted = pa.int64() if kind is Kind.POSITION else pa.float64()
        return _cast(values, wanted) if kind in (Kind.TIME, Kind.SECONDS, Kind.POSITION) else None
    return (
        _cast(values, pa.string()) if _is_text(type_) and kind not in (Kind.POSITION, Kind.SECONDS, Kind.LIST) else None
    )


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def _cast(values: pa.Array, type_: pa.DataType) -> pa.Array | None:
    try:
        return values.cast(type_)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
