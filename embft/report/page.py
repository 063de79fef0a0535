"""One night as one self-contained HTML page: the decision first, then the figures it rests on."""

from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from embft.paths import Paths
from embft.promotion.evaluation_record import Evaluation
from embft.promotion.gate import Decision
from embft.report.curve import curve_svg
from embft.results import Record, RunSpec, StageResult
from embft.storage import Storage

MEASURES = {
    "val_loss": "Validation loss",
    "ndcg_at_10": "nDCG@10",
    "mrr_at_10": "MRR@10",
    "recall_at_10": "Recall@10",
}


class Facts(Record):
    """All that the page shows."""

    run: RunSpec
    evaluation: Evaluation
    decision: Decision
    stages: dict[str, StageResult]
    training: dict[str, Any]


def gather(storage: Storage, paths: Paths, run: RunSpec, evaluation: Evaluation, decision: Decision) -> Facts:
    """Collect what the earlier stages of a night have written.

    Args:
        storage: S3.
        paths: Of the model.
        run: The night's frozen facts.
        evaluation: Its measures.
        decision: The gate's word.

    Returns:
        The facts of the page.
    """
    names = ("plan", "validate_sessions", "preprocess_ranks", "validate_ranks", "fine_tune", "evaluate")
    found = {name: storage.read_result(paths.stage(run.day, name)) for name in names}
    stages = {name: result for name, result in found.items() if result is not None}
    history = storage.read_json(stages["fine_tune"].outputs["history.json"].uri)
    return Facts(run=run, evaluation=evaluation, decision=decision, stages=stages, training=history or {})


def render(facts: Facts) -> str:
    """Write the page. Every text is escaped: queries and item texts are strangers' words.

    Args:
        facts: From `gather`.

    Returns:
        HTML.
    """
    environment = Environment(
        loader=PackageLoader("embft.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    sessions = facts.stages["validate_sessions"].figures
    return environment.get_template("page.html.j2").render(
        facts=facts,
        measures=MEASURES,
        pulled=sessions["pulled"],
        inputs=facts.stages["preprocess_ranks"].figures,
        broken=_broken_rules(facts),
        curve=curve_svg(_losses(facts.training.get("records", []))),
    )


def _broken_rules(facts: Facts) -> list[dict[str, Any]]:
    rules = [
        rule
        for stage in ("validate_sessions", "validate_ranks")
        for rule in facts.stages[stage].figures.get("rules", [])
    ]
    return [rule for rule in rules if not rule["success"]]


def _losses(records: Sequence[dict[str, Any]]) -> list[tuple[int, float]]:
    return [(record["step"], record["val_loss"]) for record in records]
