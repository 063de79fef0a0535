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


def refuse_other_day(time_us: int, day: Day) -> NoReturn:
    """Refuse a line of a day that its object does not belong to.

    Raises:
        BadLine: Always.
    """
    try:
        time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
        when = f"{time.isoformat()} is on {time.astimezone(ZoneInfo(day.zone)).date()} in {day.zone}"
    except OverflowError:  # at the ends of the calendar, centuries from any log
        when = f"{time_us} microseconds since 1970 is no time of any log"
    settled = "" if day.settled_us == day.end_us else " and logs.settle_hours"
    detail = f"{when}, but these are the objects of {day.calendar_day}; see logs.timezone{settled} in the config"
    raise BadLine(Reason.OTHER_DAY, detail)


def values_of(columns: dict[str, Converted], name: str, kind: pa.DataType, n_rows: int) -> pa.Array:
    """Give a field's column as records have it; nulls where the log has no such field."""
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


def exclusive(masks: dict[str, Mask], taken: Mask) -> dict[str, Mask]:
    """Give each row to the first rule that it breaks; rows that are taken to none."""
    taken = taken.copy()
    found = {}
    for rule, mask in masks.items():
        found[rule] = mask & ~taken
        taken |= mask
    return found


def union_of(masks: dict[str, Mask], n_rows: int) -> Mask:
    """Say which rows any of some rules takes, bool [rows]."""
    union = np.zeros(n_rows, np.bool_)
    for mask in masks.values():
        union |= mask
    return union
