"""A day to read, a good line of it, and the type of the reader that the fixtures give."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from typing import Any

from embft.clickstream.reader import DayLog
from embft.log_config import Logs

DAY = date(2026, 3, 10)
LOGS = Logs(uri="s3://shop/logs/dt={day}")

Read = Callable[..., DayLog]


def line(**change: Any) -> bytes:
    """A good line of the day, with some fields changed; `...` leaves a field out."""
    fields = {
        "query": "red lamp",
        "time": "2026-03-10T12:00:00Z",
        "clicked": ["a"],
        "shown": ["a", "b"],
        "session_id": "s1",
        "client": "c1",
    } | change
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()
