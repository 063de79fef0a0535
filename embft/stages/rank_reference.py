"""The distribution of test ranks that a night's ranks are compared with: of the same model, on an earlier night.

The champion's was measured on the night it comes from, by `evaluate`, as that night's candidate: the ranks in that
night's inputs are of the model before it. Before there is a champion, nights compare the base model with itself.
"""

from collections.abc import Mapping
from typing import Any

from embft.paths import Paths
from embft.results import Champion, RunSpec, StageResult
from embft.stages.earlier_nights import accepted_before
from embft.storage import Storage

_OF_BASE = ("training.base_model", "its files in S3")


def shaped_by(run: RunSpec) -> dict[str, Any]:
    """Name what shapes the test ranks beside model and clicks: distributions of different settings do not compare.

    Args:
        run: The night's frozen facts.

    Returns:
        Setting → its value, JSON-able.
    """
    training = run.config.training
    return {
        "training.settings.ranker": str(training.settings.ranker),
        "training.sampled_negatives": training.sampled_negatives,
        "judgements": run.config.judgements.model_dump(mode="json"),
        **dict(zip(_OF_BASE, (training.base_model, run.base_model_sha256), strict=True)),
    }


def rank_reference(storage: Storage, paths: Paths, run: RunSpec) -> Mapping[str, Any] | str:
    """Find what to compare a night's test ranks with.

    Args:
        storage: S3.
        paths: Of the model.
        run: The night's frozen facts.

    Returns:
        A distribution, as `embft.validation.drift.summarise` makes it, and in `of` whose it is; or why there is none,
        in a clause.
    """
    if run.champion is None:
        return _of_base(storage, paths, run)
    evaluated = storage.read_result(paths.stage(run.champion.day, "evaluate"))
    if evaluated is None or not _examined(evaluated, run.champion):
        return f"no result of evaluate of {run.champion.day}, the champion's night, speaks of the champion"
    ours = {name: value for name, value in shaped_by(run).items() if name not in _OF_BASE}
    return _distribution(evaluated, "candidate", ours)


def _of_base(storage: Storage, paths: Paths, run: RunSpec) -> Mapping[str, Any] | str:
    nights = accepted_before(storage, paths, run.day, "evaluate", run.config.validation.reference_days)
    return _distribution(nights[0], "base", shaped_by(run)) if nights else "no earlier night to compare with"


def _examined(evaluated: StageResult, champion: Champion) -> bool:
    """Whether the candidate of that evaluation is the champion, file by file: its night may have been run again."""
    return bool(evaluated.figures.get("rank_distribution", {}).get("candidate") == champion.digest)


def _distribution(evaluated: StageResult, model: str, ours: Mapping[str, Any]) -> Mapping[str, Any] | str:
    told = evaluated.figures.get("rank_distribution")
    if told is None or model not in told["models"]:
        return f"evaluate of {evaluated.day} says nothing of the {model}'s ranks"
    changed = [name for name, value in ours.items() if told["shaped_by"].get(name) != value]
    if changed:
        return f"{', '.join(changed)} changed since {evaluated.day}"
    return {**told["models"][model], "of": f"the {model} on {evaluated.day}"}
