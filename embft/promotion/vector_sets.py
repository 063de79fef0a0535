"""Sets of vectors in S3: a catalogue's vectors under one version. Readable without torch."""

import logging
import os
from collections.abc import Sequence
from datetime import date, datetime

from pydantic import Field

from embft.errors import ConfigError
from embft.paths import Paths
from embft.results import Artifact, Champion, Record
from embft.storage import Storage, StoredObject

log = logging.getLogger(__name__)


class Encoding(Record):
    """What encoding was said to take, and what it took. Of the process that completed the set."""

    items: int = Field(description="Items that it encoded; a process that was killed before may have encoded others.")
    estimated_s: float = Field(description="From the time that a sample took.")
    seconds: float
    estimated_bytes: int = Field(description="Of the shards that it wrote.")
    written_bytes: int


class VectorSet(Record):
    """`manifest.json` of a set, and the pointer `vectors/current.json`, which is a copy of one.

    Whoever reads vectors reads the pointer, then the shards that it names; queries are encoded with `version`.
    """

    model: str
    version: str
    weights: str = Field(description="Digest of the version's files, see `weights_digest`.")
    day: date = Field(description="The newest night whose catalogue it is.")
    dimensions: int
    items: int
    catalogue: Artifact
    shards: tuple[Artifact, ...] = Field(
        description="Parquet, rows in the catalogue's order: id, vector (float32, of unit length, or zeros where the "
        "model knows no token of the text), norm (1, or 0 for zeros), text_sha256."
    )
    encoded: int = Field(description="Items that were encoded for it.")
    reused: int = Field(description="Items whose vectors were taken over from an earlier set of the version.")
    encoding: Encoding | None = Field(None, description="None: nothing had to be encoded.")
    written_utc: datetime = Field(description="When it was made, or became the newest again.")

    @property
    def age(self) -> tuple[date, datetime]:
        """What sets of a version are ordered by: the set of the newest night's catalogue is the one that serves."""
        return (self.day, self.written_utc)


def sets_of(storage: Storage, paths: Paths, champion: Champion) -> list[VectorSet]:
    """Find a version's complete sets.

    Args:
        storage: S3.
        paths: Of the model.
        champion: The version; sets of other weights that once had its number are none of its.

    Returns:
        The sets, the newest first.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    sets = complete_sets(storage, storage.objects(paths.vectors_of(champion.version)))
    return [it for it in sets if it.weights == champion.digest]


def complete_sets(storage: Storage, listed: Sequence[StoredObject]) -> list[VectorSet]:
    """Read the manifests among some objects, those whose shards are all there.

    Args:
        storage: S3.
        listed: All objects below the sets' prefixes.

    Returns:
        The sets, the newest first.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    sizes = {it.uri: it.size_bytes for it in listed}
    manifests = [uri for uri in sizes if uri == Paths.manifest(os.path.dirname(uri))]
    sets = [it for it in (read_set(storage, uri) for uri in manifests) if it is not None]
    whole = [it for it in sets if all(sizes.get(shard.uri) == shard.size_bytes for shard in it.shards)]
    return sorted(whole, key=lambda it: it.age, reverse=True)


def read_set(storage: Storage, uri: str) -> VectorSet | None:
    """Read a manifest, or the pointer.

    Args:
        storage: S3.
        uri: Its address.

    Returns:
        The set; None where there is none that this version of embft can read.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    raw = storage.read(uri)
    try:
        return None if raw is None else VectorSet.from_json(raw, uri)
    except ConfigError as error:
        log.warning("%s; it counts as missing", error)
        return None
