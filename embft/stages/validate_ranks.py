"""`validate_ranks`: the fine-tuning inputs under the suite `ranks`, against the model's ranks of an earlier night."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from embft.results import StageResult, digest_of
from embft.stages.rank_reference import rank_reference
from embft.stages.stage import (
    Context,
    Draft,
    Outcome,
    accepted,
    commit,
    docs_link,
    files_below,
    open_model,
    output_digests,
    read_run,
    required_result,
)

# Of vectors of unit length; a ranker of one's own may give anything.
RANGES = {"cosine_similarity": (-1.0, 1.0), "euclidean_distance": (0.0, 2.0)}


def run(model: str, day: date, *, include: Path, force: bool = False) -> StageResult:
    """Validate a night's ranks.

    Args:
        model: The model's name.
        day: The night's day.
        include: The project's `include` folder.
        force: Validate even where the verdict is up to date.

    Returns:
        The result; `rejected` where a critical rule is broken.

    Raises:
        ConfigError: `preprocess_ranks` has no result.
        DataRejected: `preprocess_ranks` rejected the data.
    """
    _, storage, paths = open_model(model, include)
    spec = read_run(storage, paths, day)
    prepared = {"preprocess_ranks": accepted(required_result(storage, paths, day, "preprocess_ranks"))}
    reference = rank_reference(storage, paths, spec)
    draft = Draft(
        stage="validate_ranks",
        model=model,
        day=day,
        prefix=paths.stage(day, "validate_ranks"),
        inputs={**output_digests(prepared), "reference": digest_of(reference)},
        settings=[
            [rule.effect for rule in spec.config.validation.rules("ranks")],
            spec.config.training.settings.ranker,
            spec.config.training.settings.is_similarity,
            spec.subject,
        ],
        pages_prefix=paths.pages(day, "validate_ranks"),
    )

    def work(folder: Path, attempt_uri: str) -> Outcome:
        context = Context(spec, storage, paths, prepared, folder, attempt_uri)
        return _validate(context, reference, docs_link(spec.config, draft.pages_prefix, attempt_uri))

    return commit(storage, draft, work, force=force)


def _validate(context: Context, reference: Mapping[str, Any] | str, links: dict[str, str]) -> Outcome:
    from embft.validation.rank_frame import Ranking
    from embft.validation.ranks import PARTS, check_ranks

    docs, settings = context.folder / "docs", context.run.config.training.settings
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
        links=links,
        pages=files_below(docs, "docs"),
    )
