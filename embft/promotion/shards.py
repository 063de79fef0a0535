"""A shard of vectors: some rows of the catalogue as a Parquet file, whose name tells what it holds and its digest.

An object of S3 is whole or not there, and its name tells its rows and its sha256: nothing else must be kept in step for
an interrupted publishing to go on. Of two processes at once, neither replaces what the other has written.
"""

import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embft.errors import DataRejected, ObjectMissing
from embft.results import Artifact, digest_of
from embft.storage import Storage, StoredObject, sha256_of

log = logging.getLogger(__name__)

_NAME = re.compile(r"/part-(?P<number>\d{5})-(?P<rows>[0-9a-f]{16})-(?P<sha256>[0-9a-f]{64})\.parquet$")
_ROW_GROUP = 8192
_ENCODED = b"embft.encoded"


@dataclass(frozen=True)
class ShardRows:
    """The rows of a shard.

    Args:
        number: Of the shard, from 0.
        start: First row's place in the catalogue.
        items: Columns id and text.
        hashes: sha256 of each text.
        weights: Digest of the model's files.
    """

    number: int
    start: int
    items: pa.Table
    hashes: pa.Array
    weights: str

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.hashes)

    @cached_property
    def digest(self) -> str:
        """What the shard's vectors depend on: the model, and each row's id and text."""
        texts = hashlib.sha256(b"".join(self.hashes.to_pylist())).hexdigest()
        return digest_of([self.weights, self.items["id"].to_pylist(), texts])[:16]


@dataclass(frozen=True)
class Shard:
    """A shard in S3.

    Args:
        artifact: Its file.
        encoded: Rows that were encoded for it; the others' vectors were taken over.
        dimensions: Of a vector.
    """

    artifact: Artifact
    encoded: int
    dimensions: int


def rows_of_shards(items: pa.Table, weights: str, items_per_shard: int) -> Iterator[ShardRows]:
    """Cut the catalogue into shards.

    Args:
        items: Columns id and text.
        weights: Digest of the model's files.
        items_per_shard: Rows of a shard.

    Yields:
        Each shard's rows, in the catalogue's order.
    """
    for number, start in enumerate(range(0, items.num_rows, items_per_shard)):
        rows = items.slice(start, items_per_shard)
        hashes = [hashlib.sha256(text.encode()).digest() for text in rows["text"].to_pylist()]
        yield ShardRows(number, start, rows, pa.array(hashes, pa.binary(32)), weights)


def write_shard(
    storage: Storage, prefix_uri: str, folder: Path, rows: ShardRows, vectors: NDArray[np.float32], encoded: int
) -> Shard:
    """Write a shard and upload it.

    Args:
        storage: S3.
        prefix_uri: Of the set.
        folder: Scratch folder; the file is gone afterwards.
        rows: Its rows.
        vectors: Their vectors, float32 [rows, dim].
        encoded: How many of them were encoded.

    Returns:
        The shard.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    table = pa.table(
        {
            "id": rows.items["id"],
            "norm": pa.array(np.linalg.norm(vectors, axis=1)),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
            "text_sha256": rows.hashes,
        }
    ).replace_schema_metadata({_ENCODED: str(encoded)})
    path = folder / "shard.parquet"
    # Neither helps with vectors or digests, and both cost time.
    pq.write_table(table, path, row_group_size=_ROW_GROUP, use_dictionary=False, compression="none")
    name = f"part-{rows.number:05d}-{rows.digest}-{sha256_of(path)}.parquet"
    artifact = storage.upload(path, f"{prefix_uri}/{name}")
    path.unlink()
    return Shard(artifact, encoded, vectors.shape[1])


def read_shards(storage: Storage, shards: Sequence[Artifact], folder: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Read a whole set's vectors into memory, as whoever serves them does.

    Args:
        storage: S3.
        shards: Of the set, in its order.
        folder: Scratch folder; it takes one shard.

    Returns:
        Ids, and their vectors, float32 [items, dim].

    Raises:
        DataRejected: A shard is not the one that was published.
        ObjectMissing: A shard is gone.
        StorageUnavailable: S3 did not answer.
    """
    ids: list[str] = []
    vectors: list[NDArray[np.float32]] = []
    for shard in shards:
        path = storage.fetch(shard, folder / "shard.parquet")
        table = pq.read_table(path, columns=["id", "vector"])
        path.unlink()
        ids += table["id"].to_pylist()
        column = table["vector"].combine_chunks()
        vectors.append(column.flatten().to_numpy().reshape(-1, column.type.list_size))
    return ids, np.concatenate(vectors)


def shard_bytes(rows: ShardRows, dimensions: int) -> int:
    """Tell a shard's size beforehand, to a few percent: its columns, uncompressed.

    Args:
        rows: Its rows.
        dimensions: Of a vector.

    Returns:
        The size in bytes.
    """
    ids = sum(map(len, rows.items["id"].to_pylist()))
    return ids + len(rows) * (4 + 4 + 4 * dimensions + 32)


def kept_shards(storage: Storage, prefix_uri: str, folder: Path, shards: Sequence[ShardRows]) -> dict[int, Shard]:
    """Find the shards that an interrupted process has left, and check each.

    Args:
        storage: S3.
        prefix_uri: Of the set.
        folder: Scratch folder.
        shards: Those that the set shall have.

    Returns:
        Number → shard, those that are there and whole.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    wanted = {it.number: it for it in shards}
    kept: dict[int, Shard] = {}
    for stored in storage.objects(prefix_uri):
        name = _NAME.search(stored.uri)
        rows = wanted.get(int(name["number"])) if name else None
        if name is None or rows is None or rows.number in kept or name["rows"] != rows.digest:
            continue
        shard = _checked(storage, stored, name["sha256"], folder)
        if shard:
            kept[rows.number] = shard
    return kept


def _checked(storage: Storage, stored: StoredObject, sha256: str, folder: Path) -> Shard | None:
    artifact, path = Artifact(uri=stored.uri, size_bytes=stored.size_bytes, sha256=sha256), folder / "kept.parquet"
    try:
        storage.fetch(artifact, path)
    except (DataRejected, ObjectMissing) as error:
        log.warning("a shard of an interrupted publishing is written anew: %s", error)
        return None
    schema = pq.read_schema(path)
    path.unlink()
    return Shard(artifact, int(schema.metadata[_ENCODED]), schema.field("vector").type.list_size)
