"""Sessions as Arrow tables: `inputs_to_table` writes them, `inputs_from_table` reads them."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from sys import intern
from typing import TYPE_CHECKING, Any, cast

from embft.errors import DataRejected
from embft.finetuning.inputs import FineTuningInput

if TYPE_CHECKING:
    import pyarrow as pa

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROWS_PER_CHUNK = 10_000
_OPTIONAL = ("positions", "propensities", "event_types", "event_weights")


def inputs_schema() -> pa.Schema:
    """Columns of every table of sessions; `ranks` is aligned to `results`, null where unknown."""
    import pyarrow as pa

    return pa.schema(
        [
            ("session_id", pa.string()),
            ("query", pa.string()),
            ("time", pa.timestamp("us", tz="UTC")),
            ("results", pa.list_(pa.string())),
            ("clicked", pa.list_(pa.string())),
            ("ranks", pa.list_(pa.float32())),
        ]
    )


def _optional_schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("positions", pa.list_(pa.int32())),
            ("propensities", pa.list_(pa.float32())),
            ("event_types", pa.list_(pa.string())),
            ("event_weights", pa.list_(pa.float32())),
        ]
    )


def inputs_to_table(inputs: Iterable[FineTuningInput]) -> pa.Table:
    """Write sessions as a table, one row each, in order.

    Args:
        inputs: Sessions, clicked and irrelevant mixed.

    Returns:
        Table with the columns of `inputs_schema`, and those of `positions` (int32), `propensities` (float32),
        `event_types` (string) and `event_weights` (float32) that some session has: one list per row, null for a
        session without. Propensities and ranks are float32 in it; what was clicked for a query is not part of it.
    """
    import pyarrow as pa

    sessions = list(inputs)
    columns: dict[str, list[Any]] = {
        "session_id": [session.session_id for session in sessions],
        "query": [session.query for session in sessions],
        "time": [session.timestamp and session.timestamp.astimezone(UTC) for session in sessions],
        "results": [session.results for session in sessions],
        "clicked": [session.events for session in sessions],
        "ranks": [list(session.ranks.values()) for session in sessions],
    }
    schema = inputs_schema()
    for field in _optional_schema():
        values = [getattr(session, field.name) for session in sessions]
        if any(value is not None for value in values):
            columns[field.name] = values
            schema = schema.append(field)
    return pa.table(columns, schema=schema)


def inputs_from_table(table: pa.Table) -> list[FineTuningInput]:
    """Read sessions from a table written by `inputs_to_table`, or one with the same columns.

    Args:
        table: Columns `session_id`, `query`, `results`, `clicked`, and optionally `time`, `ranks`, `positions`,
            `propensities`, `event_types` and `event_weights`; a null in an optional column is an unknown.

    Returns:
        Sessions in the table's order. Equal ids share one string, and equal queries too: a million sessions of 20
        results weigh about 1 GB.

    Raises:
        DataRejected: A column is missing, or a row breaks a rule of `FineTuningInput`.
    """
    missing = {"session_id", "query", "results", "clicked"} - set(table.column_names)
    if missing:
        raise DataRejected(f"a table of sessions lacks the columns {sorted(missing)}; it has {table.column_names}")
    queries: dict[str, str] = {}
    batches = table.to_batches(max_chunksize=_ROWS_PER_CHUNK)
    return [session for batch in batches for session in _from_batch(batch, queries)]


def _from_batch(batch: pa.RecordBatch, queries: dict[str, str]) -> Iterator[FineTuningInput]:
    """Sessions of one chunk; chunks bound the plain Python lists that exist at a time.

    Raises:
        DataRejected: A row breaks a rule of `FineTuningInput`, or its ranks are not aligned to its results.
    """
    columns = {name: _values(batch, name) for name in batch.schema.names}
    unknown: list[None] = [None] * batch.num_rows
    rows = zip(
        columns["session_id"],
        columns["query"],
        columns["results"],
        columns["clicked"],
        columns.get("time", unknown),
        columns.get("ranks", unknown),
        *(columns.get(name, unknown) for name in _OPTIONAL),
        strict=True,
    )
    for session_id, query, results, clicked, time, ranks, positions, propensities, types, weights in rows:
        shown = _interned(results, session_id, "results")
        session = FineTuningInput(
            session_id=session_id,
            query=queries.setdefault(query, query),
            events=_interned(clicked, session_id, "clicked"),
            results=shown,
            event_types=types and _interned(types, session_id, "event_types"),
            event_weights=weights,
            timestamp=time,
            positions=positions,
            propensities=propensities,
        )
        if ranks:
            _give_ranks(session, shown, ranks)
        yield session


def _values(batch: pa.RecordBatch, name: str) -> list[Any]:
    """Plain values of a column; Arrow's own way to a `datetime` takes five times as long as this one."""
    import pyarrow as pa

    column = batch.column(name)
    if not (pa.types.is_timestamp(column.type) and column.type.unit == "us" and column.type.tz):
        return cast("list[Any]", column.to_pylist())
    return [us if us is None else _EPOCH + timedelta(microseconds=us) for us in column.cast(pa.int64()).to_pylist()]


def _interned(words: list[str] | None, session_id: str, name: str) -> list[str]:
    try:
        return list(map(intern, words or ()))
    except TypeError:
        raise DataRejected(f"session {session_id!r}: `{name}` is {words}; it must hold texts, and no null") from None


def _give_ranks(session: FineTuningInput, shown: list[str], ranks: list[float | None]) -> None:
    """Set the ranks of a row, by the array where they are complete: a dict for each session triples the time.

    Raises:
        DataRejected: They are not aligned to the results, or one is not finite.
    """
    if len(ranks) != len(shown):
        raise DataRejected(
            f"session {session.session_id!r}: {len(ranks)} ranks for {len(shown)} results; "
            "`ranks` is aligned to `results`, null where unknown, or empty"
        )
    n_unknown = ranks.count(None)
    if n_unknown == len(ranks):
        return
    if not n_unknown and len(session.results) == len(shown):
        values = array("d", cast("list[float]", ranks))
        if tuple(shown) == session.results and all(map(math.isfinite, values)):
            session.rank_values = values
            return
    session.ranks = dict(zip(reversed(shown), reversed(ranks), strict=True))  # of an id given twice the first counts
