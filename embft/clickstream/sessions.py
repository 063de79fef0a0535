"""The session table: one row a search, with what was shown and what was clicked. Every later stage reads this."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [
        pa.field("session_id", pa.string(), nullable=False),
        pa.field("day", pa.date32(), nullable=False),  # in the log's time zone
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("client", pa.string()),  # a keyed hash of who searched; null: the log does not say
        pa.field("query", pa.string(), nullable=False),  # normalised: NFC, lower-cased, white space collapsed
        pa.field("shown", pa.list_(pa.string())),  # null: the log has no shown list
        pa.field("positions", pa.list_(pa.int32())),  # of each of shown, from 1; null: 1, 2, 3 …
        pa.field("clicked", pa.list_(pa.string()), nullable=False),  # empty: nothing was clicked
        pa.field("actions", pa.list_(pa.string())),  # of each of clicked, the strongest; null: all are clicks
        pa.field("dwell_s", pa.list_(pa.float32())),  # of each of clicked, null: unknown; null: all are unknown
    ]
)


def read_sessions(path: Path) -> pa.Table:
    """Read sessions as `pull` left them.

    Args:
        path: A Parquet file with the columns of `SCHEMA`.

    Returns:
        The sessions.
    """
    return pq.read_table(path, schema=SCHEMA)


def places_of(shown: Sequence[str], positions: Sequence[int] | None) -> Sequence[int]:
    """Say where each shown item stood: as `positions` tells it, else by counting."""
    return range(1, len(shown) + 1) if positions is None else positions


def cut_shown(
    shown: list[str], positions: list[int] | None, is_kept: Sequence[bool]
) -> tuple[list[str], list[int] | None]:
    """Keep some of the shown items, where they stood; positions are told where counting no longer gives them.

    Args:
        shown: One session's.
        positions: The same session's, null where counting gives them.
        is_kept: Of each of `shown`.

    Returns:
        Both, cut.
    """
    if all(is_kept):
        return shown, positions
    told = zip(shown, places_of(shown, positions), is_kept, strict=True)
    left = [(id_, place) for id_, place, kept in told if kept]
    places = [place for _, place in left]
    is_in_order = positions is None and places == list(range(1, len(places) + 1))
    return [id_ for id_, _ in left], None if is_in_order else places


def with_lists(sessions: pa.Table, lists: Mapping[str, Sequence[Any]]) -> pa.Table:
    """Replace some columns.

    Args:
        sessions: `SCHEMA`.
        lists: Column → its values, one a session.

    Returns:
        The sessions, with the types that they had.
    """
    for name, values in lists.items():
        column = sessions.schema.get_field_index(name)
        field = sessions.schema.field(column)
        sessions = sessions.set_column(column, field, pa.array(values, field.type))
    return sessions
