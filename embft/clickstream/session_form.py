"""Logs of searches: one search a line."""

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embft.clickstream.columns import Converted
from embft.clickstream.days import Day, Role
from embft.clickstream.quarantine import BadLine, Reason
from embft.clickstream.records import (
    CLOCK,
    Filtered,
    Judged,
    any_doubtful,
    check_day,
    check_source,
    check_time,
    conclude,
    is_null,
    source_rules,
    values_of,
)
from embft.clickstream.sources import PRIVATE_QUERY, SourceRules
from embft.log_config import FORMAT_FIELDS, Logs


class SessionForm:
    """One search a line.

    Args:
        logs: Field names.
        day: The day that is read.
        rules: Judges user agents and addresses.
    """

    schema = pa.schema(
        [
            ("session_id", pa.string()),
            ("time_us", CLOCK),
            ("client", pa.string()),
            ("query", pa.string()),
            ("shown", pa.list_(pa.string())),
            ("clicked", pa.list_(pa.string())),
        ]
    )

    def __init__(self, logs: Logs, day: Day, rules: SourceRules) -> None:
        self._logs, self._day, self._rules = logs, day, rules

    def judge(self, read: Callable[[str], Any], role: Role) -> dict[str, Any]:
        """Judge one line.

        Args:
            read: Field → value as `Fields.read` gives it; None for a field that the log has not.
            role: Of the line's object.

        Returns:
            The record.

        Raises:
            BadLine: It is no session of this day.
            Filtered: A rule leaves it out.
        """
        values = {name: read(name) for name in FORMAT_FIELDS["sessions"]}
        query = values["query"]
        if query is None or (query.text is None and not query.is_private):
            _missing_query(self._logs)
        check_time(values, self._logs)
        check_source(read, self._rules)
        if query.is_private:
            raise Filtered(PRIVATE_QUERY)
        time_us = values["time"]
        check_day(time_us, self._day.end_us, self._day, role)
        record = {name: values.get(name) for name in self.schema.names}
        return record | {"time_us": time_us, "query": query.text, "clicked": values.get("clicked") or []}

    def judge_all(self, columns: dict[str, Converted], n_rows: int, role: Role) -> Judged:
        """Judge many lines.

        Args:
            columns: Field → converted column.
            n_rows: Number of lines.
            role: Of the lines' object.

        Returns:
            What becomes of each.
        """
        doubtful = any_doubtful(columns, n_rows)
        query, time = columns["query"], columns["time"]
        private = np.zeros(n_rows, np.bool_) if query.private is None else query.private
        doubtful |= is_null(time.values) | (is_null(query.values) & ~private)
        filtered = {**source_rules(columns, self._rules, n_rows), PRIVATE_QUERY: private}
        records = pa.record_batch([self._array(it, columns, n_rows) for it in self.schema], schema=self.schema)
        return conclude(records, filtered, doubtful, self._day.end_us, self._day, role)

    def _array(self, field: pa.Field, columns: dict[str, Converted], n_rows: int) -> pa.Array:
        values = values_of(columns, field.name, field.type, n_rows)
        if field.name == "clicked" and values.null_count:
            empty = pa.array([[]], field.type).take(pa.array(np.zeros(n_rows, np.int64)))
            return pc.if_else(values.is_valid(), values, empty)
        return values


def _missing_query(logs: Logs) -> NoReturn:
    field = logs.fields.query
    detail = f"the line has no {field}, or an empty one; a session needs what was searched for: see logs.fields.query"
    raise BadLine(Reason.QUERY_MISSING, detail)
