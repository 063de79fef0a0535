"""What is kept for a while and then removed: pages that people look at, checkpoints that nobody went on from."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from embft.errors import StorageRefused, StorageUnavailable
from embft.paths import Paths
from embft.storage import Storage, StoredObject

log = logging.getLogger(__name__)

# A night that was interrupted and never tried again; long after it, somebody may still clear its task.
KEEP_CHECKPOINTS = timedelta(days=14)


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
    limit = now - KEEP_CHECKPOINTS
    return _remove(
        storage, paths.all_checkpoints, lambda it: it.uri.startswith(f"{prefix_uri}/") or _is_older(it, limit)
    )


def remove_below(storage: Storage, prefix_uri: str) -> None:
    """Remove all that lies below a prefix and nobody needs; no night fails for it.

    Args:
        storage: S3.
        prefix_uri: The prefix.
    """
    _remove(storage, f"{prefix_uri}/", lambda it: True)


def _is_older(stored: StoredObject, limit: datetime) -> bool:
    return stored.modified_utc is not None and stored.modified_utc < limit


def _remove(storage: Storage, prefix_uri: str, goes: Callable[[StoredObject], bool]) -> int:
    try:
        old = [it.uri for it in storage.objects(prefix_uri) if goes(it)]
    except (StorageRefused, StorageUnavailable) as error:
        log.warning("old files below %s stay: %s", prefix_uri, error)
        return 0
    if not old or not remove_if_allowed(storage, old):
        return 0
    log.info("removed %d files below %s that are of no more use", len(old), prefix_uri)
    return len(old)


def remove_if_allowed(storage: Storage, uris: Sequence[str]) -> bool:
    """Remove objects that nobody needs; no night fails for one too many.

    Args:
        storage: S3.
        uris: Of the objects, in one bucket.

    Returns:
        Whether they are gone.
    """
    try:
        storage.remove(uris)
    except (StorageRefused, StorageUnavailable) as error:
        # Who may not remove can let a lifecycle rule of the bucket do it.
        log.warning("%d old objects stay in S3, %s among them: %s", len(uris), uris[0], error)
        return False
    return True
