"""`preprocess_ranks`: clean sessions → fine-tuning inputs, split by time, judged, every rank filled in.

All parts are judged alike, so that what picks the best epoch and what models are compared on measure what is trained
for. This favours no model: base, champion and challenger meet the same inputs. But figures of nights before a change
of `judgements` are not to be compared with those after it, and `gate.max_val_loss` is to be set anew.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embft.clickstream.anonymity import clients_of_queries
from embft.clickstream.judgements import Judged, event_weights, judge, strongest_weight
from embft.clickstream.known import keep_known
from embft.clickstream.split import n_unseen_sessions, split_by_time, unseen_queries
from embft.config import EventWeights
from embft.errors import DataRejected
from embft.results import RunSpec
from embft.stages.models import base_model, champion_model, vocabulary
from embft.stages.not_clicked import origin_of_negatives, with_shown
from embft.stages.position_bias import PositionBias, position_bias, propensity_column
from embft.stages.stage import Context, Outcome, Stage, run_stage

if TYPE_CHECKING:
    from embft.finetuning.inputs import FineTuningInput
    from embft.finetuning.items import ItemsSet
    from embft.finetuning.vectors import Vectors

PARTS = ("train", "validation", "test")
QUERY_CLIENTS = "slices/query_clients.parquet"
_ROW_GROUP = 65_536


def _settings(run: RunSpec) -> Any:
    training, is_mined = run.config.training, run.config.judgements.negatives == "mined"
    return [
        run.test_from,
        training.base_model,
        run.base_model_sha256,
        training.validation_days,
        training.sampled_negatives,
        training.settings.seed,
        training.settings.ranker,
        run.champion,
        run.config.judgements,
        # On these two depends nothing but which items are mined.
        [training.start_from != "base", training.settings.is_similarity] if is_mined else None,
    ]


def _work(context: Context) -> Outcome:
    config = context.run.config
    items = pq.read_table(context.fetch("validate_sessions", "items.parquet"))
    sessions = pq.read_table(context.fetch("validate_sessions", "sessions.parquet"))
    known = keep_known(sessions, items["id"].to_pylist())
    split = split_by_time(
        known.sessions, test_from=context.run.test_from, validation_days=config.training.validation_days
    )
    told = dict(zip(PARTS, (split.train, split.validation, split.test), strict=True))
    judged = {name: judge(part, config.judgements) for name, part in told.items()}
    parts = {name: it.sessions for name, it in judged.items()}
    empty = next((name for name, part in parts.items() if not _n_clicked(part)), None)
    if empty:
        return Outcome(files={}, figures={}, status="rejected", reason=_no_clicks(context.run, empty))

    try:
        bias = position_bias(split.train, config.judgements)
    except DataRejected as error:
        return Outcome(files={}, figures={}, status="rejected", reason=str(error))

    unseen = unseen_queries(parts["train"], parts["test"])
    unseen_path = context.folder / "unseen_queries.parquet"
    pq.write_table(unseen, unseen_path)
    clients_path = context.folder / "query_clients.parquet"
    pq.write_table(_clients_of_test(sessions, parts["test"]), clients_path)
    files = {
        "items/items.parquet": context.fetch("validate_sessions", "items.parquet"),
        "slices/unseen_queries.parquet": unseen_path,
        QUERY_CLIENTS: clients_path,
        **_ranked_inputs(context, parts, told, items, bias),
    }
    figures: dict[str, Any] = {
        "items": items.num_rows,
        "not_clicked": origin_of_negatives(known.sessions, is_mined=config.judgements.negatives == "mined"),
        "ranked_by": "champion" if context.run.champion else "base",
        "shown_ids_not_in_catalogue": known.n_unknown_shown,
        "sessions_without_results": known.n_without_results,
        "sessions_of_repeated_id": split.n_repeated,
        "judgements": _left_out(judged),
        "position_bias": None if bias is None else bias.model_dump(mode="json"),
        "unseen_queries": {
            "queries": unseen.num_rows,
            "sessions": n_unseen_sessions(parts["train"], parts["test"]),
        },
        **{name: {"sessions": part.num_rows, "clicked_sessions": _n_clicked(part)} for name, part in parts.items()},
    }
    return Outcome(files=files, figures=figures)


def _clients_of_test(sessions: pa.Table, test: pa.Table) -> pa.Table:
    """Count who searched, in the whole window, for each query of the test: pages name none that few people did.

    The count, not what follows from it: to ask for more people is no reason to train again.
    """
    counted = clients_of_queries(sessions)
    return counted.filter(pc.is_in(counted["query"], pc.unique(test["query"]))).sort_by("query")


def _ranked_inputs(
    context: Context,
    parts: Mapping[str, pa.Table],
    told: Mapping[str, pa.Table],
    items: pa.Table,
    bias: PositionBias | None,
) -> dict[str, Path]:
    """Write each part as the fine-tuner reads it, with the ranks of the champion or, before there is one, the base.

    And the vectors that the ranks come from: `validate_ranks` looks at them.
    """
    from embft.finetuning.ranks import fill_ranks, shown_vectors
    from embft.finetuning.registry import find_ranker
    from embft.finetuning.tables import inputs_to_table

    weights, known = context.run.config.judgements.weights, vocabulary(items)
    strongest = strongest_weight(pa.concat_tables(told.values()), weights)
    model = champion_model(context) or base_model(context)
    ranker = find_ranker(context.run.config.training.settings.ranker)
    inputs = {
        name: fine_tuning_inputs(parts[name], part, weights, strongest, bias)
        for name, part in with_shown(context, parts, told, known).items()
    }
    # What EmbeddingsFineTuner.preprocess_inputs does, without importing Lightning for it. All parts at once: they share
    # most of their items and many queries, and none is encoded twice.
    sessions = list(chain.from_iterable(inputs.values()))
    vectors = shown_vectors(model, sessions, known.items_set)
    fill_ranks(model, sessions, known.items_set, known.retriever, ranker, items=vectors)
    files = {"items/vectors.parquet": context.folder / "vectors.parquet"}
    shown = list(dict.fromkeys(chain.from_iterable(it.results for it in sessions)))
    _write_vectors(files["items/vectors.parquet"], shown, known.items_set, vectors, model.dim)
    for name, part_inputs in inputs.items():
        files[f"inputs/{name}.parquet"] = context.folder / f"{name}.parquet"
        pq.write_table(inputs_to_table(part_inputs), files[f"inputs/{name}.parquet"], row_group_size=_ROW_GROUP)
    return files


def fine_tuning_inputs(
    part: pa.Table, filled: pa.Table, weights: EventWeights, strongest: float, bias: PositionBias | None
) -> "list[FineTuningInput]":
    """Make of judged sessions what the fine-tuner reads.

    Args:
        part: The sessions, `shown` null where the log does not tell it.
        filled: The same, with `shown` filled in.
        weights: Of actions.
        strongest: The greatest weight that occurs, see `strongest_weight`.
        bias: Of positions; None where clicks are not weighed by it.

    Returns:
        The sessions, in their order, without ranks.
    """
    from embft.finetuning.tables import inputs_from_table

    further = propensity_column(part, filled, bias)
    return inputs_from_table(_as_inputs(filled, event_weights=event_weights(filled, weights, strongest), **further))


def _write_vectors(path: Path, ids: Sequence[str], items_set: "ItemsSet", vectors: "Vectors", dim: int) -> None:
    schema = pa.schema([("id", pa.string()), ("vector", pa.list_(pa.float32(), dim))])
    with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for start in range(0, len(ids), _ROW_GROUP):
            chunk = ids[start : start + _ROW_GROUP]
            numbers = pa.array(vectors[items_set.items_by_ids(chunk)].numpy().ravel())
            columns = {"id": chunk, "vector": pa.FixedSizeListArray.from_arrays(numbers, dim)}
            writer.write_table(pa.table(columns, schema=schema))


def _as_inputs(sessions: pa.Table, **further: pa.Array) -> pa.Table:
    """Name the columns as the fine-tuner does; one that is null for all sessions will be none of its tables."""
    names = {
        "session_id": "session_id",
        "query": "query",
        "time": "time",
        "shown": "results",
        "clicked": "clicked",
        "positions": "positions",
        "actions": "event_types",
    }
    named = sessions.select(list(names)).rename_columns(list(names.values()))
    for name, column in further.items():
        named = named.append_column(name, column)
    return named


def _left_out(judged: Mapping[str, Judged]) -> dict[str, int]:
    return {
        "short_clicks": sum(it.n_short_clicks for it in judged.values()),
        "results_not_counted": sum(it.n_not_counted for it in judged.values()),
        "sessions_dropped": sum(it.n_dropped for it in judged.values()),
    }


def _n_clicked(sessions: pa.Table) -> int:
    return sum(1 for clicked in sessions["clicked"].to_pylist() if clicked)


def _no_clicks(run: RunSpec, part: str) -> str:
    config = run.config
    dwell = config.judgements.min_dwell_s
    short = "" if dwell is None else f", judgements.min_dwell_s {dwell:g}, below which a click does not count"
    return (
        f"the window {run.window[0].day} to {run.window[-1].day} has no clicked session in its {part} days; "
        f"window.days is {config.window.days}, window.test_days {config.window.test_days}, "
        f"training.validation_days {config.training.validation_days}{short}: "
        "lengthen the window or look for missing log days"
    )


STAGE = Stage("preprocess_ranks", needs=("validate_sessions",), settings=_settings, work=_work)
run = partial(run_stage, STAGE)
