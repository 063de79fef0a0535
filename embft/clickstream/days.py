"""A day of the log: when it begins and ends, and in which objects its lines may lie."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from typing import TypeVar
from zoneinfo import ZoneInfo

from embft.clickstream.times import microseconds
from embft.log_config import Logs

Object = TypeVar("Object")

_PLACEHOLDER = re.compile(r"\{day(?::([^}]*))?\}|\{hour\}|\*")
_HOUR_US = 3_600_000_000


class Role(Enum):
    """What an object is to the day that is read."""

    OWN = "own"
    EARLY = "early"  # of the day itself, and read for the day before too
    NEXT = "next"  # of the next day, read for what belongs to this one

    def may_hold(self, is_before: bool) -> bool:
        """Say whether lines of another day are expected here: that day's own pull finds them.

        Args:
            is_before: The line is of a day before, not after, the one that is read.

        Returns:
            Whether it is where it should be.
        """
        return self is Role.EARLY if is_before else self is Role.NEXT


@dataclass(frozen=True)
class Day:
    """A calendar day in the log's time zone, 23 to 25 hours long.

    Args:
        calendar_day: Which one.
        zone: Name of the time zone.
        start_us: Its first microsecond since 1970.
        end_us: The next day's first one.
        settled_us: Clicks on its searches count until here.
    """

    calendar_day: date
    zone: str
    start_us: int
    end_us: int
    settled_us: int

    @classmethod
    def of(cls, day: date, logs: Logs) -> "Day":
        """Give a day of a log.

        Args:
            day: Which one.
            logs: Time zone and settle_hours.

        Returns:
            The day.
        """
        zone = ZoneInfo(logs.timezone)
        start, end = (_midnight(it, zone) for it in (day, day + timedelta(days=1)))
        return cls(day, logs.timezone, start, end, end + logs.settle_hours * _HOUR_US)

    def settles(self, time_us: int) -> bool:
        """Whether an event at this time may belong to a search of the day."""
        return self.start_us <= time_us < self.settled_us

    @property
    def first_settled_us(self) -> int:
        """Until here clicks count on searches of the day before."""
        return self.start_us + self.settled_us - self.end_us


def _midnight(day: date, zone: ZoneInfo) -> int:
    """Give the first moment of a day; where the clock skips midnight, the moment it does."""
    # Through UTC: a local time that never was is taken as the one after the gap.
    return microseconds(datetime.combine(day, time(), zone).astimezone(UTC))


@dataclass(frozen=True)
class DayPattern:
    """Where a day's objects lie.

    Args:
        prefix: What their URIs begin with.
        matches: What their URIs look like, and the hour in them if the template has one.
    """

    prefix: str
    matches: re.Pattern[str]

    @classmethod
    def of(cls, template: str, day: date) -> "DayPattern":
        """Fill a template in.

        Args:
            template: As `logs.uri`: {day}, {day:%Y/%m/%d}, {hour} and *.
            day: The day.

        Returns:
            The objects that the template names, and all those below it.
        """
        prefix, pattern, at = "", "", 0
        is_open = False
        for found in _PLACEHOLDER.finditer(template):
            text = template[at : found.start()]
            at = found.end()
            filled = "" if found[0] in _WILDCARDS else day.strftime(found[1] or "%Y-%m-%d")
            prefix += "" if is_open else text + filled
            is_open = is_open or not filled
            pattern += re.escape(text) + (re.escape(filled) or _WILDCARDS[found[0]])
        prefix += "" if is_open else template[at:]
        pattern += re.escape(template[at:])
        return cls(prefix, re.compile(pattern + "(?:/.+)?", re.DOTALL))


_WILDCARDS = {"{hour}": r"(?P<hour>\d{1,2})", "*": r"[^/]*"}


def objects_of(
    day: date, logs: Logs, list_objects: Callable[[str], Iterable[Object]], uri_of: Callable[[Object], str]
) -> list[tuple[Object, Role]]:
    """Find the objects in which lines of a day may lie.

    Args:
        day: The day.
        logs: Where its objects lie, and settle_hours.
        list_objects: Lists all objects below a prefix.
        uri_of: Gives an object's URI.

    Returns:
        The day's own objects and, where clicks settle after midnight, those of the next day's first hours. Where
        logs.uri has no {hour}, these are all that the next day has yet. Ordered by URI within each.
    """
    own = _listed(day, logs, list_objects, uri_of)
    if not logs.settle_hours:
        return [(it, Role.OWN) for it, _ in own]
    later = _listed(day + timedelta(days=1), logs, list_objects, uri_of)
    return [
        *((it, Role.EARLY if _is_early(hour, logs) else Role.OWN) for it, hour in own),
        *((it, Role.NEXT) for it, hour in later if _is_early(hour, logs)),
    ]


def _is_early(hour: int | None, logs: Logs) -> bool:
    return hour is None or hour < logs.settle_hours


def _listed(
    day: date, logs: Logs, list_objects: Callable[[str], Iterable[Object]], uri_of: Callable[[Object], str]
) -> list[tuple[Object, int | None]]:
    found: dict[str, tuple[Object, int | None]] = {}
    for template in logs.uri:
        pattern = DayPattern.of(template, day)
        for item in list_objects(pattern.prefix):
            if match := pattern.matches.fullmatch(uri_of(item)):
                hour = match.groupdict().get("hour")
                found[uri_of(item)] = item, None if hour is None else int(hour)
    return [found[uri] for uri in sorted(found)]
