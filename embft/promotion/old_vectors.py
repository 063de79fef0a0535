"""Which vectors nobody needs any more."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from embft.paths import Paths
from embft.promotion.history import History
from embft.promotion.pointer import read_pointer
from embft.promotion.vector_sets import VectorSet, complete_sets
from embft.storage import Storage, StoredObject

# A reader that began with a set may finish with it, and a publishing that was interrupted may go on.
_GRACE = timedelta(days=1)

_Version = tuple[str, str]
"""Version and digest of its weights: an MLflow that was set up anew gives old numbers to other models."""


def old_vectors(
    storage: Storage,
    paths: Paths,
    listed: Sequence[StoredObject],
    history: History,
    keep_previous: int,
    *,
    now: datetime,
) -> list[StoredObject]:
    """Find vectors of champions that are long gone, of catalogues that have changed, and of broken attempts.

    Kept are the newest set of the champion, of its predecessor, and of `keep_previous` former champions; the set that
    the pointer names; a set for a day after a newer one took its place; whatever was written within a day; and what is
    of no version in the history.

    Args:
        storage: S3.
        paths: Of the model.
        listed: All objects below `paths.all_vectors`.
        history: Of the champions.
        keep_previous: Former champions whose vectors are kept.
        now: The time of day, with its zone.

    Returns:
        The objects.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    limit = now - _GRACE
    served = _served(history)
    previous = {(it.version, it.digest) for it in [history.previous] if it}
    kept_versions = {*served[: 1 + keep_previous], *previous}
    sets = complete_sets(storage, listed)
    kept_sets = _newest_sets([it for it in sets if _version(it) in kept_versions], limit)
    # Of a version that this history does not know: somebody may have promoted it a moment ago.
    kept_sets += [it for it in sets if _version(it) not in served]
    pointer = read_pointer(storage, paths)
    kept_sets += [pointer] if pointer else []
    named = {shard.uri for it in kept_sets for shard in it.shards}
    named |= {Paths.manifest(paths.vectors(it.version, it.catalogue.sha256)) for it in kept_sets}
    known = tuple(f"{paths.vectors_of(version)}/" for version, _ in served)
    return [
        it
        for it in listed
        if it.uri.startswith(known) and it.uri not in named and it.modified_utc is not None and it.modified_utc < limit
    ]


def _version(of: VectorSet) -> _Version:
    return (of.version, of.weights)


def _served(history: History) -> list[_Version]:
    """Name the versions that served, the champion first, then the latest before it."""
    champions = [step.after for step in reversed(history.steps) if step.after]
    return list(dict.fromkeys((it.version, it.digest) for it in champions))


def _newest_sets(sets: Sequence[VectorSet], limit: datetime) -> list[VectorSet]:
    """Of each version the newest set, and those whose place was taken after a moment."""
    kept = []
    successors: dict[_Version, list[VectorSet]] = defaultdict(list)
    for it in sorted(sets, key=lambda it: it.age, reverse=True):
        newer = successors[_version(it)]
        if all(successor.written_utc >= limit for successor in newer):
            kept.append(it)
        newer.append(it)
    return kept
