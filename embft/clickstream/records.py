"""Records: what a line says, in one form for all logs. A record is a whole search, or one event of a search.

Each form knows how to judge a line that was read by itself, and how to judge many at once. Both say the same: `judge`
is the definition, `judge_all` leaves to it whatever it is not sure of.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, NoReturn, Protocol
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embft.clickstream.columns import Converted, Mask
from embft.clickstream.days import Day, Role
from embft.clickstream.quarantine import BadLine, Reason
from embft.clickstream.sources import INTERNAL_IP, PRIVATE_QUERY, USER_AGENT, SourceRules
from embft.log_config import FORMAT_FIELDS, Logs

PRIVATE = ""  # a private query: no other is empty
OTHER_DAY = "other_day"
OTHER_ACTION = "other_action"
NO_ITEM = "no_item"


class Kind(int, Enum):
    """What an event is; of what was done to an item, the greater is the stronger."""

    SEARCH = 0
    IMPRESSION = 1
    CLICK = 2
    ADD_TO_CART = 3
    PURCHASE = 4


class Filtered(Exception):
    """A line is left out by a rule. Caught by the reader of the object, never by a user.

    Args:
        rule: Its name.
    """

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


@dataclass(frozen=True)
class Judged:
    """Lines that were judged at once.

    Args:
        records: Columns of the form's schema, all rows.
        kept: Rows that are records, bool [rows].
        filtered: Rule → rows that it leaves out; no row is of two rules.
        doubtful: Rows to be judged one by one.
    """

    records: pa.RecordBatch
    kept: Mask
    filtered: dict[str, Mask]
    doubtful: Mask


class Form(Protocol):
    """Lines of one kind of log."""

    schema: pa.Schema

    def judge(self, read: Callable[[str], Any], role: Role) -> dict[str, Any]:
        """Give a line's record; raises `BadLine` or `Filtered`."""

    def judge_all(self, columns: dict[str, Converted], n_rows: int, role: Role) -> Judged:
        """Judge many lines."""


_CLOCK = pa.int64()  # microseconds since 1970: what sorts and compares fastest


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
            ("time_us", _CLOCK),
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
        _required_time(values, self._logs)
        _check_source(read, self._rules)
        if query.is_private:
            raise Filtered(PRIVATE_QUERY)
        time_us = values["time"]
        if not self._day.has(time_us):
            if role.may_hold(self._day.is_before(time_us)):
                raise Filtered(OTHER_DAY)
            _other_day(time_us, self._day)
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
        doubtful = _any_doubtful(columns, n_rows)
        query, time = columns["query"], columns["time"]
        private = _private(query, n_rows)
        doubtful |= _null(time.values) | (_null(query.values) & ~private)
        sources = _source_rules(columns, self._rules, n_rows)
        times = time.values.fill_null(0).to_numpy(zero_copy_only=False)
        within = (times >= self._day.start_us) & (times < self._day.end_us)
        filtered = _exclusive({**sources, PRIVATE_QUERY: private, OTHER_DAY: ~within}, doubtful)
        # Whether it may lie on another day is asked of each line: those are few.
        doubtful |= filtered.pop(OTHER_DAY)
        arrays = [self._array(field, columns, n_rows) for field in self.schema]
        kept = ~(doubtful | _union(filtered, n_rows))
        return Judged(pa.record_batch(arrays, schema=self.schema), kept, filtered, doubtful)

    def _array(self, field: pa.Field, columns: dict[str, Converted], n_rows: int) -> pa.Array:
        values = _values(columns, {"time_us": "time"}.get(field.name, field.name), field.type, n_rows)
        if field.name == "clicked" and values.null_count:
            empty = pa.array([[]], field.type).take(pa.array(np.zeros(n_rows, np.int64)))
            return pc.if_else(values.is_valid(), values, empty)
        return values


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
            ("time_us", _CLOCK),
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
        _required_time(values, self._logs)
        self._check_joinable(values)
        _check_source(read, self._rules)
        if kind is not Kind.SEARCH and values.get("item") is None:
            raise Filtered(NO_ITEM)
        time_us = values["time"]
        if not self._day.settles(time_us):
            if role.may_hold(self._day.is_before(time_us)):
                raise Filtered(OTHER_DAY)
            _other_day(time_us, self._day)
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
        kinds, unknown, missing = self._all_kinds(_values(columns, "action", pa.string(), n_rows))
        doubtful = _any_doubtful({name: it for name, it in columns.items() if name != "action"}, n_rows) | missing
        time = columns["time"]
        search_id, client = (_null(_values(columns, name, pa.string(), n_rows)) for name in ("search_id", "client"))
        doubtful |= _null(time.values) | (search_id & client)
        doubtful &= ~unknown
        filtered = {
            OTHER_ACTION: unknown,
            **_source_rules(columns, self._rules, n_rows),
            NO_ITEM: (kinds != Kind.SEARCH) & _null(_values(columns, "item", pa.string(), n_rows)),
        }
        times = time.values.fill_null(0).to_numpy(zero_copy_only=False)
        within = (times >= self._day.start_us) & (times < self._day.settled_us)
        filtered = _exclusive({**filtered, OTHER_DAY: ~within}, doubtful)
        doubtful |= filtered.pop(OTHER_DAY)
        arrays = [
            pa.array(kinds, pa.int8())
            if field.name == "kind"
            else self._queries(columns["query"], n_rows)
            if field.name == "query"
            else _values(columns, {"time_us": "time"}.get(field.name, field.name), field.type, n_rows)
            for field in self.schema
        ]
        kept = ~(doubtful | _union(filtered, n_rows))
        return Judged(pa.record_batch(arrays, schema=self.schema), kept, filtered, doubtful)

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
        absent = _null(actions)
        unknown = _null(found) & ~absent
        kinds = found.fill_null(int(Kind.SEARCH)).to_numpy(zero_copy_only=False)
        missing = np.zeros(len(actions), np.bool_) if self._is_search_without_action else absent
        return kinds, unknown, missing

    def _check_joinable(self, values: dict[str, Any]) -> None:
        if values.get("search_id") is None and values.get("client") is None:
            fields = self._logs.fields
            names = " nor ".join(filter(None, (fields.search_id, fields.client)))
            detail = f"the event has neither {names}, so it belongs to no search; see logs.fields in the config"
            raise BadLine(Reason.SEARCH_ID_MISSING, detail)


def _missing_query(logs: Logs) -> NoReturn:
    field = logs.fields.query
    detail = f"the line has no {field}, or an empty one; a session needs what was searched for: see logs.fields.query"
    raise BadLine(Reason.QUERY_MISSING, detail)


def _required_time(values: dict[str, Any], logs: Logs) -> None:
    if values.get("time") is None:
        raise BadLine(Reason.TIME_MISSING, f"the line has no {logs.fields.time}; see logs.fields.time in the config")


def _check_source(read: Callable[[str], Any], rules: SourceRules) -> None:
    if rules.is_robot(read("user_agent")):
        raise Filtered(USER_AGENT)
    if rules.is_internal(read("ip")):
        raise Filtered(INTERNAL_IP)


def _other_day(time_us: int, day: Day) -> NoReturn:
    try:
        time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
        when = f"{time.isoformat()} is on {time.astimezone(ZoneInfo(day.zone)).date()} in {day.zone}"
    except OverflowError:  # at the ends of the calendar, centuries from any log
        when = f"{time_us} microseconds since 1970 is no time of any log"
    settled = "" if day.settled_us == day.end_us else " and logs.settle_hours"
    detail = f"{when}, but these are the objects of {day.calendar_day}; see logs.timezone{settled} in the config"
    raise BadLine(Reason.OTHER_DAY, detail)


def _values(columns: dict[str, Converted], name: str, kind: pa.DataType, n_rows: int) -> pa.Array:
    if name not in columns:
        return pa.nulls(n_rows, kind)
    values = columns[name].values
    return values if values.type == kind else values.cast(kind)


def _null(values: pa.Array) -> Mask:
    mask: Mask = values.is_null().to_numpy(zero_copy_only=False)
    return mask


def _private(query: Converted, n_rows: int) -> Mask:
    return np.zeros(n_rows, np.bool_) if query.private is None else query.private


def _any_doubtful(columns: dict[str, Converted], n_rows: int) -> Mask:
    doubtful = np.zeros(n_rows, np.bool_)
    for column in columns.values():
        doubtful |= column.doubtful
    return doubtful


def _source_rules(columns: dict[str, Converted], rules: SourceRules, n_rows: int) -> dict[str, Mask]:
    judges = {USER_AGENT: ("user_agent", rules.is_robot), INTERNAL_IP: ("ip", rules.is_internal)}
    found = {}
    for rule, (name, judge) in judges.items():
        if name in columns:
            encoded = _values(columns, name, pa.string(), n_rows).dictionary_encode()
            judged = pa.array([judge(it) for it in encoded.dictionary.to_pylist()], pa.bool_()).take(encoded.indices)
            found[rule] = judged.fill_null(False).to_numpy(zero_copy_only=False)
    return found


def _exclusive(masks: dict[str, Mask], taken: Mask) -> dict[str, Mask]:
    """Give each row to the first rule that it breaks; rows that are taken to none."""
    taken = taken.copy()
    found = {}
    for rule, mask in masks.items():
        found[rule] = mask & ~taken
        taken |= mask
    return found


def _union(masks: dict[str, Mask], n_rows: int) -> Mask:
    union = np.zeros(n_rows, np.bool_)
    for mask in masks.values():
        union |= mask
    return union


def form_of(logs: Logs, day: Day, rules: SourceRules) -> Form:
    """Give the form of a log's lines.

    Args:
        logs: Its format.
        day: The day that is read.
        rules: Judges user agents and addresses.

    Returns:
        The form.
    """
    return SessionForm(logs, day, rules) if logs.format == "sessions" else EventForm(logs, day, rules)
