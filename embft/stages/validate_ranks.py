"""`validate_ranks`: the fine-tuning inputs under the suite `ranks`, against the model's ranks of an earlier night."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from embft.stages.rank_reference import rank_reference
from embft.stages.stage import Context, Outcome, Stage, docs_link, files_below, run_stage

# Of vectors of unit length; a ranker of one's own may give anything.
RANGES = {"cosine_similarity": (-1.0, 1.0), "euclidean_distance": (0.0, 2.0)}


def _work(context: Context) -> Outcome:
    from embft.validation.rank_frame import Ranking
    from embft.validation.ranks import PARTS, check_ranks

    docs, settings = context.folder / "docs", context.run.config.training.settings
    reference: Mapping[str, Any] | str = context.reference
    pages = context.paths.pages(context.run.day, "validate_ranks")
    ranked_by = context.inputs["preprocess_ranks"].figures["ranked_by"]
    verdict = check_ranks(
        {part: context.fetch("preprocess_ranks", f"inputs/{part}.parquet") for part in PARTS},
        context.run.config.validation.rules("ranks"),
        vectors=context.fetch("preprocess_ranks", "items/vectors.parquet"),
        ranking=Ranking(RANGES.get(str(settings.ranker)), settings.is_similarity, ranked_by == "champion"),
        reference=reference,
        docs_folder=docs,
        subject=context.run.subject,
    )
    return Outcome(
        files={},
        figures={
            "ranked_by": ranked_by,
            "compared_with": reference if isinstance(reference, str) else reference["of"],
            **verdict.figures,
            "rules": [rule.model_dump(mode="json") for rule in verdict.verdict.rules],
        },
        status="rejected" if verdict.reasons else "done",
        reason=verdict.reasons[0] if verdict.reasons else None,
        links=docs_link(context.run.config, pages, context.attempt_uri),
        pages=files_below(docs, "docs"),
    )


STAGE = Stage(
    "validate_ranks",
    needs=("preprocess_ranks",),
    settings=lambda run: [
        [rule.effect for rule in run.config.validation.rules("ranks")],
        run.config.training.settings.ranker,
        run.config.training.settings.is_similarity,
        run.subject,
    ],
    work=_work,
    reference=rank_reference,
)
run = partial(run_stage, STAGE)
