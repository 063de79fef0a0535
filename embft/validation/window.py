"""What the check of a night's sessions is given: its log days, what earlier nights left, and limits of the config."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa

from embft.validation.profiles import DayProfile


@dataclass(frozen=True)
class PulledDay:
    """One log day as `pull` left it.

    Args:
        day: The log day.
        sessions: Fetches its Parquet file.
        n_sessions: Rows of it.
        lines: What was counted of the day's lines: lines, duplicates, quarantined, filtered.
        refused: Why the day must not be learned from, whatever its sessions say; None where nothing is known.
    """

    day: date
    sessions: Callable[[], Path]
    n_sessions: int
    lines: Mapping[str, int]
    refused: str | None = None


@dataclass(frozen=True)
class Before:
    """What earlier nights left to compare with.

    Args:
        days: Profiles of log days.
        items: The good items of the newest earlier night; None where there is none.
    """

    days: Mapping[date, DayProfile] = field(default_factory=dict)
    items: pa.Table | None = None


@dataclass(frozen=True)
class Limits:
    """What the check of sessions needs of the config.

    Args:
        window: First and last day, both included; the last is the night's own.
        zone: Zone in which the log's days begin and end.
        max_quarantined: Share of rows set aside above which the run stops, 0 … 1.
        min_clients: Clients that must have searched for a query before a page, a figure or the reason shows it.
        reference_days: How far back usual goes.
    """

    window: tuple[date, date]
    zone: ZoneInfo
    max_quarantined: float
    min_clients: int
    reference_days: int
