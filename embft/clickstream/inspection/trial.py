"""The sample of one day, read as `pull` would read the day."""

import secrets
import shutil
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from embft.clickstream.days import Day
from embft.clickstream.inspection.sampling import Sampled
from embft.clickstream.inspection.times import Times
from embft.clickstream.lines import read_lines
from embft.clickstream.privacy import ClientHash, private_parts
from embft.clickstream.quarantine import Reason
from embft.clickstream.reader import DayReader, LogObject
from embft.clickstream.sessions import read_sessions
from embft.clickstream.times import microseconds
from embft.log_config import Logs

_N_SESSIONS = 10
_N_CLICKED = 5
# Their details quote the value that tells who searched.
_UNTOLD = {Reason.CLIENT_TYPE: "who searched (logs.fields.client)", Reason.TEXT_FIELD_TYPE: "the user agent or the IP"}


class Trial(NamedTuple):
    """What a day's part of the sample comes to; `reasons`: reason of quarantine → an example."""

    read_day: date
    sessions: list[dict[str, Any]]
    accounting: dict[str, Any]
    reasons: dict[str, str]


def try_reading(sample: Sequence[Sampled], logs: Logs, times: Times, folder: Path) -> Trial:
    """Read the sample's newest day; where no day stands in the keys, the day of most lines.

    Clients are hashed with a key that nobody keeps.
    """
    counts = Counter(it.date() for it in times.known)
    newest = max((it.day for it in sample if it.day and it.rows), default=None)
    day = newest or max(counts, key=lambda it: (counts[it], it))
    paths = {}
    for sampled, several in zip(sample, times.instants, strict=True):
        if sampled.day == newest and sampled.rows:
            uri, path = _to_read(sampled, several, Day.of(day, logs))
            paths[uri] = path
    objects = [LogObject(uri) for uri in paths]
    sessions, bad = folder / "sessions.parquet", folder / "bad.parquet"
    with DayReader(day, logs, ClientHash(secrets.token_hex(16)), objects, folder / "scratch") as reader:
        reader.read(range(len(objects)), lambda item, path, stop: shutil.copyfile(paths[item.uri], path))
        accounting = reader.build(sessions, bad)
    accounting.check()
    return Trial(day, _some_sessions(sessions), accounting.model_dump(), _examples_of(pq.read_table(bad)))


def _to_read(found: Sampled, instants: Sequence[datetime | None], day: Day) -> tuple[str, Path]:
    """Give an object's URI and a file with its lines that may be of the day: its own bytes, where that is all of it."""
    wanted = [found.day is not None or it is None or day.settles(microseconds(it)) for it in instants]
    if all(wanted) and not found.is_cut:
        return found.item.uri, found.path
    path = found.path.with_suffix(".part")
    if found.container == "Parquet":
        table = pq.read_table(found.path).slice(0, len(wanted))
        pq.write_table(table.filter(pa.array(wanted)), path)
        return found.item.uri, path
    with path.open("wb") as file:
        # Also what cannot be read of a line that is none is written: the reader tells why.
        for line, is_wanted in zip(read_lines(found.path, found.item.uri), wanted, strict=False):
            if is_wanted:
                file.write(line.raw + b"\n")
    # It is plain now, and a name that says otherwise would be a fault.
    return found.item.uri.removesuffix(".gz").removesuffix(".zst"), path


def _some_sessions(path: Path) -> list[dict[str, Any]]:
    return [
        {
            "time": it["time"].isoformat(),
            "query": private_parts(it["query"]),
            "shown": None if it["shown"] is None else len(it["shown"]),
            "clicked": it["clicked"][:_N_CLICKED] + ["…"] * (len(it["clicked"]) > _N_CLICKED),
            "client": it["client"],
        }
        for it in read_sessions(path).slice(0, _N_SESSIONS).to_pylist()
    ]


def _examples_of(bad: pa.Table) -> dict[str, str]:
    """Give a detail for each reason; never who searched."""
    found: dict[str, str] = {}
    for row in bad.to_pylist():
        reason = Reason(row["reason"])
        told = f"{_UNTOLD[reason]} is of another type than text" if reason in _UNTOLD else private_parts(row["detail"])
        found.setdefault(reason.value, f"line {row['line']} of {row['object']}: {told}")
    return found
