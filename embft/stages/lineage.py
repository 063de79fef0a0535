"""What a registered version says about where it comes from: its tags in MLflow."""

from collections.abc import Mapping

from embft.promotion.evaluation_record import Comparison, Evaluation
from embft.promotion.registry import DAY_TAG, DIGEST_TAG
from embft.promotion_config import MAIN_CUTOFF
from embft.results import StageResult, digest_of
from embft.stages.models import evaluation_of
from embft.stages.stage import Context, code_version

_INPUTS = ("inputs/train.parquet", "inputs/test.parquet", "items/items.parquet")


def lineage(context: Context, digest: str) -> dict[str, str]:
    """Give a version's tags.

    Args:
        context: Of `register`.
        digest: Of the model's files, see `weights_digest`.

    Returns:
        Tag → value.
    """
    run, results = context.run, context.inputs
    config, evaluation = run.config, evaluation_of(context)
    in_pod = config.runtime.stages.get("fine_tune") == "pod" and config.runtime.kubernetes
    return {
        DAY_TAG: run.day.isoformat(),
        DIGEST_TAG: digest,
        "embft.candidate": evaluation.candidate,
        "embft.window": f"{run.window[0].day} to {run.window[-1].day}",
        "embft.run": context.paths.run(run.day),
        **{f"embft.sha256.{name}": results["preprocess_ranks"].outputs[name].sha256 for name in _INPUTS},
        "embft.config": digest_of(config),
        "embft.code": code_version(),
        **({"embft.image": in_pod.image} if in_pod else {}),
        "embft.base_model": config.training.base_model,
        "embft.parent": run.champion.version if run.champion else "base",
        **{f"embft.{stage}": _verdict(results[stage]) for stage in ("validate_sessions", "validate_ranks")},
        "embft.decision": results["gate"].reason or "passed",
        "embft.synthetic": str(config.synthetic).lower(),
        **_measures(evaluation),
    }


def _verdict(validated: StageResult) -> str:
    n_broken = sum(rule.get("success") is False for rule in validated.figures.get("rules", ()))
    return f"{validated.status}, {n_broken} rules broken"


def _measures(evaluation: Evaluation) -> Mapping[str, str]:
    """All measures over all queries, and the main one on every slice and guard set."""
    tags = {}
    for it in evaluation.comparisons:
        is_all = (it.kind, it.of) == ("slice", "all")
        if is_all or it.measure == f"ndcg_at_{MAIN_CUTOFF}":
            name = f"embft.{it.measure}" if is_all else f"embft.{it.kind}.{it.of}.{it.measure}"
            tags[name] = f"{it.figure:.4f}"
            if it.gain is not None:
                tags[f"{name}.gain"] = _with_interval(it, it.gain)
    return tags


def _with_interval(comparison: Comparison, gain: float) -> str:
    if comparison.low is None or comparison.high is None:
        return f"{_percent(gain)} [too few queries]"
    return f"{_percent(gain)} [{_percent(comparison.low)}, {_percent(comparison.high)}]"


def _percent(share: float) -> str:
    return f"{100 * share:+.1f} %"
