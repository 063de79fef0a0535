"""What is kept for a while and then removed: pages that people look at, checkpoints that nobody went on from."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from embft.errors import StorageRefused, StorageUnavailable
from embft.paths import Paths
from embft.storage import Storage, StoredObject

log = logging.getLogger(__name__)

# A night that was interrupted and never tried again; long after it, somebody may still clear its task.
_KEEP_CHECKPOINTS = timedelta(days=14)


def remove_old_pages(storage: Storage, paths: Paths, keep_days: int, *, now: datetime) -> int:
    """Remove a model's pages that were written too long ago.

    Age is counted from when a page was written, not from its night's day: those of a backfill are new.

    Args:
        storage: S3.
        paths: Of the model.
        keep_days: Age at which a page goes.
        now: The time of day, with its zone.

    Returns:
        How many files were removed.
    """
    limit = now - timedelta(days=keep_days)
    return _remove(storage, paths.all_pages, lambda it: _is_older(it, limit))


def remove_spent_checkpoints(storage: Storage, paths: Paths, prefix_uri: str, *, now: datetime) -> int:
    """Remove the checkpoints of a stage that has its result, and any of the model's that are two weeks old.

    Args:
        storage: S3.
        paths: Of the model.
        prefix_uri: Of the stage's checkpoints.
        now: The time of day, with its zone.

    Returns:
        How many files were removed.
    """
    limit = now - _KEEP_CHECKPOINTS
    return _remove(
        storage, paths.all_checkpoints, lambda it: it.uri.startswith(f"{prefix_uri}/") or _is_older(it, limit)
    )


def _is_older(stored: StoredObject, limit: datetime) -> bool:
    return stored.modified_utc is not None and stored.modified_utc < limit


def _remove(storage: Storage, prefix_uri: str, goes: Callable[[StoredObject], bool]) -> int:
    try:
        old = [it.uri for it in storage.objects(prefix_uri) if goes(it)]
        storage.remove(old)
    except (StorageRefused, StorageUnavailable) as error:
        # No night fails for a file too many; who may not remove can let a lifecycle rule of the bucket do it.
        log.warning("old files below %s stay: %s", prefix_uri, error)
        return 0
    if old:
        log.info("removed %d files below %s that are of no more use", len(old), prefix_uri)
    return len(old)
