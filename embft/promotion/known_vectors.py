"""Vectors of a catalogue's texts that an earlier set of the same version holds: those need no encoding."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embft.errors import DataRejected, ObjectMissing
from embft.promotion.shards import ShardRows
from embft.promotion.vector_sets import VectorSet
from embft.storage import Storage

log = logging.getLogger(__name__)

_ROWS_AT_ONCE = 16_384


class KnownVectors:
    """Rows of a catalogue whose vectors are known, and those vectors, on disk: memory may not hold them.

    Args:
        path: File that the vectors go into; sparse where few are known.
        n_rows: Of the catalogue.
        dimensions: Of a vector.
    """

    def __init__(self, path: Path, n_rows: int, dimensions: int) -> None:
        self._path = path
        self._shape = (n_rows, dimensions)
        self._is_known = np.zeros(n_rows, dtype=bool)
        with path.open("wb") as file:
            file.truncate(n_rows * dimensions * np.dtype(np.float32).itemsize)

    def add(self, hashes: pa.Array, known: pa.RecordBatch) -> None:
        """Take over the vectors of texts that the catalogue has, too.

        Args:
            hashes: sha256 of each of the catalogue's texts.
            known: Columns text_sha256 and vector.
        """
        place = pc.index_in(hashes, value_set=known["text_sha256"])
        rows = np.flatnonzero(place.is_valid().to_numpy(zero_copy_only=False))
        vectors = known["vector"].flatten().to_numpy().reshape(-1, self._shape[1])
        self._mapped("r+")[rows] = vectors[place.drop_null().to_numpy()]
        self._is_known[rows] = True

    def is_known(self, rows: ShardRows) -> NDArray[np.bool_]:
        """Say which rows of a shard have their vector here, bool [rows]."""
        return self._is_known[rows.start : rows.start + len(rows)]

    def vectors(self, rows: ShardRows) -> NDArray[np.float32]:
        """Give a copy of a shard's vectors, float32 [rows, dim]; those that are not known are zeros."""
        return np.array(self._mapped("r")[rows.start : rows.start + len(rows)])

    def _mapped(self, mode: Literal["r", "r+"]) -> "np.memmap[Any, np.dtype[np.float32]]":
        # Mapped anew each time: pages that were touched would stay in the process's memory.
        return np.memmap(self._path, np.float32, mode, shape=self._shape)


def known_vectors(storage: Storage, earlier: VectorSet, shards: Sequence[ShardRows], folder: Path) -> KnownVectors:
    """Look the catalogue's texts up in an earlier set, a few of its rows at a time.

    Args:
        storage: S3.
        earlier: The set, of the same weights.
        shards: All of the catalogue's rows.
        folder: Scratch folder; it takes as much as the vectors that are known, and one shard.

    Returns:
        What is known. A shard that is gone or damaged costs its vectors, which are encoded anew.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    known = KnownVectors(folder / "known.vectors", sum(map(len, shards)), earlier.dimensions)
    hashes, path = pa.concat_arrays([it.hashes for it in shards]), folder / "earlier.parquet"
    for shard in earlier.shards:
        try:
            storage.fetch(shard, path)
        except (DataRejected, ObjectMissing) as error:
            log.warning("vectors of the catalogue of %s cannot be taken over: %s", earlier.day, error)
            continue
        for batch in pq.ParquetFile(path).iter_batches(_ROWS_AT_ONCE, columns=["text_sha256", "vector"]):
            known.add(hashes, batch)
        path.unlink()
    return known
