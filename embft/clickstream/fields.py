"""The fields of a log line: one value by itself, as the log has it → as a record has it, or the reason why not.

This is what a field means. `embft.clickstream.columns` does the same for whole columns at once, and leaves to this
module every value that it is not sure of.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from embft.clickstream.privacy import ClientHash
from embft.clickstream.quarantine import BadLine, Reason, describe
from embft.clickstream.sources import SourceRules
from embft.clickstream.times import microseconds, parse_time
from embft.clickstream.values import item_id, item_ids, whole_characters
from embft.log_config import Logs

OLD_HIT_IDS = "query_response_object_ids"  # what UBI of 2024 has in place of query_response_hit_ids
MAX_RESULTS = 1000
MAX_POSITION = 1_000_000
MAX_SECONDS = 1e9  # three decades

_PERSONAL = ("client", "ip", "user_agent")


class Kind(Enum):
    """What a field holds."""

    QUERY = "query"
    TIME = "time"
    ID = "id"
    IDS = "ids"  # a list of ids, or a single one
    LIST = "list"  # a list of ids
    CLIENT = "client"
    TEXT = "text"
    POSITION = "position"
    SECONDS = "seconds"


class Column(NamedTuple):
    """One field of a line.

    Args:
        name: In `LogFields`, and in the record.
        path: Where the line has it.
        kind: What it holds.
        reason: What to call its fault.
    """

    name: str
    path: str
    kind: Kind
    reason: Reason


_KINDS = {
    "query": (Kind.QUERY, Reason.QUERY_TYPE),
    "time": (Kind.TIME, Reason.TIME_UNREADABLE),
    "client": (Kind.CLIENT, Reason.CLIENT_TYPE),
    "shown": (Kind.LIST, Reason.SHOWN_TYPE),
    "clicked": (Kind.IDS, Reason.CLICKED_TYPE),
    "session_id": (Kind.ID, Reason.SESSION_ID_TYPE),
    "action": (Kind.TEXT, Reason.ACTION_TYPE),
    "item": (Kind.ID, Reason.ITEM_TYPE),
    "position": (Kind.POSITION, Reason.POSITION_TYPE),
    "search_id": (Kind.ID, Reason.SEARCH_ID_TYPE),
    "event_id": (Kind.ID, Reason.EVENT_ID_TYPE),
    "dwell_s": (Kind.SECONDS, Reason.DWELL_TYPE),
    "user_agent": (Kind.TEXT, Reason.TEXT_FIELD_TYPE),
    "ip": (Kind.TEXT, Reason.TEXT_FIELD_TYPE),
}


def columns_of(logs: Logs) -> tuple[Column, ...]:
    """Name the fields that a log has.

    Args:
        logs: Format and field names.

    Returns:
        One column for each field that is not null.
    """
    return tuple(Column(name, path, *_KINDS[name]) for name, path in logs.fields if path is not None)


class Fields:
    """Reads single values.

    Args:
        logs: Time zone and rules.
        client_hash: Replaces client ids.
        rules: Judges queries.
    """

    def __init__(self, logs: Logs, client_hash: ClientHash, rules: SourceRules) -> None:
        self._zone = ZoneInfo(logs.timezone)
        self._readers: dict[Kind, Callable[[Any, Column], Any]] = {
            Kind.QUERY: lambda value, column: rules.query(_text(value, column)),
            Kind.TIME: lambda value, column: microseconds(parse_time(value, self._zone, column.path)),
            Kind.ID: lambda value, column: item_id(value, column.path, column.reason),
            Kind.IDS: _ids,
            Kind.LIST: _listed,
            Kind.CLIENT: lambda value, column: client_hash.of([item_id(value, column.path, column.reason)])[0],
            Kind.TEXT: _text,
            Kind.POSITION: _position,
            Kind.SECONDS: _seconds,
        }

    def read(self, value: Any, column: Column) -> Any:
        """Read one value.

        Args:
            value: As found; None where the line has none.
            column: Which field it is.

        Returns:
            Text, ids, microseconds since 1970, a whole number or seconds by the column's kind; for a query what
            `SourceRules.query` gives; None for None.

        Raises:
            BadLine: It is not what the field holds.
        """
        if value is None:
            return None
        try:
            return self._readers[column.kind](value, column)
        except BadLine as bad:
            if column.name not in _PERSONAL:
                raise
            expected = "an id: a text that is not empty, or a whole number" if column.kind is Kind.CLIENT else "a text"
            detail = f"{column.path} holds something else than {expected}; it is not shown, for it tells who searched"
            raise BadLine(bad.reason, detail) from None


def _text(value: Any, column: Column) -> str:
    if type(value) is not str:
        raise BadLine(column.reason, f"{column.path} holds {describe(value)}; expected a text")
    return value if value.isascii() else whole_characters(value, column.path)


def _ids(value: Any, column: Column) -> list[str]:
    return _not_too_many(item_ids(value, column.path, column.reason), column.path)


def _listed(value: Any, column: Column) -> list[str]:
    if type(value) is not list:
        raise BadLine(column.reason, f"{column.path} holds {describe(value)}; expected a list of ids, or null")
    return _ids(value, column)


def _not_too_many(ids: list[str], path: str) -> list[str]:
    if len(ids) > MAX_RESULTS:
        raise BadLine(
            Reason.TOO_MANY_RESULTS,
            f"{path} lists {len(ids)} ids; nobody is shown more than {MAX_RESULTS}: log what was shown, not all that "
            "was found",
        )
    return ids


def _position(value: Any, column: Column) -> int:
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= MAX_POSITION:
        detail = f"{column.path} holds {describe(value)}; a position is a whole number from 0 to {MAX_POSITION}"
        raise BadLine(column.reason, detail)
    return int(value)


def _seconds(value: Any, column: Column) -> float:
    if type(value) not in (int, float) or not 0 <= value <= MAX_SECONDS:
        raise BadLine(
            column.reason, f"{column.path} holds {describe(value)}; expected seconds, from 0 to {MAX_SECONDS:.0f}"
        )
    return float(value)
