"""`register`: a challenger that passed the gate becomes a model version, and the champion unless the run forbids it.

In this order, so that a kill between any two steps is completed by a re-run: version (found again by its digest),
alias, champion's record in S3, result.
"""

import json
from datetime import UTC, datetime
from functools import partial

from embft.promotion.evaluation_record import Evaluation
from embft.promotion.registry import Registry
from embft.results import Champion, RunSpec, digest_of
from embft.stages.models import challenger_weights, evaluation_of, model_folder, newer_champion
from embft.stages.stage import Context, Outcome, Stage, code_version, run_stage


def _work(context: Context) -> Outcome:
    run, trained = context.run, context.inputs["fine_tune"]
    run_id = str(trained.figures["mlflow_run_id"])
    registry = Registry(run.config.mlflow.tracking_uri, run.model, s3_endpoint=run.config.storage.endpoint_url)
    weights = challenger_weights(context)
    digest = digest_of({name: it.sha256 for name, it in weights.items()})
    evaluation = evaluation_of(context)
    loss = evaluation.models["challenger"].val_loss

    version = registry.find(digest, run.day)
    if version is None:
        tags = _lineage(run, digest, trained.uri, evaluation)
        made = registry.add(model_folder(context, weights), run_id, tags)
        # Two processes may both have found none (a retry beside a worker that was taken for dead): the first stays.
        version = registry.find(digest, run.day) or made
        if version != made:
            registry.drop(made)
    # Its record is written after the alias: a version that has one was promoted, whatever serves by now.
    was_promoted = _record_names(context, version)
    hindrance = None if was_promoted else _hindrance(context)
    if hindrance is None and not was_promoted:
        registry.set_alias("champion", version)
        champion = Champion(
            model=run.model,
            version=version,
            day=run.day,
            mlflow_run_id=run_id,
            weights=weights,
            val_loss=loss,
            promoted_utc=datetime.now(UTC),
        )
        context.storage.write(context.paths.champion(run.day), champion.to_json())
    figures = {"version": version, "promoted": hindrance is None, "model_uri": f"models:/{run.model}/{version}"}
    path = context.folder / "version.json"
    path.write_text(json.dumps(figures, indent=2))
    return Outcome(files={"version.json": path}, figures=figures, reason=hindrance, links=trained.links)


def _record_names(context: Context, version: str) -> bool:
    uri = context.paths.champion(context.run.day)
    raw = context.storage.read(uri)
    return raw is not None and Champion.from_json(raw, uri).version == version


def _hindrance(context: Context) -> str | None:
    """Say why the version may not serve although it passed the gate; None where it may."""
    run = context.run
    if run.promote == "never":
        return "registered, not promoted: the run was started with promote=never"
    newer = newer_champion(context)
    return f"registered, not promoted: the champion learned from the newer day {newer}" if newer else None


def _lineage(run: RunSpec, digest: str, trained_uri: str, evaluation: Evaluation) -> dict[str, str]:
    challenger = evaluation.models["challenger"].model_dump()
    return {
        "embft.day": run.day.isoformat(),
        "embft.challenger": digest,
        "embft.window": f"{run.window[0].day} to {run.window[-1].day}",
        "embft.fine_tune": trained_uri,
        "embft.config": digest_of(run.config),
        "embft.code": code_version(),
        "embft.parent": run.champion.version if run.champion else run.config.training.base_model,
        "embft.synthetic": str(run.config.synthetic).lower(),
        **{f"embft.{name}": f"{figure:.6f}" for name, figure in challenger.items()},
    }


STAGE = Stage("register", needs=("fine_tune", "evaluate", "gate"), settings=lambda run: run.promote, work=_work)
run = partial(run_stage, STAGE)
