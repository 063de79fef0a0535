"""`evaluate`: base, champion and challenger on the same held-out sessions and guard sets."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embft.promotion.changed_queries import CHANGED_QUERIES
from embft.promotion.evaluation import (
    NO_GUARDS,
    Numbers,
    QueryFigures,
    comparisons,
    described,
    figures_of,
    per_query_table,
)
from embft.promotion.evaluation_record import MOST_CLICKED, Evaluation
from embft.promotion.slices import slices_of
from embft.results import weights_digest
from embft.stages.explain import queries_changed
from embft.stages.held_out import Night, night_of
from embft.stages.models import base_model, challenger_weights, champion_model, saved_model, settings_of, tracker_of
from embft.stages.rank_reference import shaped_by
from embft.stages.stage import Context, Outcome, Stage, run_stage

if TYPE_CHECKING:
    from embft.finetuning.models import EmbeddingsModelInterface
    from embft.promotion.measuring import Measured

log = logging.getLogger(__name__)


def _work(context: Context) -> Outcome:
    from embft.promotion.measuring import Measuring

    run, rules = context.run, context.run.config.evaluation
    night = night_of(context)
    measuring = Measuring(night.held_out, run.config.training.params, settings_of(run), rules.ordered_cutoffs)
    models = _models(context)
    opponent: Literal["champion", "base"] = "champion" if "champion" in models else "base"
    measured = {name: measuring(model) for name, model in models.items()}
    most_clicked = measuring.most_clicked(night.past_clicks, behind=measured["base"].catalogue)
    sets, files = _tables(context, night, measured, most_clicked)
    evaluation = _evaluation(context, night, measured, sets, opponent)
    records = {
        "evaluation.json": evaluation,
        CHANGED_QUERIES: queries_changed(context, night, measured, "challenger", opponent),
    }
    for name, record in records.items():
        files[name] = context.folder / name
        files[name].write_bytes(record.to_json())
    _track(context, evaluation)
    return Outcome(
        files=files,
        figures={
            **evaluation.model_dump(mode="json", exclude={"sets", "comparisons", "against_most_clicked"}),
            "models": evaluation.models,
            "rank_distribution": {
                "shaped_by": shaped_by(run),
                # Named as a champion's record would name it.
                "candidate": weights_digest(challenger_weights(context)),
                "models": _rank_distributions(context, models["challenger"], night),
            },
        },
        links=context.inputs["fine_tune"].links,
    )


def _evaluation(
    context: Context,
    night: Night,
    measured: "Mapping[str, Measured]",
    sets: Sequence[QueryFigures],
    opponent: Literal["champion", "base"],
) -> Evaluation:
    """Say what was measured, and how sure the candidate's gains over its opponent, and over the look-up table, are."""
    run, rules = context.run, context.run.config.evaluation
    compared = partial(comparisons, confidence=rules.confidence, resamples=rules.resamples)
    notes = {guard.name: guard.notes for guard in night.held_out.guards}
    return Evaluation(
        model=run.model,
        day=run.day,
        test_from=run.test_from,
        inputs_sha256=context.inputs["preprocess_ranks"].outputs["inputs/test.parquet"].sha256,
        loss_func=str(run.config.training.settings.loss_func),
        n_items=len(night.held_out.items_set),
        candidate="challenger",
        opponent=opponent,
        new_share=context.inputs["fine_tune"].figures.get("new_share"),
        sets=tuple(described(it, notes.get(it.name, ()) if it.kind == "guard" else ()) for it in sets),
        costs={name: it.costs for name, it in measured.items()},
        confidence=rules.confidence,
        resamples=rules.resamples,
        comparisons=compared(sets, "challenger", opponent),
        against_most_clicked=compared(sets[:1], "challenger", MOST_CLICKED),
    )


def _models(context: Context) -> "dict[str, EmbeddingsModelInterface]":
    champion = champion_model(context)
    return {
        "base": base_model(context),
        **({"champion": champion} if champion else {}),
        "challenger": saved_model(context, challenger_weights(context)),
    }


def _tables(
    context: Context, night: Night, measured: "Mapping[str, Measured]", most_clicked: Mapping[str, Numbers]
) -> tuple[list[QueryFigures], dict[str, Any]]:
    """Lay out the figures, and write them: what the gate, the report and people look into."""
    from embft.finetuning.inputs import query_identity

    sessions, guards = night.held_out.sessions, night.held_out.guards
    queries = [query_identity(it.query) for it in sessions]
    per_query = per_query_table(
        {
            "session_id": [it.session_id for it in sessions],
            "query": queries,
            "clicked": [list(it.events) for it in sessions],
            "slices": pa.array([slices_of(query, night.slices) for query in queries], pa.list_(pa.string())),
        },
        _with_most_clicked({name: it.sessions for name, it in measured.items()}, most_clicked),
    )
    of_guards = [
        per_query_table(
            {"guard": [guard.name] * len(guard.cases), "query": list(guard.cases)},
            {name: it.guards[guard.name] for name, it in measured.items()},
        )
        for guard in guards
    ]
    tables = {"per_query.parquet": per_query, "guards.parquet": pa.concat_tables(of_guards) if of_guards else NO_GUARDS}
    for name, table in tables.items():
        pq.write_table(table, context.folder / name)
    sets = figures_of(per_query, tables["guards.parquet"], ["all", *night.slices])
    return sets, {name: context.folder / name for name in tables}


def _with_most_clicked(
    models: Mapping[str, Mapping[str, Numbers]], most_clicked: Mapping[str, Numbers]
) -> dict[str, Mapping[str, Numbers]]:
    """Put the look-up table beside the base, the other one that was not trained on the clicks."""
    return {"base": models["base"], MOST_CLICKED: most_clicked, **models}


def _rank_distributions(
    context: Context, candidate: "EmbeddingsModelInterface", night: Night
) -> dict[str, dict[str, Any]]:
    """Say how two models' ranks of the test sessions are spread, and how far clicked results lead.

    The models are the one that ranked the inputs, and the candidate.

    Later nights compare their ranks with them, see `embft.stages.rank_reference`. Theirs are of the candidate, where
    it is promoted, or of the base, which ranks the inputs while there is no champion: no other model is asked for.
    """
    from embft.finetuning.ranks import fill_ranks
    from embft.finetuning.registry import find_ranker
    from embft.finetuning.tables import inputs_from_table
    from embft.validation.drift import summarise
    from embft.validation.rank_frame import mean_lead

    settings = context.run.config.training.settings
    test = pq.read_table(context.fetch("preprocess_ranks", "inputs/test.parquet"))
    ranked = inputs_from_table(test.drop_columns(["ranks"]))
    fill_ranks(candidate, ranked, night.held_out.items_set, night.held_out.retriever, find_ranker(settings.ranker))
    ranked_by = context.inputs["preprocess_ranks"].figures["ranked_by"]
    given = pa.array([list(it.ranks.values()) for it in ranked], pa.list_(pa.float64()))
    column = test.schema.get_field_index("ranks")
    tables = {ranked_by: test, "candidate": test.set_column(column, "ranks", given)}
    return {
        name: {
            **summarise(pc.list_flatten(table["ranks"]).to_numpy(), table.num_rows),
            "lead": mean_lead(table, is_similarity=settings.is_similarity),
        }
        for name, table in tables.items()
    }


def _track(context: Context, evaluation: Evaluation) -> None:
    """Add the held-out measures to the training's MLflow run, where people compare nights."""
    measures = {
        f"test.{model}.{name}": figure
        for model, figures in evaluation.models.items()
        for name, figure in figures.items()
        if figure is not None
    }
    of_sets = {
        f"test.{it.kind}.{it.name}.{evaluation.candidate}.{name}": figure
        for it in evaluation.sets[1:]
        for name, figure in it.models[evaluation.candidate].items()
        if figure is not None
    }
    costs = {
        f"test.{model}.{name}": cost for model, it in evaluation.costs.items() for name, cost in it.model_dump().items()
    }
    tracker_of(context).log_to(context.inputs["fine_tune"].figures["mlflow_run_id"], measures | of_sets | costs)


STAGE = Stage(
    "evaluate",
    needs=("preprocess_ranks", "fine_tune"),
    settings=lambda run: [
        run.config.judgements,
        run.config.training,
        run.config.evaluation,
        run.base_model_sha256,
        run.judged_by_sha256,
        run.champion,
        run.config.logs.privacy.min_clients,
    ],
    work=_work,
)
run = partial(run_stage, STAGE)
