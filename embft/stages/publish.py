"""`publish`: tonight's catalogue under the version that serves, then the pointer moves.

Whose vectors, the history says, not this night: a night whose model was rejected brings the champion's vectors up to
its catalogue.
"""

import logging
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

from embft.paths import Paths
from embft.promotion.ledger import read_history
from embft.promotion.old_vectors import old_vectors
from embft.promotion.pointer import read_pointer, settle_pointer
from embft.promotion.vector_sets import VectorSet, sets_of
from embft.promotion.vectors import publish_vectors
from embft.results import Champion, RunSpec, StageResult
from embft.stages.models import served_model
from embft.stages.retention import remove_if_allowed
from embft.stages.stage import Context, Outcome, Stage, open_model, run_stage
from embft.storage import Storage

log = logging.getLogger(__name__)


def run(model: str, day: date, *, include: Path, force: bool = False) -> StageResult:
    """Publish the catalogue's vectors, or return a result that stands.

    Args:
        model: The model's name.
        day: The night's day.
        include: The project's `include` folder.
        force: Look again even where the result is up to date; vectors that are there are never encoded anew.

    Returns:
        The committed result.

    Raises:
        ConfigError: An earlier stage has no result, or the champion's weights are gone.
        DataRejected: An earlier stage rejected the data.
    """
    _, storage, paths = open_model(model, include)
    champion = read_history(storage, paths).champion
    serving = _serving(storage, paths, champion) if champion else None
    if serving and serving.day > day and not force:
        # A newer night has overtaken this one, which has nothing left to do: what it came to stands.
        result = storage.read_result(paths.stage(day, STAGE.name))
        if result:
            return result.model_copy(update={"reused": True})
    # A result says nothing of what was removed, or where the pointer was moved, since it was written.
    is_undone = champion is not None and (serving is None or serving.day < day)
    return run_stage(STAGE, model, day, include=include, force=force or is_undone)


def _serving(storage: Storage, paths: Paths, champion: Champion) -> VectorSet | None:
    """Give the champion's newest vectors, if the pointer is there."""
    sets, pointer = sets_of(storage, paths, champion), read_pointer(storage, paths)
    return pointer if sets and pointer == sets[0] else None


def _champion(storage: Storage, paths: Paths, run: RunSpec) -> Champion | None:
    return read_history(storage, paths).champion


def _work(context: Context) -> Outcome:
    run, storage, paths, champion = context.run, context.storage, context.paths, context.reference
    if champion is None:
        return _not_published(None, "no version serves yet, so there are no vectors to publish")
    catalogue, day = context.inputs["preprocess_ranks"].outputs["items/items.parquet"], run.day
    sets, pointer = sets_of(storage, paths, champion), read_pointer(storage, paths)
    newest = max([*sets, *([pointer] if pointer else [])], key=lambda it: it.age, default=None)
    if newest and newest.day > day:
        if sets or champion.day != day:
            settle_pointer(storage, paths)
            reason = f"vectors of the catalogue of {newest.day} serve, which is newer than this night's"
            return _not_published(champion, reason)
        # An old night's model was made to serve: what it has to find is today's catalogue nevertheless.
        catalogue, day = newest.catalogue, newest.day
    published = publish_vectors(
        storage,
        paths,
        champion,
        catalogue,
        day,
        load=partial(served_model, context, champion),
        folder=context.folder,
        items_per_shard=run.config.publish.items_per_shard,
    )
    serving = settle_pointer(storage, paths)
    _remove_old(context)
    figures = _figures(published, was_there=any(it.shards == published.shards for it in sets))
    if serving is None or (serving.version, serving.weights) != (published.version, published.weights):
        reason = f"version {champion.version} no longer serves, so the pointer did not move to its vectors"
        return Outcome(files={}, figures={**figures, "published": False}, reason=reason)
    return Outcome(files={}, figures={**figures, "published": True, "pointer": paths.current_vectors})


def _not_published(champion: Champion | None, reason: str) -> Outcome:
    figures = {"version": champion.version if champion else None, "published": False}
    return Outcome(files={}, figures=figures, reason=reason)


def _figures(published: VectorSet, *, was_there: bool) -> dict[str, Any]:
    """Say what publishing took; counts are of this night's work."""
    encoding = None if was_there else published.encoding
    return {
        "version": published.version,
        "catalogue_of": published.day.isoformat(),
        "dimensions": published.dimensions,
        "items": published.items,
        "encoded": 0 if was_there else published.encoded,
        "reused": published.items if was_there else published.reused,
        "estimate": encoding and {"seconds": encoding.estimated_s, "bytes": encoding.estimated_bytes},
        "seconds": encoding.seconds if encoding else 0.0,
        "bytes": sum(it.size_bytes for it in published.shards),
    }


def _remove_old(context: Context) -> None:
    storage, paths = context.storage, context.paths
    listed = storage.objects(paths.all_vectors)
    keep = context.run.config.publish.keep_previous
    # The history is read last: a champion of this moment keeps its vectors.
    old = old_vectors(storage, paths, listed, read_history(storage, paths), keep, now=datetime.now(UTC))
    if old and remove_if_allowed(storage, [it.uri for it in old]):
        log.info("removed %d files of vectors that nobody needs any more", len(old))


STAGE = Stage(
    "publish",
    needs=("preprocess_ranks",),
    after=("validate_ranks",),
    settings=lambda run: [run.day, run.config.publish],
    work=_work,
    reference=_champion,
)
