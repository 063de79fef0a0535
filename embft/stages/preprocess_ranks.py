"""`preprocess_ranks`: clean sessions → fine-tuning inputs, split by time, every rank filled in."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from embft.clickstream.known import keep_known
from embft.clickstream.negatives import sample_not_clicked
from embft.clickstream.split import split_by_time
from embft.config import Training
from embft.results import RunSpec
from embft.stages.models import base_model, champion_model, vocabulary
from embft.stages.stage import Context, Outcome, Stage, run_stage

PARTS = ("train", "validation", "test")


def _settings(run: RunSpec) -> Any:
    training = run.config.training
    return [
        run.test_from,
        training.base_model,
        run.base_model_sha256,
        training.validation_days,
        training.sampled_negatives,
        training.settings.seed,
        training.settings.ranker,
        run.champion,
    ]


def _work(context: Context) -> Outcome:
    from embft.finetuning.ranks import fill_ranks
    from embft.finetuning.registry import find_ranker
    from embft.finetuning.tables import inputs_from_table, inputs_to_table

    training = context.run.config.training
    items = pq.read_table(context.fetch("validate_sessions", "items.parquet"))
    sessions = pq.read_table(context.fetch("validate_sessions", "sessions.parquet"))
    known = keep_known(sessions, items["id"].to_pylist())
    split = split_by_time(known.sessions, test_from=context.run.test_from, validation_days=training.validation_days)
    parts = dict(zip(PARTS, (split.train, split.validation, split.test), strict=True))
    empty = next((name for name, part in parts.items() if not _n_clicked(part)), None)
    if empty:
        return Outcome(files={}, figures={}, status="rejected", reason=_no_clicks(context.run, empty))

    items_set, retriever = vocabulary(items)
    model, ranker = champion_model(context) or base_model(context), find_ranker(training.settings.ranker)
    files = {"items/items.parquet": context.fetch("validate_sessions", "items.parquet")}
    for name, part in zip(PARTS, _with_shown(list(parts.values()), items, training), strict=True):
        inputs = inputs_from_table(_named_as_inputs(part))
        # What EmbeddingsFineTuner.preprocess_inputs does, without importing Lightning for it.
        fill_ranks(model, inputs, items_set, retriever, ranker)
        files[f"inputs/{name}.parquet"] = context.folder / f"{name}.parquet"
        pq.write_table(inputs_to_table(inputs), files[f"inputs/{name}.parquet"])
    figures: dict[str, Any] = {
        "items": items.num_rows,
        "not_clicked": _origin_of_negatives(known.sessions),
        "ranked_by": "champion" if context.run.champion else "base",
        "shown_ids_not_in_catalogue": known.n_unknown_shown,
        "sessions_without_results": known.n_without_results,
        "sessions_of_repeated_id": split.n_repeated,
        **{name: {"sessions": part.num_rows, "clicked_sessions": _n_clicked(part)} for name, part in parts.items()},
    }
    return Outcome(files=files, figures=figures)


def _with_shown(parts: list[pa.Table], items: pa.Table, training: Training) -> Iterator[pa.Table]:
    """Fill in each part's unknown shown lists, barring what was clicked up to that part.

    Not beyond it: that an item is clicked next week for a query must not show in what training calls not clicked.
    """
    for number, part in enumerate(parts):
        yield sample_not_clicked(
            part,
            items["id"].to_pylist(),
            count=training.sampled_negatives,
            seed=training.settings.seed,
            clicks_of=pa.concat_tables(parts[: number + 1]),
        )


def _origin_of_negatives(sessions: pa.Table) -> str:
    """Say where the not-clicked side comes from: the shown lists, or a draw from the catalogue."""
    n_sampled = sessions["shown"].null_count
    if not n_sampled:
        return "shown lists"
    return f"sampled from the catalogue for {n_sampled} of {sessions.num_rows} sessions, whose log has no shown list"


def _named_as_inputs(sessions: pa.Table) -> pa.Table:
    columns = {"session_id": "session_id", "query": "query", "time": "time", "shown": "results", "clicked": "clicked"}
    return sessions.select(list(columns)).rename_columns(list(columns.values()))


def _n_clicked(sessions: pa.Table) -> int:
    return sum(1 for clicked in sessions["clicked"].to_pylist() if clicked)


def _no_clicks(run: RunSpec, part: str) -> str:
    config = run.config
    return (
        f"the window {run.window[0].day} to {run.window[-1].day} has no clicked session in its {part} days; "
        f"window.days is {config.window.days}, window.test_days {config.window.test_days}, "
        f"training.validation_days {config.training.validation_days}: lengthen the window or look for missing log days"
    )


STAGE = Stage("preprocess_ranks", needs=("validate_sessions",), settings=_settings, work=_work)
run = partial(run_stage, STAGE)
