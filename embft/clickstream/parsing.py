"""One object's bytes → records and what is set aside. Whatever the bytes are, nothing raises.

Most lines are as they should be: a block of them is read by Arrow at once, and judged column by column. What Arrow or
the columns are not sure of is halved until few lines are left, and those are read one by one.
"""

import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embft.clickstream.columns import Columns, type_of
from embft.clickstream.days import Day, Role
from embft.clickstream.fields import Column, Fields, Kind, columns_of
from embft.clickstream.lines import MAX_LINE_BYTES, Block, Line, read_blocks, too_long
from embft.clickstream.privacy import ClientHash, RawLines
from embft.clickstream.quarantine import RAW_BYTES, BadLine, Reason
from embft.clickstream.records import Filtered, Form, form_of
from embft.clickstream.sources import SourceRules
from embft.clickstream.values import json_object, value_at
from embft.log_config import Logs

BULK_ACTION = "bulk_action"  # a line of OpenSearch's _bulk form that says what to do with the next one

_ONE_BY_ONE = 128  # lines; so few are read faster by themselves than by Arrow, which costs milliseconds a call
_LOOKED_AT = 32  # lines that tell a column's type
_PARQUET_MAGIC = b"PAR1"
_PARQUET_ROWS = 16_384
_TWO_OBJECTS = re.compile(rb"\}[ \t\r]*\{")
_BULK_KEYS = {"index", "create", "update", "delete"}
_HIT_SOURCE = "_source"
_OLD_HIT_IDS = "query_response_object_ids"  # what UBI called them in 2024


@dataclass
class Parsed:
    """What some lines of one object came to.

    Args:
        records: Columns of the form's schema, and `line`.
        lines: Lines read.
        filtered: Rule → lines.
        bad: Number, bytes and fault of each line that is set aside.
    """

    records: list[pa.RecordBatch] = field(default_factory=list)
    lines: int = 0
    filtered: Counter[str] = field(default_factory=Counter)
    bad: list[tuple[int, bytes, BadLine]] = field(default_factory=list)


class ObjectParser:
    """Parses the objects of one day. Not for use by two threads at once.

    Args:
        day: The day that is read.
        logs: Format and rules.
        client_hash: Replaces client ids.
    """

    def __init__(self, day: Day, logs: Logs, client_hash: ClientHash) -> None:
        rules = SourceRules(logs)
        self._columns = columns_of(logs)
        self._by_name = {column.name: column for column in self._columns}
        self._fields = Fields(logs, client_hash, rules)
        self._converter = Columns(logs, client_hash, rules)
        self._form: Form = form_of(logs, day, rules)
        self._is_ubi = logs.format == "ubi"
        self._hidden = RawLines([logs.fields.client, logs.fields.ip, logs.fields.user_agent])
        self.schema: pa.Schema = self._form.schema.append(pa.field("line", pa.int64()))

    def parse(self, path: Path, uri: str, role: Role) -> Iterator[Parsed]:
        """Parse one object.

        Args:
            path: The downloaded object.
            uri: Where it came from.
            role: Of the object.

        Yields:
            What each few megabytes of it came to.
        """
        with path.open("rb") as file:
            is_parquet = file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC
        if is_parquet or uri.endswith(".parquet"):
            yield from self._parse_parquet(path, role)
            return
        reader = _BlockReader(self._columns, self._is_ubi)
        for block in read_blocks(path, uri):
            parsed = Parsed()
            if isinstance(block, Line):
                parsed.lines = 1
                assert block.fault is not None
                self._set_aside(parsed, block.number, block.raw, block.fault)
            else:
                self._parse_block(block, reader, role, parsed)
            yield parsed

    def _parse_block(self, block: Block, reader: "_BlockReader", role: Role, parsed: Parsed) -> None:
        starts = _starts_of_lines(block.data)
        parsed.lines = len(starts)
        table = reader.read(block.data, starts) if len(starts) > _ONE_BY_ONE else None
        if table is not None:
            self._judge_all(table, block, block.lines, role, parsed)
        else:
            self._parse_lines(block.first, block.lines(), reader, role, parsed)

    def _parse_lines(self, first: int, lines: list[bytes], reader: "_BlockReader", role: Role, parsed: Parsed) -> None:
        if len(lines) <= _ONE_BY_ONE:
            self._parse_each(enumerate(lines, first), role, parsed)
            return
        half = len(lines) // 2
        for start, part in ((first, lines[:half]), (first + half, lines[half:])):
            data = b"\n".join(part) + b"\n"
            table = reader.read(data, _starts_of_lines(data))
            if table is None:
                self._parse_lines(start, part, reader, role, parsed)
            else:
                self._judge_all(table, Block(start, data), lambda part=part: part, role, parsed)

    def _judge_all(self, table: pa.Table, block: Block, lines_of: Any, role: Role, parsed: Parsed) -> None:
        numbers = np.arange(block.first, block.first + table.num_rows)
        doubtful = self._judge_table(table, numbers, role, parsed)
        if len(doubtful):
            lines = lines_of()
            self._parse_each(((block.first + row, lines[row]) for row in doubtful.tolist()), role, parsed)

    def _judge_table(self, table: pa.Table, numbers: Any, role: Role, parsed: Parsed) -> Any:
        """Take the records that columns are sure of; give the rows that they are not."""
        converted = {
            column.name: self._converter.convert(_chunk(table[column.name]), column) for column in self._columns
        }
        judged = self._form.judge_all(converted, table.num_rows, role)
        records = judged.records.append_column("line", pa.array(numbers, pa.int64()))
        parsed.records.append(records if judged.kept.all() else records.filter(pa.array(judged.kept)))
        for rule, mask in judged.filtered.items():
            if n_lines := int(mask.sum()):
                parsed.filtered[rule] += n_lines
        return np.flatnonzero(judged.doubtful)

    def _parse_each(self, lines: Any, role: Role, parsed: Parsed) -> None:
        rows = []
        for number, raw in lines:
            try:
                if fault := too_long(raw):
                    raise fault
                rows.append({**self._judge(self._object(raw), role), "line": number})
            except Filtered as left_out:
                parsed.filtered[left_out.rule] += 1
            except BadLine as bad:
                self._set_aside(parsed, number, raw, bad)
        if rows:
            parsed.records.append(pa.RecordBatch.from_pylist(rows, self.schema))

    def _judge(self, line: dict[str, Any], role: Role) -> dict[str, Any]:
        def read(name: str) -> Any:
            column = self._by_name.get(name)
            return None if column is None else self._fields.read(self._value(line, column), column)

        return self._form.judge(read, role)

    def _value(self, line: dict[str, Any], column: Column) -> Any:
        value = value_at(line, column.path)
        if value is None and self._is_ubi and column.name == "shown":
            return value_at(line, _OLD_HIT_IDS)
        return value

    def _object(self, raw: bytes) -> dict[str, Any]:
        if self._is_ubi and raw.startswith(b"ubi_"):
            # The exports of 2024: index, tab, document.
            raw = raw.partition(b"\t")[2] or raw
        line = json_object(raw)
        if self._is_ubi:
            if len(line) == 1 and _BULK_KEYS & line.keys():
                raise Filtered(BULK_ACTION)
            if isinstance(line.get(_HIT_SOURCE), dict):
                return dict(line[_HIT_SOURCE])
        return line

    def _set_aside(self, parsed: Parsed, number: int, raw: bytes, bad: BadLine) -> None:
        # A new one: that which was raised holds on to the frames it passed, and by them to the whole line.
        parsed.bad.append((number, self._hidden.hidden(raw[:RAW_BYTES]), BadLine(bad.reason, bad.detail)))

    def _parse_parquet(self, path: Path, role: Role) -> Iterator[Parsed]:
        number = 1
        try:
            with pq.ParquetFile(path) as file:
                paths = _parquet_columns(file.schema_arrow, self._columns)
                for batch in file.iter_batches(_PARQUET_ROWS, columns=sorted(set(paths.values()))):
                    parsed = Parsed(lines=batch.num_rows)
                    self._parse_rows(batch, number, role, parsed)
                    number += batch.num_rows
                    yield parsed
        except BadLine as bad:
            yield self._lost(number, path, bad)
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            detail = f"the Parquet object cannot be read from here on ({str(error)[:150]}); deliver it again"
            yield self._lost(number, path, BadLine(Reason.CORRUPT_PARQUET, detail))

    def _lost(self, number: int, path: Path, bad: BadLine) -> Parsed:
        parsed = Parsed(lines=1)
        with path.open("rb") as file:
            raw = file.read(RAW_BYTES)
        # Of a Parquet file that is one no more than that it is: who searched stands in it in a form of its own.
        self._set_aside(parsed, number, _PARQUET_MAGIC if raw.startswith(_PARQUET_MAGIC) else raw, bad)
        return parsed

    def _parse_rows(self, batch: pa.RecordBatch, first: int, role: Role, parsed: Parsed) -> None:
        table = _typed_columns(pa.table(batch), self._columns) if _is_valid(batch) else None
        if table is None:
            doubtful = np.arange(batch.num_rows)
        else:
            doubtful = self._judge_table(table, np.arange(first, first + batch.num_rows), role, parsed)
        self._parse_each(self._raw_rows(batch, doubtful.tolist(), first, parsed), role, parsed)

    def _raw_rows(
        self, batch: pa.RecordBatch, rows: list[int], first: int, parsed: Parsed
    ) -> Iterator[tuple[int, bytes]]:
        """Give rows as lines of JSON; sets aside those that hold what Python cannot."""
        for row in rows:
            try:
                # Not `take`, which knows no string_view.
                (values,) = batch.slice(row, 1).to_pylist()
            except UnicodeDecodeError as error:
                detail = f"a text of the row is not UTF-8 ({error.reason}); write logs as UTF-8"
                self._set_aside(parsed, first + row, b"", BadLine(Reason.NOT_UTF8, detail))
            except (ValueError, OverflowError):
                detail = "a time of the row lies beyond the years 1 to 9999; look at the unit it was written in"
                self._set_aside(parsed, first + row, b"", BadLine(Reason.TIME_UNREADABLE, detail))
            else:
                yield first + row, json.dumps(_as_json(values), ensure_ascii=False, default=str).encode()


class _BlockReader:
    """Reads blocks of JSON lines by Arrow, with the types that the lines before had."""

    def __init__(self, columns: tuple[Column, ...], is_ubi: bool) -> None:
        self._columns = columns
        shown = next((it for it in columns if it.name == "shown"), None)
        # What a log of 2024 has in place of the other.
        self._old_hit_ids = shown._replace(path=_OLD_HIT_IDS, name=_OLD_HIT_IDS) if shown and is_ubi else None
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
                columns = {it.name: _at(table, it.path) for it in self._columns}
                if self._old_hit_ids and (old := _at(table, _OLD_HIT_IDS)).null_count < n_lines:
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


def _starts_of_lines(data: bytes) -> NDArray[np.int64]:
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


def _at(table: pa.Table, path: str) -> pa.Array:
    first, *rest = path.split(".")
    values = _chunk(table[first])
    for key in rest:
        values = pc.struct_field(values, key)
    return values


def _chunk(values: pa.ChunkedArray) -> pa.Array:
    return values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()


def _parquet_columns(schema: pa.Schema, columns: tuple[Column, ...]) -> dict[str, str]:
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


def _is_valid(batch: pa.RecordBatch) -> bool:
    """Whether all its texts are UTF-8, which Parquet asks for and Arrow does not look at."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _typed_columns(table: pa.Table, columns: tuple[Column, ...]) -> pa.Table | None:
    """Give each field the column that holds it, cast to what converters take; None where one cannot be."""
    found = {}
    for column in columns:
        if column.path in table.column_names:
            values = _chunk(table[column.path])
        elif column.path.split(".")[0] in table.column_names:
            try:
                values = _at(table, column.path)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError):
                return None
        else:
            values = pa.nulls(table.num_rows)
        values = _familiar(values, column.kind)
        if values is None:
            return None
        found[column.name] = values
    return pa.table(found)


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
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
