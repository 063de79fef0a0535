"""Pages that people look at are kept for some months, then removed."""

import logging
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
        old = [it.uri for it in storage.objects(paths.all_pages) if it.modified_utc and it.modified_utc < limit]
        storage.remove(old)
    except (StorageRefused, StorageUnavailable) as error:
        # No night fails for a page too many; who may not remove can let a lifecycle rule of the bucket do it.
        log.warning("old files below %s stay: %s", paths.all_pages, error)
        return 0
    if old:
        log.info("removed %d files of pages that are older than %d days", len(old), keep_days)
    return len(old)
