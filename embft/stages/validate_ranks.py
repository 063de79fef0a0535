"""`validate_ranks`: the fine-tuning inputs under the suite `ranks`, against the ranks of the last promoted run."""

from functools import partial
from typing import Any

import pyarrow.parquet as pq

from embft.stages.stage import Context, Outcome, Stage, docs_link, files_below, run_stage


def _work(context: Context) -> Outcome:
    from embft.validation.ranks import check_ranks

    docs = context.folder / "docs"
    pages = context.paths.pages(context.run.day, "validate_ranks")
    verdict = check_ranks(
        pq.read_table(context.fetch("preprocess_ranks", "inputs/train.parquet")),
        pq.read_table(context.fetch("preprocess_ranks", "inputs/test.parquet")),
        context.run.config.validation.rules("ranks"),
        reference=_reference(context),
        docs_folder=docs,
        subject=context.run.subject,
    )
    return Outcome(
        files={},
        figures={
            "ranked_by": _ranked_by(context),
            **verdict.figures,
            "rules": [rule.model_dump(mode="json") for rule in verdict.verdict.rules],
        },
        status="rejected" if verdict.rejected else "done",
        reason=verdict.reason,
        links=docs_link(context.run.config, pages, context.attempt_uri),
        pages=files_below(docs, "docs"),
    )


def _reference(context: Context) -> dict[str, Any] | None:
    """Give the rank distribution of the night that the champion comes from.

    None where those ranks were the base model's and tonight's are a champion's: trained models spread their ranks
    otherwise, and that is no drift of the data.
    """
    champion = context.run.champion
    if champion is None:
        return None
    result = context.storage.read_result(context.paths.stage(champion.day, "validate_ranks"))
    if result is None or result.figures["ranked_by"] != _ranked_by(context):
        return None
    distribution: dict[str, Any] = result.figures["distribution"]
    return distribution


def _ranked_by(context: Context) -> str:
    return str(context.inputs["preprocess_ranks"].figures["ranked_by"])


STAGE = Stage(
    "validate_ranks",
    needs=("preprocess_ranks",),
    settings=lambda run: [
        [rule.effect for rule in run.config.validation.rules("ranks")],
        run.champion and run.champion.day,
        run.subject,
    ],
    work=_work,
)
run = partial(run_stage, STAGE)
