"""The catalogue's vectors under a champion: Parquet shards, then their manifest, which is the commit point."""

import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embft.errors import DataRejected
from embft.paths import Paths
from embft.promotion.known_vectors import KnownVectors, known_vectors
from embft.promotion.shards import Shard, ShardRows, kept_shards, rows_of_shards, shard_bytes, write_shard
from embft.promotion.vector_sets import Encoding, VectorSet, sets_of
from embft.results import Artifact, Champion
from embft.storage import Storage

if TYPE_CHECKING:
    from embft.finetuning.models import EmbeddingsModelInterface

log = logging.getLogger(__name__)

_SAMPLE, _WARM_UP = 256, 8


def publish_vectors(
    storage: Storage,
    paths: Paths,
    champion: Champion,
    catalogue: Artifact,
    day: date,
    *,
    load: "Callable[[], EmbeddingsModelInterface]",
    folder: Path,
    items_per_shard: int,
) -> VectorSet:
    """Give a version's vectors of a catalogue; those that are not there yet are made. The pointer stays.

    A set that is whole is taken as it is. Shards that an interrupted call left are kept, and vectors of texts that the
    version's newest earlier set holds are taken over: a changed catalogue costs its changed items. Memory holds one
    shard; the scratch folder holds as much as the vectors that are taken over.

    Args:
        storage: S3.
        paths: Of the model.
        champion: The version.
        catalogue: Parquet with columns id and text.
        day: The night whose catalogue it is.
        load: Loads the version's model; called only where something must be encoded.
        folder: Scratch folder.
        items_per_shard: Rows of a shard.

    Returns:
        The set, committed.

    Raises:
        DataRejected: The model gives vectors that are not finite; the catalogue is empty, or was changed after it was
            written.
        StorageRefused: The catalogue is gone.
        StorageUnavailable: S3 did not answer; the same call again goes on where this one broke off.
    """
    sets = sets_of(storage, paths, champion)
    standing = next((it for it in sets if it.catalogue.sha256 == catalogue.sha256), None)
    prefix = paths.vectors(champion.version, catalogue.sha256)
    if standing:
        made = _of_night(standing, day, sets[0])
        if made == standing:
            return standing
    else:
        items = pq.read_table(storage.fetch(catalogue, folder / "catalogue.parquet"), columns=["id", "text"])
        if not items.num_rows:
            raise DataRejected(f"{catalogue.uri} has no item, so there is nothing to publish; check catalogue.uri")
        shards = list(rows_of_shards(items, champion.digest, items_per_shard))
        earlier = sets[0] if sets else None
        whole, encoding = _whole_set(_Encoder(storage, prefix, folder, load), shards, earlier)
        encoded = sum(it.encoded for it in whole)
        made = VectorSet(
            model=champion.model,
            version=champion.version,
            weights=champion.digest,
            day=day,
            dimensions=whole[0].dimensions,
            items=items.num_rows,
            catalogue=catalogue,
            shards=tuple(it.artifact for it in whole),
            encoded=encoded,
            reused=items.num_rows - encoded,
            encoding=encoding,
            written_utc=_after(sets),
        )
    storage.write(Paths.manifest(prefix), made.to_json())
    return made


def _of_night(standing: VectorSet, day: date, newest: VectorSet) -> VectorSet:
    """Let a set that stands be the newest, where it is: a catalogue that is as it was before a change serves again."""
    if day < newest.day:
        return standing
    since = {} if standing == newest else {"written_utc": _after([newest])}
    return standing.model_copy(update={"day": day, **since})


def _after(sets: Sequence[VectorSet]) -> datetime:
    """Give the time, or what comes after the newest set's, whose writer's clock may be ahead of this one's."""
    return max([datetime.now(UTC), *(it.written_utc + timedelta(microseconds=1) for it in sets[:1])])


def _whole_set(
    encoder: "_Encoder", shards: Sequence[ShardRows], earlier: VectorSet | None
) -> tuple[list[Shard], Encoding | None]:
    """Give every shard, those that an interrupted call left and those that were missing."""
    kept = kept_shards(encoder.storage, encoder.prefix_uri, encoder.folder, shards)
    missing = [it for it in shards if it.number not in kept]
    known = known_vectors(encoder.storage, earlier, shards, encoder.folder) if earlier and missing else None
    written, encoding = encoder.write(missing, known)
    return [(kept | written)[it.number] for it in shards], encoding


class _Encoder:
    """Writes shards, with vectors that are known or else encoded."""

    def __init__(
        self, storage: Storage, prefix_uri: str, folder: Path, load: "Callable[[], EmbeddingsModelInterface]"
    ) -> None:
        self.storage = storage
        self.prefix_uri = prefix_uri
        self.folder = folder
        self._model = cache(load)
        self._seconds = 0.0

    def write(
        self, shards: Sequence[ShardRows], known: KnownVectors | None
    ) -> tuple[dict[int, Shard], Encoding | None]:
        """Write shards in their order; say first what it will take."""
        unknown = {
            it.number: np.arange(len(it)) if known is None else np.flatnonzero(~known.is_known(it)) for it in shards
        }
        is_encoding = any(map(len, unknown.values()))
        estimate = _estimate(self._model(), shards, unknown) if is_encoding else None
        written = {it.number: self._write(it, known, unknown[it.number]) for it in shards}
        if estimate is None:
            return written, None
        n_bytes = sum(it.artifact.size_bytes for it in written.values())
        log.info("encoded %s items in %.0f s, %s", f"{estimate.items:,}", self._seconds, _megabytes(n_bytes))
        return written, estimate.model_copy(update={"seconds": self._seconds, "written_bytes": n_bytes})

    def _write(self, rows: ShardRows, known: KnownVectors | None, unknown: NDArray[np.int64]) -> Shard:
        vectors = np.zeros((len(rows), self._model().dim), np.float32) if known is None else known.vectors(rows)
        if len(unknown):
            started = time.monotonic()
            vectors[unknown] = _encoded(self._model(), rows, unknown)
            self._seconds += time.monotonic() - started
        return write_shard(self.storage, self.prefix_uri, self.folder, rows, vectors, len(unknown))


def _encoded(model: "EmbeddingsModelInterface", rows: ShardRows, unknown: NDArray[np.int64]) -> NDArray[np.float32]:
    texts = rows.items["text"].take(unknown).to_pylist()
    row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    vectors = model.encode_items(list(row_of)).astype(np.float32, copy=False)[[row_of[text] for text in texts]]
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        item = rows.items["id"][int(unknown[broken[0]])].as_py()
        raise DataRejected(
            f"the model gives {len(broken)} of {len(texts)} items a vector that is not finite, item {item!r} among "
            "them; nothing is published: roll back to a version that works"
        )
    return vectors


def _estimate(
    model: "EmbeddingsModelInterface",
    shards: Sequence[ShardRows],
    unknown: dict[int, NDArray[np.int64]],
) -> Encoding:
    """Time the model on some of the items, and say what the whole will take."""
    n_unknown = sum(map(len, unknown.values()))
    size = min(_SAMPLE, max(1, n_unknown // 10))
    # Spread over the catalogue: its parts may have texts of other lengths.
    each = -(-n_unknown // size)
    texts = [it.items["text"][int(row)].as_py() for it in shards for row in unknown[it.number][::each]]
    model.encode_items(texts[:_WARM_UP])
    started = time.monotonic()
    model.encode_items(texts)
    seconds = (time.monotonic() - started) / len(texts) * n_unknown
    n_bytes = sum(shard_bytes(it, model.dim) for it in shards)
    log.info(
        "encoding %s of %s items: about %.0f s, %s in %d shards",
        f"{n_unknown:,}",
        f"{sum(map(len, shards)):,}",
        seconds,
        _megabytes(n_bytes),
        len(shards),
    )
    return Encoding(items=n_unknown, estimated_s=seconds, seconds=0, estimated_bytes=n_bytes, written_bytes=0)


def _megabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"
