"""One object's bytes → records and what is set aside. Whatever the bytes are, nothing raises.

Most lines are as they should be: a block of them is read by Arrow at once, and judged column by column. What Arrow or
the columns are not sure of is halved until few lines are left, and those are read one by one.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embft.clickstream.arrow_lines import BlockReader, one_chunk, starts_of_lines
from embft.clickstream.columns import Columns
from embft.clickstream.days import Day, Role
from embft.clickstream.event_form import EventForm
from embft.clickstream.fields import OLD_HIT_IDS, Column, Fields, columns_of
from embft.clickstream.lines import Block, Line, read_blocks, too_long
from embft.clickstream.parquet_rows import PARQUET_MAGIC, as_json, is_valid, parquet_columns, typed_columns
from embft.clickstream.privacy import ClientHash, RawLines
from embft.clickstream.quarantine import RAW_BYTES, BadLine, Reason
from embft.clickstream.records import Filtered, Form
from embft.clickstream.session_form import SessionForm
from embft.clickstream.sources import SourceRules
from embft.clickstream.ubi import ubi_document
from embft.clickstream.values import json_object, value_at
from embft.log_config import Logs

BULK_ACTION = "bulk_action"  # a line of OpenSearch's _bulk form that says what to do with the next one

_ONE_BY_ONE = 128  # lines; so few are read faster by themselves than by Arrow, which costs milliseconds a call
_PARQUET_ROWS = 16_384


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
        form = SessionForm if logs.format == "sessions" else EventForm
        self._form: Form = form(logs, day, rules)
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
            is_parquet = file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
        if is_parquet or uri.endswith(".parquet"):
            yield from self._parse_parquet(path, role)
            return
        reader = BlockReader(self._columns, self._is_ubi)
        for block in read_blocks(path, uri):
            parsed = Parsed()
            if isinstance(block, Line):
                parsed.lines = 1
                assert block.fault is not None
                self._set_aside(parsed, block.number, block.raw, block.fault)
            else:
                self._parse_block(block, reader, role, parsed)
            yield parsed

    def _parse_block(self, block: Block, reader: BlockReader, role: Role, parsed: Parsed) -> None:
        starts = starts_of_lines(block.data)
        parsed.lines = len(starts)
        table = reader.read(block.data, starts) if len(starts) > _ONE_BY_ONE else None
        if table is not None:
            self._judge_all(table, block, block.lines, role, parsed)
        else:
            self._parse_lines(block.first, block.lines(), reader, role, parsed)

    def _parse_lines(self, first: int, lines: list[bytes], reader: BlockReader, role: Role, parsed: Parsed) -> None:
        if len(lines) <= _ONE_BY_ONE:
            self._parse_each(enumerate(lines, first), role, parsed)
            return
        half = len(lines) // 2
        for start, part in ((first, lines[:half]), (first + half, lines[half:])):
            data = b"\n".join(part) + b"\n"
            table = reader.read(data, starts_of_lines(data))
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
            column.name: self._converter.convert(one_chunk(table[column.name]), column) for column in self._columns
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
            return value_at(line, OLD_HIT_IDS)
        return value

    def _object(self, raw: bytes) -> dict[str, Any]:
        if not self._is_ubi:
            return json_object(raw)
        document = ubi_document(raw)
        if document is None:
            raise Filtered(BULK_ACTION)
        return document

    def _set_aside(self, parsed: Parsed, number: int, raw: bytes, bad: BadLine) -> None:
        # A new one: that which was raised holds on to the frames it passed, and by them to the whole line.
        parsed.bad.append((number, self._hidden.hidden(raw[:RAW_BYTES]), BadLine(bad.reason, bad.detail)))

    def _parse_parquet(self, path: Path, role: Role) -> Iterator[Parsed]:
        number = 1
        try:
            with pq.ParquetFile(path) as file:
                paths = parquet_columns(file.schema_arrow, self._columns)
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
        self._set_aside(parsed, number, PARQUET_MAGIC if raw.startswith(PARQUET_MAGIC) else raw, bad)
        return parsed

    def _parse_rows(self, batch: pa.RecordBatch, first: int, role: Role, parsed: Parsed) -> None:
        table = typed_columns(pa.table(batch), self._columns) if is_valid(batch) else None
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
                yield first + row, json.dumps(as_json(values), ensure_ascii=False, default=str).encode()
