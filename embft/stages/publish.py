"""`publish`: the catalogue's vectors under the new champion, then one pointer moves."""

import json
from functools import partial

import pyarrow.parquet as pq

from embft.stages.models import challenger_weights, newer_champion, saved_model
from embft.stages.stage import Context, Outcome, Stage, run_stage


def _work(context: Context) -> Outcome:
    registered = context.inputs["register"].figures
    version = str(registered["version"])
    if not registered["promoted"]:
        reason = f"version {version} does not serve, so there is nothing to publish"
        return Outcome(files={}, figures={"version": version, "published": False}, reason=reason)

    newer = newer_champion(context)
    if newer:
        reason = f"version {version} no longer serves: the champion learned from the newer day {newer}"
        return Outcome(files={}, figures={"version": version, "published": False}, reason=reason)

    from embft.promotion.vectors import write_shards

    items = pq.read_table(context.fetch("preprocess_ranks", "items/items.parquet"))
    model = saved_model(context, challenger_weights(context))
    prefix = context.paths.vectors(version)
    shards = {path.name: path for path in write_shards(model, items, context.folder)}
    written = context.storage.upload_all(shards, prefix)
    pointer = {
        "model": context.run.model,
        "version": version,
        "day": context.run.day.isoformat(),
        "dimensions": model.dim,
        "items": items.num_rows,
        "shards": [it.model_dump() for it in written.values()],
    }
    # Last: whoever reads the pointer finds every shard that it names.
    context.storage.write(context.paths.current_vectors, json.dumps(pointer, indent=2).encode())
    figures = {key: pointer[key] for key in ("version", "dimensions", "items")}
    return Outcome(files={}, figures={**figures, "published": True, "pointer": context.paths.current_vectors})


STAGE = Stage("publish", needs=("preprocess_ranks", "fine_tune", "register"), settings=lambda run: run.day, work=_work)
run = partial(run_stage, STAGE)
