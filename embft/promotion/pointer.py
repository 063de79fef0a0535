"""The pointer to the vectors that serve. It follows from the history of champions, as MLflow's aliases do."""

import logging

from embft.paths import Paths
from embft.promotion.ledger import read_history
from embft.promotion.vector_sets import VectorSet, read_set, sets_of
from embft.storage import Storage

log = logging.getLogger(__name__)


def read_pointer(storage: Storage, paths: Paths) -> VectorSet | None:
    """Read which vectors serve.

    Args:
        storage: S3.
        paths: Of the model.

    Returns:
        The set; None where nothing was published yet.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    return read_set(storage, paths.current_vectors)


def settle_pointer(storage: Storage, paths: Paths) -> VectorSet | None:
    """Let the pointer name the newest set of the history's champion.

    Two at once agree in the end, whoever writes last: whoever wrote looks again, until there is nothing to write.

    Args:
        storage: S3.
        paths: Of the model.

    Returns:
        The set that serves now; None where nobody is champion, or the champion has no vectors yet: then the pointer
        stays where it is, and `publish` moves it.

    Raises:
        ConfigError: The history cannot be read.
        StorageUnavailable: S3 did not answer; the same call again completes it.
    """
    while True:
        champion = read_history(storage, paths).champion
        newest = next(iter(sets_of(storage, paths, champion)), None) if champion else None
        if newest is None:
            return None
        current = read_pointer(storage, paths)
        if current == newest:
            return newest
        if current and (current.version, current.weights) == (newest.version, newest.weights):
            if current.day > newest.day:
                log.warning("%s is gone or incomplete, and older vectors do not take its place", current.shards)
                return current
        # Last of all that belongs to the set: whoever reads the pointer finds every shard that it names.
        storage.write(paths.current_vectors, newest.to_json())
        log.info("vectors of version %s, catalogue of %s, serve", newest.version, newest.day)
