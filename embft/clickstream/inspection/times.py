"""The times of a sample's lines, and how the log's days lie to them: its zone, and events that come after midnight."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import chain
from typing import Any
from zoneinfo import ZoneInfo

from embft.clickstream.inspection.sampling import Sampled
from embft.clickstream.quarantine import BadLine
from embft.clickstream.times import parse_time
from embft.clickstream.values import value_at

_UTC = ZoneInfo("UTC")
_SHIFTS = sorted(range(-14, 13), key=abs)  # hours from midnight UTC to the day's beginning, the likelier first


@dataclass(frozen=True)
class Times:
    """When each line of each object was written, where it says so, and what follows for the config."""

    instants: list[list[datetime | None]]
    timezone: str
    settle_hours: int
    notes: list[str]

    @property
    def known(self) -> list[datetime]:
        """All that a line told."""
        return [it for it in chain.from_iterable(self.instants) if it is not None]


def times_of(sample: Sequence[Sampled], path: str | None, *, may_be_late: bool) -> Times:
    """Read the times at a path; `may_be_late` says that a line may lie in the objects of an earlier day."""
    values = [[_value(row, path) for row in it.rows] for it in sample]
    given = [it for it in chain.from_iterable(values) if it is not None]
    without_zone = sum(map(_has_no_zone, given)) / max(1, len(given))
    instants = [[_instant(it) for it in several] for several in values]
    notes = []
    if without_zone:
        notes.append(
            f"{without_zone:.0%} of the times state no zone and are taken as UTC: if they are local, set timezone"
        )
    hours = _hours_from_midnight(sample, instants)
    if all(0 <= it < 24 for it in hours):
        return Times(instants, "UTC", 0, notes)
    low, high = min(hours), max(hours)
    timezone, settle_hours = "UTC", 0
    shift = next((it for it in _SHIFTS if it <= low and high < it + 24), None)
    outside = sum(not 0 <= it < 24 for it in hours) / len(hours)
    what = f"{outside:.1%} of the lines are not of their key's day in UTC (from {low:+.1f} h to {high - 24:+.1f} h)"
    if shift is not None and not without_zone:
        timezone = f"Etc/GMT{shift:+d}"
        notes.append(
            f"{what}: the log's days seem to begin at {shift % 24:02d}:00 UTC, so timezone is set to {timezone}; "
            "name your own zone, such as Europe/Berlin"
        )
    elif may_be_late and low >= 0 and high < 48:
        settle_hours = min(24, math.floor(high - 24) + 1)
        notes.append(f"{what}: events come after midnight, so settle_hours is set to {settle_hours}")
    else:
        notes.append(f"{what}: those lines are set aside as other_day unless timezone is right")
    return Times(instants, timezone, settle_hours, notes)


def _value(row: dict[str, Any] | None, path: str | None) -> Any:
    """Give what lies at a path of a line; None where nothing does, or where there is no telling."""
    try:
        return value_at(row, path) if row and path else None
    except BadLine:
        return None


def _hours_from_midnight(sample: Sequence[Sampled], instants: list[list[datetime | None]]) -> list[float]:
    return [
        (it - datetime.combine(sampled.day, time(), UTC)) / timedelta(hours=1)
        for sampled, several in zip(sample, instants, strict=True)
        if sampled.day
        for it in several
        if it is not None
    ]


def _instant(value: Any) -> datetime | None:
    try:
        return parse_time(value, _UTC, "time").astimezone(UTC)
    except (BadLine, OverflowError):
        return None


def _has_no_zone(value: Any) -> bool:
    """Whether a text is a time that states no zone."""
    try:
        return type(value) is str and not value.isdigit() and datetime.fromisoformat(value.strip()).tzinfo is None
    except ValueError:
        return False
