"""The catalogue's vectors under a champion: Parquet shards, then one pointer moves."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embft.finetuning.models import EmbeddingsModelInterface

ITEMS_PER_SHARD = 50_000


def write_shards(
    model: EmbeddingsModelInterface, items: pa.Table, folder: Path, *, items_per_shard: int = ITEMS_PER_SHARD
) -> Iterator[Path]:
    """Encode the catalogue shard by shard.

    Args:
        model: The champion.
        items: Columns id and text.
        folder: Where the shards go.
        items_per_shard: Rows of a shard: what is held in memory at once.

    Yields:
        Each shard's file: id string, vector fixed-size list of float32 [dim] of unit length.
    """
    for number, start in enumerate(range(0, items.num_rows, items_per_shard)):
        shard = items.slice(start, items_per_shard)
        vectors = model.encode_items(shard["text"].to_pylist()).astype(np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        path = folder / f"part-{number:05d}.parquet"
        pq.write_table(pa.table({"id": shard["id"], "vector": column}), path)
        yield path
