"""`evaluate`: base, champion and challenger on the same held-out sessions."""

from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embft.promotion.evaluation_record import Evaluation, Measures
from embft.stages.models import (
    Vocabulary,
    base_model,
    challenger_weights,
    champion_model,
    saved_model,
    sessions_of,
    settings_of,
    tracker_of,
    vocabulary,
)
from embft.stages.rank_reference import shaped_by
from embft.stages.stage import Context, Outcome, Stage, run_stage

if TYPE_CHECKING:
    from embft.finetuning.models import EmbeddingsModelInterface


def _work(context: Context) -> Outcome:
    from embft.finetuning.catalogue import rank_catalogue
    from embft.finetuning.paired import PairedFineTuningInputsDataset
    from embft.finetuning.registry import find_confidences, find_ranker, make_loss
    from embft.finetuning.validation import validation_loss
    from embft.promotion.evaluation import per_query_table

    run, training, settings = context.run, context.run.config.training, settings_of(context.run)
    items_set, retriever = vocabulary(pq.read_table(context.fetch("preprocess_ranks", "items/items.parquet")))
    earlier = [*sessions_of(context, "train"), *sessions_of(context, "validation")]
    test = PairedFineTuningInputsDataset(sessions_of(context, "test"), settings.seed, clicks_of=earlier)
    sessions = test.not_irrelevant
    challenger = saved_model(context, challenger_weights(context))
    models = {"base": base_model(context), "champion": champion_model(context), "challenger": challenger}
    ranking: Any = {
        "ranker": find_ranker(settings.ranker),
        "is_similarity": settings.is_similarity,
    }
    values, measures = {}, {}
    for name, model in models.items():
        if model is None:
            continue
        loss = validation_loss(
            model,
            sessions,
            items_set,
            retriever,
            make_loss(settings.loss_func),
            training.params,
            batch_size=settings.batch_size,
            **ranking,
            confidence_calculator=find_confidences(settings.confidence_calculator),
        )
        values[name] = {
            "val_loss": loss.per_session,
            **rank_catalogue(model, sessions, items_set, retriever, **ranking),
        }
        means = {measure: float(figures.mean()) for measure, figures in values[name].items() if measure != "val_loss"}
        measures[name] = Measures(val_loss=loss.mean, **means)
    evaluation = Evaluation(
        model=run.model,
        day=run.day,
        test_from=run.test_from,
        inputs_sha256=context.inputs["preprocess_ranks"].outputs["inputs/test.parquet"].sha256,
        loss_func=str(settings.loss_func),
        n_sessions=len(sessions),
        n_items=len(items_set),
        models=measures,
    )
    evaluation_path, table_path = context.folder / "evaluation.json", context.folder / "per_query.parquet"
    evaluation_path.write_bytes(evaluation.to_json())
    pq.write_table(per_query_table(sessions, values), table_path)
    _track(context, evaluation.models)
    return Outcome(
        files={"evaluation.json": evaluation_path, "per_query.parquet": table_path},
        figures={
            **evaluation.model_dump(mode="json"),
            "rank_distribution": {
                "shaped_by": shaped_by(run),
                "models": _rank_distributions(context, challenger, Vocabulary(items_set, retriever)),
            },
        },
        links=context.inputs["fine_tune"].links,
    )


def _rank_distributions(
    context: Context, challenger: "EmbeddingsModelInterface", known: Vocabulary
) -> dict[str, dict[str, Any]]:
    """Say how two models' ranks of the test sessions are spread, and how far clicked results lead.

    The models are the one that ranked the inputs, and the challenger.

    Later nights compare their ranks with them, see `embft.stages.rank_reference`. Theirs are of the challenger, where
    it is promoted, or of the base, which ranks the inputs while there is no champion: no other model is asked for.
    """
    from embft.finetuning.ranks import fill_ranks
    from embft.finetuning.registry import find_ranker
    from embft.finetuning.tables import inputs_from_table
    from embft.validation.drift import summarise
    from embft.validation.rank_frame import mean_lead

    test = pq.read_table(context.fetch("preprocess_ranks", "inputs/test.parquet"))
    ranked = inputs_from_table(test.drop_columns(["ranks"]))
    fill_ranks(challenger, ranked, *known, find_ranker(context.run.config.training.settings.ranker))
    ranked_by = context.inputs["preprocess_ranks"].figures["ranked_by"]
    given = pa.array([list(it.ranks.values()) for it in ranked], pa.list_(pa.float64()))
    column = test.schema.get_field_index("ranks")
    tables = {ranked_by: test, "challenger": test.set_column(column, "ranks", given)}
    is_similarity = context.run.config.training.settings.is_similarity
    return {
        name: {
            **summarise(pc.list_flatten(table["ranks"]).to_numpy(), table.num_rows),
            "lead": mean_lead(table, is_similarity=is_similarity),
        }
        for name, table in tables.items()
    }


def _track(context: Context, models: dict[str, Any]) -> None:
    """Add the held-out measures to the training's MLflow run, where people compare nights."""
    tracker_of(context).log_to(
        context.inputs["fine_tune"].figures["mlflow_run_id"],
        {f"test.{name}.{key}": value for name, it in models.items() for key, value in it.model_dump().items()},
    )


STAGE = Stage(
    "evaluate",
    needs=("preprocess_ranks", "fine_tune"),
    settings=lambda run: [run.config.judgements, run.config.training, run.base_model_sha256, run.champion],
    work=_work,
)
run = partial(run_stage, STAGE)
