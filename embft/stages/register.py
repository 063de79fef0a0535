"""`register`: a model that passed the gate becomes a model version, and the champion unless something hinders it.

In this order, each step repeatable, so that a kill between any two is completed by a re-run: version (found again by
its digest and day), load check, entry in the history of champions, MLflow's aliases, result.
"""

import json
import logging
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embft.promotion.aliases import misplaced_champion, settle_aliases
from embft.promotion.history import History, Step, version_of
from embft.promotion.ledger import append, read_history
from embft.promotion.registry import Registry, Version
from embft.results import Champion, RunSpec, weights_digest
from embft.stages.lineage import lineage
from embft.stages.models import candidate_weights, evaluation_of, model_folder, registry_of
from embft.stages.stage import Context, Outcome, Stage, run_stage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)


def _work(context: Context) -> Outcome:
    from embft.promotion.load_check import load_fault

    run, registry = context.run, registry_of(context.run.config)
    # Logged and compared with: fetched once, and not at all where neither is left to do.
    folder = cache(partial(model_folder, context, candidate_weights(context)))
    version = _version(context, registry, folder)
    fault = load_fault(registry, version, partial(_vectors, folder))
    figures: dict[str, Any] = {
        "version": version.number,
        "promoted": False,
        "model_uri": f"models:/{run.model}/{version.number}",
    }
    if fault:
        reason = (
            f"version {version.number} was not promoted: it {fault}; nothing else changed: mend that, then run "
            f"`embft register --model {run.model} --day {run.day} --force`"
        )
        return Outcome(files={}, figures=figures, status="rejected", reason=reason)

    candidate = _champion(context, version)
    moved = _moved_by_hand(context, registry, candidate)
    hindrance = _promote(context, candidate)
    settled = settle_aliases(registry, context.storage, context.paths)
    history = read_history(context.storage, context.paths)
    step = history.step_of(_request(run, candidate), version.number)
    figures |= {
        "promoted": step is not None and step.took_effect,
        "champion": version_of(history.champion),
        "warnings": [*moved, *settled],
    }
    path = context.folder / "version.json"
    path.write_text(json.dumps(figures, indent=2))
    said = hindrance or (_what_became(history, step) if step else None)
    links = context.inputs["fine_tune"].links
    return Outcome(files={"version.json": path}, figures=figures, reason=said, links=links)


def _version(context: Context, registry: Registry, folder: Callable[[], Path]) -> Version:
    """Find the version of the night's model, or make it; drop what rivals made beside it."""
    run, weights = context.run, candidate_weights(context)
    digest, run_id = weights_digest(weights), str(context.inputs["fine_tune"].figures["mlflow_run_id"])
    history = read_history(context.storage, context.paths)
    found = registry.find(digest, run.day)
    if not any(_is_free(it, digest, history) for it in found):
        logged, tags = registry.log(folder(), run_id), lineage(context, digest)
        while not _is_free(registry.make(logged, run_id, tags), digest, history):
            pass
        # Two processes may both have found none (a retry beside a worker that was taken for dead): the first stays.
        found = registry.find(digest, run.day)
    kept = next(it for it in found if _is_free(it, digest, history))
    for it in found:
        if it.number != kept.number:
            registry.drop(it.number)
    return kept


def _is_free(version: Version, digest: str, history: History) -> bool:
    """Whether a number is this model's: where somebody deleted the whole model in MLflow, it counts from 1 again."""
    known = history.known(version.number)
    return known is None or known.digest == digest


def _vectors(folder: Callable[[], Path], texts: Sequence[str]) -> "NDArray[np.float32]":
    from embft.finetuning.models import load_model

    return load_model(folder()).encode_queries(texts)


def _champion(context: Context, version: Version) -> Champion:
    evaluation = evaluation_of(context)
    loss = evaluation.models[evaluation.candidate]["val_loss"]
    assert loss is not None, "the gate passes no model without a loss"
    return Champion(
        model=context.run.model,
        version=version.number,
        day=context.run.day,
        mlflow_run_id=str(context.inputs["fine_tune"].figures["mlflow_run_id"]),
        weights=candidate_weights(context),
        val_loss=loss,
    )


def _request(run: RunSpec, candidate: Champion) -> str:
    forced = " forced" if run.promote == "force" else ""
    return f"night {run.day} {candidate.digest[:12]}{forced}"


def _moved_by_hand(context: Context, registry: Registry, candidate: Champion) -> list[str]:
    """Say that the alias was not where the history has it, unless an earlier attempt at this was killed before it."""
    history, aliases = read_history(context.storage, context.paths), registry.aliases()
    misplaced = misplaced_champion(history, aliases)
    own = history.step_of(_request(context.run, candidate), candidate.version)
    if misplaced is None or (own and aliases.get("champion") == version_of(own.before)):
        return []
    named = aliases.get("champion")
    remedy = f"; `embft rollback --model {context.run.model} --to {named}` makes that the record" if named else ""
    warning = f"{misplaced}: it follows the history again{remedy}"
    log.warning("%s", warning)
    return [warning]


def _promote(context: Context, candidate: Champion) -> str | None:
    """Enter the promotion into the history; say why not, where something hinders it that was known before."""
    run, history = context.run, read_history(context.storage, context.paths)
    if run.promote == "never":
        return "registered, not promoted: the run was started with promote=never"
    request = _request(run, candidate)
    if history.step_of(request, candidate.version):
        return None
    if run.promote == "auto" and (hindrance := _hindrance(history, candidate)):
        return hindrance
    append(
        context.storage,
        context.paths,
        "promotion",
        candidate,
        leaves=history.champion,
        request=request,
        why=context.inputs["gate"].reason or "passed the gate",
        forced=run.promote == "force",
    )
    return None


def _hindrance(history: History, candidate: Champion) -> str | None:
    """Say why a version may not serve although it passed the gate; None where it may."""
    champion, left = history.champion, history.rolled_back(candidate.digest)
    remedy = f"`embft rollback --model {candidate.model} --to {candidate.version}` lets it serve all the same"
    if left:
        return (
            f"registered, not promoted: these weights were rolled back on {left.at_utc:%Y-%m-%d} by {left.who} "
            f"({left.why}); {remedy}"
        )
    if champion and champion.day > candidate.day:
        newer = f"the champion, version {champion.version}, learned from the newer day {champion.day}"
        return f"registered, not promoted: {newer}; {remedy}, and so does a run with promote=force"
    if champion and champion.day == candidate.day and champion.digest != candidate.digest:
        same = f"version {champion.version}, which serves, is of the same night, and the gate did not compare the two"
        return f"registered, not promoted: {same}; {remedy}, and so does a run with promote=force"
    return None


def _what_became(history: History, step: Step) -> str | None:
    """Say what came of a promotion that was entered, where its version does not serve now."""
    to, champion = step.change.to, history.champion
    if version_of(champion) == to.version:
        return None
    if not step.took_effect:
        return _hindrance(history, to) or f"registered, not promoted: version {version_of(champion)} serves"
    left = history.rolled_back(to.digest)
    if left:
        return f"was promoted, and rolled back on {left.at_utc:%Y-%m-%d} by {left.who} ({left.why})"
    return f"was promoted; since then version {version_of(champion)} took its place"


STAGE = Stage(
    "register",
    needs=("validate_sessions", "preprocess_ranks", "validate_ranks", "fine_tune", "evaluate", "gate"),
    settings=lambda run: run.promote,
    work=_work,
)
run = partial(run_stage, STAGE)
