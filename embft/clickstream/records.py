"""Records: what a line says, in one form for all logs. A record is a whole search, or one event of a search.

Each form knows how to judge a line that was read by itself, and how to judge many at once. Both say the same: `judge`
is the definition, `judge_all` leaves to it whatever it is not sure of.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from embft.clickstream.columns import Converted, Mask
from embft.clickstream.days import Day, Role
from embft.clickstream.quarantine import BadLine, Reason
from embft.clickstream.sources import INTERNAL_IP, USER_AGENT, SourceRules
from embft.log_config import Logs

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


CLOCK = pa.int64()  # microseconds since 1970: what sorts and compares fastest


def check_time(values: dict[str, Any], logs: Logs) -> None:
    """Refuse a line without a time.

    Raises:
        BadLine: It has none.
    """
    if values.get("time") is None:
        raise BadLine(Reason.TIME_MISSING, f"the line has no {logs.fields.time}; see logs.fields.time in the config")


def check_source(read: Callable[[str], Any], rules: SourceRules) -> None:
    """Leave out robots and our own people.

    Raises:
        Filtered: The line comes from one of them.
    """
    if rules.is_robot(read("user_agent")):
        raise Filtered(USER_AGENT)
    if rules.is_internal(read("ip")):
        raise Filtered(INTERNAL_IP)


def check_day(time_us: int, end_us: int, day: Day, role: Role) -> None:
    """Refuse a line of another day, unless that day looks for it in this object.

    Args:
        time_us: The line's, microseconds since 1970.
        end_us: When lines of the day end.
        day: The day that is read.
        role: Of the line's object.

    Raises:
        BadLine: The object should not hold it.
        Filtered: Another day's own pull finds it here.
    """
    if day.start_us <= time_us < end_us:
        return
    if role.may_hold(is_before=time_us < day.start_us):
        raise Filtered(OTHER_DAY)
    try:
        time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
        when = f"{time.isoformat()} is on {time.astimezone(ZoneInfo(day.zone)).date()} in {day.zone}"
    except OverflowError:  # at the ends of the calendar, centuries from any log
        when = f"{time_us} microseconds since 1970 is no time of any log"
    settled = "" if day.settled_us == day.end_us else " and logs.settle_hours"
    detail = f"{when}, but these are the objects of {day.calendar_day}; see logs.timezone{settled} in the config"
    raise BadLine(Reason.OTHER_DAY, detail)


def conclude(
    records: pa.RecordBatch, filtered: dict[str, Mask], doubtful: Mask, end_us: int, day: Day, role: Role
) -> Judged:
    """Place many lines on the day, after all other rules.

    Args:
        records: All rows, with their time.
        filtered: Rule → rows that break it, the first rule first.
        doubtful: Rows to be judged one by one.
        end_us: When lines of the day end.
        day: The day that is read.
        role: Of the lines' object.

    Returns:
        What becomes of each.
    """
    times = records["time_us"].fill_null(0).to_numpy(zero_copy_only=False)
    before, after = times < day.start_us, times >= end_us
    filtered = _exclusive({**filtered, OTHER_DAY: before | after}, doubtful)
    expected = (before & role.may_hold(is_before=True)) | (after & role.may_hold(is_before=False))
    doubtful = doubtful | (filtered[OTHER_DAY] & ~expected)
    filtered[OTHER_DAY] &= expected
    kept = ~doubtful
    for mask in filtered.values():
        kept &= ~mask
    return Judged(records, kept, filtered, doubtful)


def values_of(columns: dict[str, Converted], name: str, kind: pa.DataType, n_rows: int) -> pa.Array:
    """Give a field's column as records have it, by its name there; nulls where the log has no such field."""
    name = "time" if name == "time_us" else name
    if name not in columns:
        return pa.nulls(n_rows, kind)
    values = columns[name].values
    return values if values.type == kind else values.cast(kind)


def is_null(values: pa.Array) -> Mask:
    """Say which rows are null, bool [rows]."""
    mask: Mask = values.is_null().to_numpy(zero_copy_only=False)
    return mask


def any_doubtful(columns: dict[str, Converted], n_rows: int) -> Mask:
    """Say which rows are doubtful in any of some columns, bool [rows]."""
    doubtful = np.zeros(n_rows, np.bool_)
    for column in columns.values():
        doubtful |= column.doubtful
    return doubtful


def source_rules(columns: dict[str, Converted], rules: SourceRules, n_rows: int) -> dict[str, Mask]:
    """Say which rows come from robots and from our own people: rule → bool [rows]."""
    judges = {USER_AGENT: ("user_agent", rules.is_robot), INTERNAL_IP: ("ip", rules.is_internal)}
    found = {}
    for rule, (name, judge) in judges.items():
        if name in columns:
            encoded = values_of(columns, name, pa.string(), n_rows).dictionary_encode()
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
