"""What is of no more use is removed, where the credentials allow it: old pages, old checkpoints."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from embft.errors import StorageRefused, StorageUnavailable
from embft.paths import Paths
from embft.storage import Storage

log = logging.getLogger(__name__)


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
    try:
        listed = storage.objects(paths.all_pages)
    except (StorageRefused, StorageUnavailable) as error:
        log.warning("old files below %s stay: %s", paths.all_pages, error)
        return 0
    old = [it.uri for it in listed if it.modified_utc and it.modified_utc < limit]
    if not remove_if_allowed(storage, old):
        return 0
    if old:
        log.info("removed %d files of pages that are older than %d days", len(old), keep_days)
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
