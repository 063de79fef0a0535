"""The session table: one row a search, with what was shown and what was clicked. Every later stage reads this."""

from pathlib import Path

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
