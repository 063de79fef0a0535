"""One day's log objects → sessions, with every line accounted for.

The outcome depends on the lines alone, not on the order of the objects or on how lines are spread over them:

- lines of equal content are one session, the others are duplicates (delivery at least once is normal);
- where lines with one session id differ, the earliest is kept (then the one with the smallest digest), and the others
  are set aside as `session_id_conflict`;
- of a client with too many sessions the earliest are kept, the others are filtered as `client_cap`.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from embft.clickstream import sessions as session_table
from embft.clickstream.accounting import Accounting
from embft.clickstream.lines import read_lines
from embft.clickstream.quarantine import BadLine, Quarantine, Reason
from embft.clickstream.session_lines import SessionLine, SessionParser
from embft.log_config import Logs

CLIENT_CAP = "client_cap"

_BATCH_ROWS = 512  # measured: more is slower, for its Python objects no longer fit the cache
_FOUND_SCHEMA = pa.schema(
    [
        # As in SessionLine
        ("session_id", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("client", pa.string()),
        ("query", pa.string()),
        ("shown", pa.list_(pa.string())),
        ("clicked", pa.list_(pa.string())),
        ("digest", pa.binary()),
        # Where it was found
        ("object", pa.int64()),
        ("line", pa.int64()),
    ]
)


@dataclass(frozen=True)
class DayLog:
    """What one day's objects came to.

    Args:
        sessions: `embft.clickstream.sessions.SCHEMA`, ordered by time and id.
        quarantine: `embft.clickstream.quarantine.SCHEMA`, ordered by object and line.
        accounting: Where each line went.
    """

    sessions: pa.Table
    quarantine: pa.Table
    accounting: Accounting


def read_day(objects: Sequence[tuple[str, Path]], *, day: date, logs: Logs) -> DayLog:
    """Read one day's objects. Whatever their bytes are, nothing raises: what cannot be used is set aside.

    Args:
        objects: URI and downloaded file of each; one JSON object a line, plain or gzipped.
        day: The day that the sessions must be of, in the log's time zone.
        logs: Field names, time zone and cap.

    Returns:
        The day's sessions, its quarantine and its accounting.
    """
    quarantine, found = Quarantine(), _Found()
    parse = SessionParser(day, logs).parse
    n_lines = 0
    for uri, path in sorted(objects):
        found.begin(uri)
        for number, raw, fault in read_lines(path, uri):
            n_lines += 1
            try:
                if fault:
                    raise fault
                found.add(number, parse(raw))
            except BadLine as bad:
                quarantine.add(uri, number, bad, raw)

    kept, n_filtered = _capped(
        _without_conflicts(found.table(), found.uris, quarantine), logs.noise.max_sessions_per_client or 10**9
    )
    accounting = Accounting(
        lines=n_lines,
        sessions=kept.num_rows,
        duplicates=found.n_duplicates,
        filtered={CLIENT_CAP: n_filtered},
        quarantined=len(quarantine),
        quarantined_by_reason=quarantine.by_reason(),
    )
    days = pa.array([day], pa.date32()).take(pa.array([0] * kept.num_rows, pa.int64()))
    for name in ("positions", "actions", "dwell_s"):
        kept = kept.append_column(name, pa.nulls(kept.num_rows, session_table.SCHEMA.field(name).type))
    sessions = kept.append_column("day", days).select(session_table.SCHEMA.names).cast(session_table.SCHEMA)
    return DayLog(sessions, quarantine.table(), accounting)


class _Found:
    """Sessions of distinct content.

    Packed as Arrow batches on the way: Python's lists and texts would take several times the memory, and its garbage
    collector would walk over all of them again and again.
    """

    def __init__(self) -> None:
        self.uris: list[str] = []
        self.n_duplicates = 0
        self._digests: set[bytes] = set()
        self._batches: list[pa.RecordBatch] = []
        self._rows: list[tuple[object, ...]] = []

    def begin(self, uri: str) -> None:
        self.uris.append(uri)

    def add(self, number: int, line: SessionLine) -> None:
        if line.digest in self._digests:
            self.n_duplicates += 1
            return
        self._digests.add(line.digest)
        self._rows.append((*line, len(self.uris) - 1, number))
        if len(self._rows) == _BATCH_ROWS:
            self._pack()

    def table(self) -> pa.Table:
        """Give the sessions by time, id and digest, and forget them: sorting needs the memory a second time."""
        self._pack()
        found = pa.Table.from_batches(self._batches, _FOUND_SCHEMA)
        self._batches, self._digests = [], set()
        return found.sort_by([(name, "ascending") for name in ("time", "session_id", "digest")])

    def _pack(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [()] * len(_FOUND_SCHEMA)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, _FOUND_SCHEMA, strict=True)]
        self._batches.append(pa.record_batch(arrays, schema=_FOUND_SCHEMA))
        self._rows = []


def _without_conflicts(found: pa.Table, uris: list[str], quarantine: Quarantine) -> pa.Table:
    """Keep the first session of each id, and set the others aside."""
    # An ordinary day has no conflict; only one that has pays for Python's objects.
    if pc.count_distinct(found["session_id"]).as_py() == found.num_rows:
        return found
    ids = found["session_id"].to_pylist()
    first = {id_: row for row, id_ in reversed(list(enumerate(ids)))}
    is_first = pa.array([first[id_] == row for row, id_ in enumerate(ids)], pa.bool_())
    conflicts = found.filter(pc.invert(is_first))
    for row in conflicts.to_pylist():
        content = {name: row[name] for name in ("session_id", "time", "client", "query", "shown", "clicked")}
        # The line's own bytes are no longer at hand; its content, as it was understood, is.
        raw = json.dumps(content, ensure_ascii=False, default=str).encode()
        quarantine.add(uris[row["object"]], row["line"], _CONFLICT, raw)
    return found.filter(is_first)


_CONFLICT = BadLine(
    Reason.SESSION_ID_CONFLICT,
    "an earlier line has the same session id and another content; if your session ids name a visit with several "
    "searches, give a field that names one search, or null, as logs.fields.session_id in the config",
)


def _capped(found: pa.Table, limit: int) -> tuple[pa.Table, int]:
    """Keep the first sessions of each client; those without a client are not counted."""
    most = pc.max(found["client"].drop_null().value_counts().field("counts")).as_py()
    if most is None or most <= limit:
        return found, 0
    keep = pa.array(_first_of_each(found["client"].to_pylist(), limit), pa.bool_())
    kept = found.filter(keep)
    return kept, found.num_rows - kept.num_rows


def _first_of_each(clients: list[str | None], limit: int) -> Iterator[bool]:
    seen: Counter[str] = Counter()
    for client in clients:
        if client is not None:
            seen[client] += 1
        yield client is None or seen[client] <= limit
