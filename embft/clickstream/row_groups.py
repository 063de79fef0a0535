"""Rows → a Parquet file, streamed."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_ROW_GROUP = 65_536


def write_rows(rows: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> None:
    """Write Parquet; the same rows give the same bytes, however they come.

    Args:
        rows: Batches of any size, in order.
        schema: Their columns.
        path: File to write.
    """
    # Of what repeats; of ids and times a dictionary would be as long as the column.
    repeating = [
        it
        for it in ("query", "shown.list.element", "clicked.list.element", "reason")
        if it.split(".")[0] in schema.names
    ]
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=1, use_dictionary=repeating) as writer:
        for group in _row_groups(_one_ahead(iter(rows)), schema):
            writer.write_table(group)


def _one_ahead(rows: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Get the next rows while these are used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, rows, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, rows, None)
            yield batch


def _row_groups(rows: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    waiting = schema.empty_table()
    for batch in rows:
        waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch], schema)])
        while waiting.num_rows >= _ROW_GROUP:
            yield waiting.slice(0, _ROW_GROUP).combine_chunks()
            waiting = waiting.slice(_ROW_GROUP)
    if waiting.num_rows:
        yield waiting.combine_chunks()
