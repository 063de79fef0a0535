"""Blocks of JSON lines by Arrow: as fast as lines can be read, and sure of nothing that is not as it should be."""

import io
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
from numpy.typing import NDArray

from embft.clickstream.columns import type_of
from embft.clickstream.fields import OLD_HIT_IDS, Column
from embft.clickstream.lines import MAX_LINE_BYTES
from embft.clickstream.quarantine import BadLine
from embft.clickstream.values import json_object, value_at

_LOOKED_AT = 32  # lines that tell a column's type
_TWO_OBJECTS = re.compile(rb"\}[ \t\r]*\{")


class BlockReader:
    """Reads blocks of JSON lines by Arrow, with the types that the lines before had.

    Args:
        columns: The fields.
        is_ubi: The log is one of UBI.
    """

    def __init__(self, columns: tuple[Column, ...], is_ubi: bool) -> None:
        self._columns = columns
        shown = next((it for it in columns if it.name == "shown"), None)
        # What a log of 2024 has in place of the other.
        self._old_hit_ids = shown._replace(path=OLD_HIT_IDS, name=OLD_HIT_IDS) if shown and is_ubi else None
        self._schema: pa.Schema | None = None

    def read(self, data: bytes, starts: NDArray[np.int64]) -> pa.Table | None:
        """Read lines.

        Args:
            data: Whole lines.
            starts: Where each begins, int64 [lines].

        Returns:
            A column for each field, by its name; None where a line is not as lines should be.
        """
        n_lines = len(starts)
        if not _is_plain(data, starts):
            return None
        for schema in (self._schema, None):
            schema = schema or self._looked_up(data)
            table = None if schema is None else _arrow_table(data, schema)
            if table is not None and table.num_rows == n_lines:
                self._schema = schema
                columns = {it.name: values_at(table, it.path) for it in self._columns}
                if self._old_hit_ids and (old := values_at(table, OLD_HIT_IDS)).null_count < n_lines:
                    if columns["shown"].null_count < n_lines:
                        return None
                    columns["shown"] = old
                return pa.table(columns)
        return None

    def _looked_up(self, data: bytes) -> pa.Schema | None:
        """Choose the columns' types by some lines."""
        wanted = (*self._columns, self._old_hit_ids) if self._old_hit_ids else self._columns
        seen: dict[str, list[Any]] = {column.name: [] for column in wanted}
        lines = data.split(b"\n")
        step = max(1, len(lines) // _LOOKED_AT)
        for raw in lines[::step]:
            try:
                line = json_object(raw)
                for column in wanted:
                    if (value := value_at(line, column.path)) is not None:
                        seen[column.name].append(value)
            except BadLine:
                continue
        tree: dict[str, Any] = {}
        for column in wanted:
            *parents, leaf = column.path.split(".")
            node = tree
            for key in parents:
                node = node.setdefault(key, {})
                if not isinstance(node, dict):
                    return None
            if leaf in node and node[leaf] != type_of(column.kind, seen[column.name]):
                return None
            node[leaf] = type_of(column.kind, seen[column.name])
        return pa.schema([pa.field(name, _nested(it)) for name, it in tree.items()])


def _nested(tree: Any) -> pa.DataType:
    if not isinstance(tree, dict):
        return tree
    return pa.struct([pa.field(name, _nested(it)) for name, it in tree.items()])


def starts_of_lines(data: bytes) -> NDArray[np.int64]:
    """Say at which byte each line begins, int64 [lines]; the last one needs no line feed."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    starts = np.append(0, ends + 1)
    return starts[:-1] if data.endswith(b"\n") else starts


def _is_plain(data: bytes, starts: NDArray[np.int64]) -> bool:
    """Whether each line is one object, of valid UTF-8, without what Arrow takes and JSON does not know."""
    if int(np.diff(starts, append=len(data)).max()) > MAX_LINE_BYTES:
        return False
    if not (np.frombuffer(data, np.uint8)[starts] == ord("{")).all():
        return False
    if b"NaN" in data or b"Infinity" in data or _TWO_OBJECTS.search(data):
        return False
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _arrow_table(data: bytes, schema: pa.Schema) -> pa.Table | None:
    try:
        return pj.read_json(
            io.BytesIO(data),
            read_options=pj.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def values_at(table: pa.Table, path: str) -> pa.Array:
    """Follow a dotted path into a table's columns.

    Args:
        table: As Arrow read it.
        path: Keys, joined by dots.

    Returns:
        The values, null where the path leads nowhere.
    """
    first, *rest = path.split(".")
    values = one_chunk(table[first])
    for key in rest:
        values = pc.struct_field(values, key)
    return values


def one_chunk(values: pa.ChunkedArray) -> pa.Array:
    """Give a column as one array."""
    return values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()
