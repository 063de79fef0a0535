"""Logs of events: one search, impression, click, add-to-cart or purchase a line."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embft.clickstream.columns import Converted, Mask
from embft.clickstream.days import Day, Role
from embft.clickstream.quarantine import BadLine, Reason
from embft.clickstream.records import (
    CLOCK,
    NO_ITEM,
    OTHER_ACTION,
    PRIVATE,
    Filtered,
    Judged,
    Kind,
    any_doubtful,
    check_day,
    check_source,
    check_time,
    conclude,
    is_null,
    source_rules,
    values_of,
)
from embft.clickstream.sources import SourceRules
from embft.log_config import FORMAT_FIELDS, Logs


class EventForm:
    """One event of a search a line.

    Args:
        logs: Field names and actions.
        day: The day that is read.
        rules: Judges user agents and addresses.
    """

    schema = pa.schema(
        [
            ("kind", pa.int8()),
            ("search_id", pa.string()),
            ("event_id", pa.string()),
            ("time_us", CLOCK),
            ("client", pa.string()),
            ("query", pa.string()),
            ("item", pa.string()),
            ("position", pa.int32()),
            ("shown", pa.list_(pa.string())),
            ("dwell_s", pa.float32()),
        ]
    )

    def __init__(self, logs: Logs, day: Day, rules: SourceRules) -> None:
        self._logs, self._day, self._rules = logs, day, rules
        self._kinds = {name: Kind[action.upper()] for action, names in logs.actions.items() for name in names}
        # What has no action in UBI is a document of ubi_queries: the search itself.
        self._is_search_without_action = logs.format == "ubi"

    def judge(self, read: Callable[[str], Any], role: Role) -> dict[str, Any]:
        """Judge one line; as for `SessionForm`.

        Args:
            read: Field → value as `Fields.read` gives it; None for a field that the log has not.
            role: Of the line's object.

        Returns:
            The record.

        Raises:
            BadLine: It is no event of this day.
            Filtered: A rule leaves it out.
        """
        # First: of an action that tells nothing of a search, the other fields may hold anything.
        kind = self._kind_of(read("action"))
        values = {name: read(name) for name in (*FORMAT_FIELDS["events"], "dwell_s") if name != "action"}
        check_time(values, self._logs)
        self._check_joinable(values)
        check_source(read, self._rules)
        if kind is not Kind.SEARCH and values.get("item") is None:
            raise Filtered(NO_ITEM)
        time_us = values["time"]
        check_day(time_us, self._day.settled_us, self._day, role)
        record = {name: values.get(name) for name in self.schema.names}
        query = values["query"]
        # A private query stays, hidden: left out alone, its clicks would be taken for those of the search before.
        text = None if query is None else PRIVATE if query.is_private else query.text
        return record | {"kind": int(kind), "time_us": time_us, "query": text}

    def judge_all(self, columns: dict[str, Converted], n_rows: int, role: Role) -> Judged:
        """Judge many lines; as for `SessionForm`.

        Args:
            columns: Field → converted column.
            n_rows: Number of lines.
            role: Of the lines' object.

        Returns:
            What becomes of each.
        """
        kinds, unknown, missing = self._all_kinds(values_of(columns, "action", pa.string(), n_rows))
        doubtful = any_doubtful({name: it for name, it in columns.items() if name != "action"}, n_rows) | missing
        time = columns["time"]
        search_id, client = (is_null(values_of(columns, name, pa.string(), n_rows)) for name in ("search_id", "client"))
        doubtful |= is_null(time.values) | (search_id & client)
        doubtful &= ~unknown
        filtered = {
            OTHER_ACTION: unknown,
            **source_rules(columns, self._rules, n_rows),
            NO_ITEM: (kinds != Kind.SEARCH) & is_null(values_of(columns, "item", pa.string(), n_rows)),
        }
        arrays = [
            pa.array(kinds, pa.int8())
            if field.name == "kind"
            else self._queries(columns["query"], n_rows)
            if field.name == "query"
            else values_of(columns, field.name, field.type, n_rows)
            for field in self.schema
        ]
        records = pa.record_batch(arrays, schema=self.schema)
        return conclude(records, filtered, doubtful, self._day.settled_us, self._day, role)

    @staticmethod
    def _queries(query: Converted, n_rows: int) -> pa.Array:
        texts = query.values.cast(pa.string())
        return texts if query.private is None else pc.if_else(pa.array(query.private), PRIVATE, texts)

    def _kind_of(self, action: str | None) -> Kind:
        if action is None:
            if self._is_search_without_action:
                return Kind.SEARCH
            detail = f"the line has no {self._logs.fields.action}; see logs.fields.action in the config"
            raise BadLine(Reason.ACTION_MISSING, detail)
        if action not in self._kinds:
            raise Filtered(OTHER_ACTION)
        return self._kinds[action]

    def _all_kinds(self, actions: pa.Array) -> tuple[np.ndarray[Any, np.dtype[np.int8]], Mask, Mask]:
        """Give the kind of each row, the rows of unknown actions, and those that must have one and have none."""
        encoded = actions.dictionary_encode()
        known = pa.array([self._kinds.get(it) for it in encoded.dictionary.to_pylist()], pa.int8())
        found = known.take(encoded.indices)
        absent = is_null(actions)
        unknown = is_null(found) & ~absent
        kinds = found.fill_null(int(Kind.SEARCH)).to_numpy(zero_copy_only=False)
        missing = np.zeros(len(actions), np.bool_) if self._is_search_without_action else absent
        return kinds, unknown, missing

    def _check_joinable(self, values: dict[str, Any]) -> None:
        if values.get("search_id") is None and values.get("client") is None:
            fields = self._logs.fields
            names = " nor ".join(filter(None, (fields.search_id, fields.client)))
            detail = f"the event has neither {names}, so it belongs to no search; see logs.fields in the config"
            raise BadLine(Reason.SEARCH_ID_MISSING, detail)
