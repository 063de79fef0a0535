"""A log's times: ISO 8601 with or without a zone, or seconds or milliseconds since 1970."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from embft.clickstream.quarantine import BadLine, Reason, describe

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# As seconds, 1e11 is the year 5138; as milliseconds, it is 1973. Nobody means either.
FIRST_MILLISECONDS = 1e11
MAX_MILLISECONDS = 1e14
_MIN_EPOCH_DIGITS = 9  # a shorter run of digits is a date such as 20111020


def parse_time(value: object, zone: ZoneInfo, field: str) -> datetime:
    """Read a time.

    A time without a zone is local time in `zone`; where the clock is set back and it happens twice, the first.

    Args:
        value: A text or a number, as found.
        zone: Zone of times that state none.
        field: The field's name, for the message.

    Returns:
        The time with its zone.

    Raises:
        BadLine: It is missing, or is none of the forms.
    """
    if value is None:
        raise BadLine(Reason.TIME_MISSING, f"the line has no {field}; see logs.fields.time in the config")
    try:
        if type(value) is str:
            return _from_text(value.strip(), zone)
        if type(value) is int or type(value) is float:
            return _from_number(value)
    except (ValueError, OverflowError):
        pass
    raise BadLine(
        Reason.TIME_UNREADABLE,
        f"{field} holds {describe(value)}; expected ISO 8601 such as 2011-10-20T00:27:29+02:00, "
        "or seconds or milliseconds since 1970",
    )


def microseconds(time: datetime) -> int:
    """Give the microseconds since 1970.

    Args:
        time: With its zone.

    Returns:
        The microseconds, exact.
    """
    return (time - _EPOCH) // _MICROSECOND


def _from_text(text: str, zone: ZoneInfo) -> datetime:
    if text.isdigit() and len(text) >= _MIN_EPOCH_DIGITS:
        return _from_number(int(text))
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=zone)


def _from_number(number: float) -> datetime:
    if abs(number) >= MAX_MILLISECONDS:
        raise OverflowError
    if abs(number) >= FIRST_MILLISECONDS:
        return _EPOCH + timedelta(milliseconds=number)
    return _EPOCH + timedelta(seconds=number)
