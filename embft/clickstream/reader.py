"""One day's log objects → sessions, with every line accounted for.

The outcome depends on the lines alone, not on the order of the objects or on how lines are spread over them:

- lines (or events) of equal content are one, the others are duplicates (delivery at least once is normal);
- where lines with one session id differ, the earliest is kept, and the others are set aside as `session_id_conflict`;
- what a rule of `logs.noise` or `logs.privacy` leaves out is counted under the rule's name.

Objects are read side by side and streamed; what does not fit the memory goes to disk, so a bigger day takes longer,
and no more memory.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from itertools import repeat
from pathlib import Path
from threading import Event
from typing import NamedTuple

import pyarrow as pa

from embft.clickstream import quarantine
from embft.clickstream import sessions as session_table
from embft.clickstream.accounting import Accounting
from embft.clickstream.days import Day, Role
from embft.clickstream.joining import TELLING, drop_copied_events, join_searches
from embft.clickstream.noise import CONFLICT, CONTENT, DUPLICATE, drop_copies, drop_noise
from embft.clickstream.parsing import ObjectParser, Parsed
from embft.clickstream.privacy import ClientHash
from embft.clickstream.quarantine import Reason
from embft.clickstream.records import OTHER_DAY, Kind
from embft.clickstream.row_groups import write_rows
from embft.clickstream.workspace import Gathered, Workspace
from embft.log_config import Logs

Fetch = Callable[["LogObject", Path, Event], Path]
"""Gets an object: given the object, where to put it and what tells it to stop, gives where the object lies."""

_THREADS = min(4, os.cpu_count() or 1)
_MAX_RAW_LINES = 10_000  # of each reason, whose bytes are kept
_BAD_SCHEMA = pa.schema(
    [
        ("object", pa.int32()),
        ("line", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("raw", pa.binary()),
    ]
)


class LogObject(NamedTuple):
    """One object of a day.

    Args:
        uri: Where it lies.
        role: What it is to the day.
    """

    uri: str
    role: Role = Role.OWN


@dataclass
class ReadCounts:
    """What became of lines while they were read; the others are records.

    Args:
        lines: Lines read.
        filtered: Rule → lines.
    """

    lines: int = 0
    filtered: Counter[str] = field(default_factory=Counter)

    def add(self, other: "ReadCounts | Parsed") -> None:
        """Add what some more lines came to."""
        self.lines += other.lines
        self.filtered.update(other.filtered)


class DayReader:
    """Reads one day of a log. Close it when done.

    Args:
        day: The day.
        logs: Format and rules.
        client_hash: Replaces client ids.
        objects: All objects of the day, whether they are read here or were read by another task.
        folder: Scratch folder.
    """

    def __init__(
        self, day: date, logs: Logs, client_hash: ClientHash, objects: Sequence[LogObject], folder: Path
    ) -> None:
        self._day = Day.of(day, logs)
        self._logs = logs
        self._client_hash = client_hash
        self._objects = objects
        self._folder = folder
        self._counts = ReadCounts()
        self._tables = Workspace(folder / "tables", _THREADS)
        schema = ObjectParser(self._day, logs, client_hash).schema.append(pa.field("object", pa.int32()))
        self._tables.create("records", schema)
        self._tables.create("bad", _BAD_SCHEMA)

    def __enter__(self) -> "DayReader":
        """Give the reader itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of memory and files."""
        self._tables.close()

    def read(self, numbers: Iterable[int], fetch: Fetch) -> None:
        """Read objects, some side by side.

        Whatever their bytes are, they end nothing; what `fetch` raises does, as does a machine without disk, or without
        the key that client ids are hashed with.

        Args:
            numbers: Which of the day's objects.
            fetch: Gets an object.
        """
        stop = Event()
        with ThreadPoolExecutor(_THREADS) as pool:
            futures = [pool.submit(self._read, some, fetch, stop) for some in _shares(list(numbers))]
            try:
                for future in futures:
                    self._counts.add(future.result())
            except BaseException:
                # One that failed ends the day, as does being told to stop: the others need not go on.
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise

    def load(self, records: Path, bad: Path, counts: ReadCounts) -> None:
        """Take what another task has read.

        Args:
            records: As `save` wrote them.
            bad: Likewise.
            counts: Likewise.
        """
        for table, path in (("records", records), ("bad", bad)):
            self._tables.run(f"INSERT INTO {table} BY NAME SELECT * FROM read_parquet($path)", {"path": str(path)})
        self._counts.add(counts)

    def save(self, records: Path, bad: Path) -> ReadCounts:
        """Write what was read, for the task that puts the day together.

        Args:
            records: Parquet file to write.
            bad: Parquet file to write.

        Returns:
            What became of the other lines.
        """
        for table, path in (("records", records), ("bad", bad)):
            rows = self._tables.batches(f"SELECT * FROM {table} ORDER BY object, line")
            write_rows(rows, self._tables.schema(table), path)
        return self._counts

    def build(self, sessions: Path, bad: Path) -> Accounting:
        """Put the day together.

        Args:
            sessions: Parquet file to write: `embft.clickstream.sessions.SCHEMA`, ordered by time and id.
            bad: Parquet file to write: `embft.clickstream.quarantine.SCHEMA`, ordered by object and line.

        Returns:
            Where each line went.
        """
        filtered, duplicates = self._counts.filtered.copy(), 0
        self._tables.run("CREATE TABLE dropped (rid BIGINT, rule VARCHAR)")
        if self._logs.format == "sessions":
            self._name_sessions()
            drop_copies(self._tables)
        else:
            duplicates = drop_copied_events(self._tables)
            filtered.update(join_searches(self._tables, self._logs.inactivity_minutes))
            self._take_searches_of_the_day()
        drop_noise(self._tables, self._logs.noise)
        rows = self._tables.rows("SELECT rule, sum(n_lines) FROM dropped JOIN searches USING (rid) GROUP BY rule")
        dropped = {rule: int(n_lines) for rule, n_lines in rows}
        duplicates += dropped.pop(DUPLICATE, 0)
        if dropped.pop(CONFLICT, 0):
            self._set_conflicts_aside()
        filtered.update(dropped)

        n_sessions, used = self._write_sessions(sessions)
        by_reason = self._write_bad(bad)
        return Accounting(
            lines=self._counts.lines,
            used=used,
            sessions=n_sessions,
            duplicates=duplicates,
            filtered={rule: n_lines for rule, n_lines in sorted(filtered.items()) if n_lines},
            quarantined=sum(by_reason.values()),
            quarantined_by_reason=by_reason,
        )

    def _read(self, numbers: Sequence[int], fetch: Fetch, stop: Event) -> ReadCounts:
        counts = ReadCounts()
        parser = ObjectParser(self._day, self._logs, self._client_hash)
        tables = self._tables.cursor()
        records, bad = Gathered(tables, "records"), Gathered(tables, "bad")
        try:
            for number in numbers:
                for parsed in self._parsed(parser, number, fetch, stop):
                    if stop.is_set():
                        return counts
                    counts.add(parsed)
                    for batch in parsed.records:
                        records.add(_with_object(batch, number))
                    if parsed.bad:
                        bad.add(_bad_rows(parsed, number))
            records.flush()
            bad.flush()
        finally:
            tables.close()
        return counts

    def _parsed(self, parser: ObjectParser, number: int, fetch: Fetch, stop: Event) -> Iterator[Parsed]:
        item = self._objects[number]
        scratch = self._folder / "objects" / f"{number:06d}"
        scratch.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield from parser.parse(fetch(item, scratch, stop), item.uri, item.role)
        finally:
            scratch.unlink(missing_ok=True)

    def _name_sessions(self) -> None:
        """Make `searches` of the records; one without an id gets one that is made of its content."""
        ((n_unnamed,),) = self._tables.rows("SELECT count(*) FROM records WHERE session_id IS NULL")
        source = "records"
        if n_unnamed:
            source = "named"
            self._tables.run(
                f"CREATE TABLE named AS SELECT * REPLACE (coalesce(session_id, md5({CONTENT})[:16]) AS session_id) "
                f"FROM ({_SESSIONS.format(source='records')})"
            )
        self._tables.run(f"CREATE VIEW searches AS {_SESSIONS.format(source=source)}")

    def _take_searches_of_the_day(self) -> None:
        """Make `searches` of what was joined: those that tell something, and began on the day."""
        self._tables.run(
            f"""
            CREATE VIEW searches AS
            SELECT * EXCLUDE (n_unseen, n_lines, has_search), rowid AS rid, n_lines - n_unseen AS n_lines,
                0 AS object, 0 AS line
            FROM joined WHERE {TELLING}
            """
        )
        self._tables.run(
            f"""
            INSERT INTO dropped SELECT rowid, '{OTHER_DAY}' FROM joined WHERE ({TELLING}) AND (
                time_us < $start OR time_us >= $end
                -- A click soon after midnight, without its search: that is of the day before, which looks for it here.
                OR (NOT has_search AND time_us < $settled)
            )
            """,
            {"start": self._day.start_us, "end": self._day.end_us, "settled": self._day.first_settled_us},
        )

    def _set_conflicts_aside(self) -> None:
        # The line's own bytes are no longer at hand; its content, as it was understood, is.
        self._tables.run(
            f"""
            INSERT INTO bad
            SELECT object, line, $reason, $detail, encode({CONTENT})
            FROM searches SEMI JOIN (SELECT * FROM dropped WHERE rule = '{CONFLICT}') USING (rid)
            """,
            {"reason": Reason.SESSION_ID_CONFLICT.value, "detail": _CONFLICT_DETAIL},
        )

    def _write_sessions(self, path: Path) -> tuple[int, int]:
        ((n_sessions, used),) = self._tables.rows(
            "SELECT count(*), coalesce(sum(n_lines), 0) FROM searches ANTI JOIN dropped USING (rid)"
        )
        days = pa.scalar(self._day.calendar_day, pa.date32())
        rows = self._tables.batches(_IN_ORDER)
        write_rows((_as_sessions(it, days) for it in rows), session_table.SCHEMA, path)
        return int(n_sessions), int(used)

    def _write_bad(self, path: Path) -> dict[str, int]:
        uris = pa.table(
            {"object": pa.array(range(len(self._objects)), pa.int32()), "uri": [it.uri for it in self._objects]}
        )
        self._tables.create("objects", uris.schema)
        self._tables.add("objects", uris)
        rows = self._tables.batches(
            f"""
            SELECT uri AS object, line, reason, detail,
                CASE WHEN row_number() OVER (PARTITION BY reason ORDER BY uri, line) <= {_MAX_RAW_LINES} THEN raw
                ELSE ''::BLOB END AS raw
            FROM bad JOIN objects USING (object) ORDER BY uri, line, reason
            """
        )
        write_rows((it.cast(quarantine.SCHEMA) for it in rows), quarantine.SCHEMA, path)
        return {reason: n for reason, n in self._tables.rows("SELECT reason, count(*) FROM bad GROUP BY 1 ORDER BY 1")}


_SESSIONS = """
SELECT session_id, time_us, client, query, shown, NULL::INTEGER[] AS positions, clicked, NULL::TINYINT[] AS actions,
    NULL::FLOAT[] AS dwell_s, object, line, 1 AS n_lines, rowid AS rid
FROM {source}
"""

_IN_ORDER = f"""
SELECT session_id, make_timestamp(time_us) AS time, client, query, shown, positions, clicked,
    CASE WHEN list_max(actions) > {int(Kind.CLICK)} THEN
        list_transform(actions, lambda x: list_extract({[it.name.lower() for it in Kind]}, x + 1)) END AS actions,
    CASE WHEN list_count(dwell_s) > 0 THEN dwell_s END AS dwell_s
FROM searches ANTI JOIN dropped USING (rid) ORDER BY time_us, session_id
"""

_CONFLICT_DETAIL = (
    "an earlier line has the same session id and another content; if your session ids name a visit with several "
    "searches, give a field that names one search, or null, as logs.fields.session_id in the config"
)


def _shares(numbers: Sequence[int]) -> list[Sequence[int]]:
    """Deal objects out: many tiny ones at a time, for each turn costs some time, and few big ones."""
    size = min(100, max(1, len(numbers) // (8 * _THREADS)))
    return [numbers[at : at + size] for at in range(0, len(numbers), size)]


def _with_object(records: pa.RecordBatch, number: int) -> pa.RecordBatch:
    return records.append_column("object", pa.array(repeat(number, records.num_rows), pa.int32()))


def _bad_rows(parsed: Parsed, number: int) -> pa.RecordBatch:
    rows = [(number, line, bad.reason.value, bad.detail, raw) for line, raw, bad in parsed.bad]
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), _BAD_SCHEMA, strict=True)]
    return pa.record_batch(columns, schema=_BAD_SCHEMA)


def _as_sessions(rows: pa.RecordBatch, day: pa.Scalar) -> pa.RecordBatch:
    rows = rows.append_column("day", pa.array([day.as_py()] * rows.num_rows, day.type))
    return rows.select(session_table.SCHEMA.names).cast(session_table.SCHEMA)
