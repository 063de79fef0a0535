"""A day to read, a good line of it, and the type of the reader that the fixtures give."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from embft.clickstream.accounting import Accounting
from embft.clickstream.days import Role
from embft.clickstream.privacy import ClientHash
from embft.clickstream.reader import DayReader, LogObject
from embft.clickstream.sessions import read_sessions
from embft.log_config import Logs

DAY = date(2026, 3, 10)
LOGS = Logs(uri="s3://shop/logs/dt={day}")

KEY = ClientHash("a secret of the tests alone")


class DayLog(NamedTuple):
    """What a day's objects came to."""

    sessions: pa.Table
    quarantine: pa.Table
    accounting: Accounting


Read = Callable[..., DayLog]


def read_day(
    objects: Mapping[str, bytes],
    folder: Path,
    *,
    day: date = DAY,
    logs: Logs = LOGS,
    roles: Mapping[str, Role] | None = None,
) -> DayLog:
    """Read objects, given as name → bytes, as one day; check that every line is accounted for."""
    found = [LogObject(f"s3://shop/{name}", (roles or {}).get(name, Role.OWN)) for name in sorted(objects)]

    def fetch(item: LogObject, path: Path, _: Event) -> Path:
        path.write_bytes(objects[item.uri.removeprefix("s3://shop/")])
        return path

    with DayReader(day, logs, KEY, found, folder) as reader:
        reader.read(range(len(found)), fetch)
        accounting = reader.build(folder / "sessions.parquet", folder / "quarantine.parquet")
    accounting.check()
    assert not list((folder / "objects").glob("*"))
    return DayLog(read_sessions(folder / "sessions.parquet"), pq.read_table(folder / "quarantine.parquet"), accounting)


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
