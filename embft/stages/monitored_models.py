"""The champion and the base model on a day's clicks: what of theirs is ranked, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from embft.monitoring.day import BASE, CHAMPION
from embft.monitoring.summary import summary_of, worst_queries
from embft.promotion.evaluation import Numbers, per_query_table
from embft.promotion.shards import read_shards
from embft.promotion.slices import slices_of
from embft.promotion.vector_sets import VectorSet
from embft.results import Champion
from embft.stages.models import Vocabulary, base_model, served_model, settings_of, vocabulary
from embft.stages.monitored_clicks import ClickedDay
from embft.stages.promised import promised_by
from embft.stages.same_clicks import same_clicks_again
from embft.stages.stage import Context

if TYPE_CHECKING:
    from embft.finetuning.catalogue import RankedCatalogue
    from embft.finetuning.models import EmbeddingsModelInterface


@dataclass(frozen=True)
class Measured:
    """What a day came to.

    Args:
        summary: Fields of `MonitoredDay`.
        n_lost: Sessions none of whose clicked items users can find.
        files: Output name → local file.
        cautions: What a person should know.
    """

    summary: dict[str, Any]
    n_lost: int
    files: dict[str, Path]
    cautions: list[str]


def measured_day(
    context: Context, champion: Champion, day: ClickedDay, items: pa.Table, vectors: VectorSet | None
) -> Measured:
    """Measure the champion, and the base model beside it.

    Args:
        context: Of the monitoring.
        champion: The version that served.
        day: Its clicks, one at least.
        items: The catalogue, columns id and text, ids unique.
        vectors: Those that serve, where they are the champion's.

    Returns:
        The figures.

    Raises:
        ConfigError: The champion's weights or vectors are gone.
        DataRejected: A file of vectors is not the one that was published, or the catalogue is empty.
    """
    from embft.monitoring.measuring import measure_day
    from embft.promotion.measuring import HeldOut, Measuring

    run, known = context.run, vocabulary(items)
    held_out = HeldOut(day.clicks.inputs, known.items_set, known.retriever, (), {})
    cutoffs = run.config.evaluation.ordered_cutoffs
    measuring = Measuring(held_out, run.config.training.params, settings_of(run), cutoffs)
    models = {CHAMPION: served_model(context, champion), BASE: base_model(context)}
    ranked = {
        CHAMPION: _ranked(context, models[CHAMPION], known, vectors),
        BASE: _ranked(context, models[BASE], known, None),
    }
    measured = {
        name: measure_day(model, ranked[name], day.clicks, measuring, cutoffs=cutoffs) for name, model in models.items()
    }
    per_query = _table(day, {name: it.figures for name, it in measured.items()})
    path = context.folder / "per_query.parquet"
    pq.write_table(per_query, path)
    summary = {
        **summary_of(per_query, list(day.slices)),
        "same_clicks": same_clicks_again(context, ranked[CHAMPION], cutoffs),
        "promised": promised_by(context.storage, context.paths, champion, context.folder),
        "examples": worst_queries(per_query, day.queries, day.shareable),
    }
    n_lost = sum(not any(id_ in ranked[CHAMPION] for id_ in ids) for ids in day.clicks.clicked)
    return Measured(summary, n_lost, {path.name: path}, [text for it in measured.values() for text in it.cautions])


def _ranked(
    context: Context, model: EmbeddingsModelInterface, known: Vocabulary, vectors: VectorSet | None
) -> RankedCatalogue:
    from embft.finetuning.catalogue import RankedCatalogue
    from embft.finetuning.items import ItemsSet
    from embft.finetuning.registry import find_ranker

    settings = settings_of(context.run)
    ranked = partial(RankedCatalogue, ranker=find_ranker(settings.ranker), is_similarity=settings.is_similarity)
    if vectors is None:
        return ranked(model, known.items_set)
    ids, published = read_shards(context.storage, vectors.shards, context.folder)
    # Their texts were encoded long ago: all that is asked for is where an id stands.
    return ranked(model, ItemsSet(ids, ids), item_vectors=published)


def _table(day: ClickedDay, figures: Mapping[str, Mapping[str, Numbers]]) -> pa.Table:
    identities = day.identities
    sessions = {
        "session_id": day.sessions["session_id"],
        "query": identities,
        "searched": day.queries,
        "clicked": day.sessions["clicked"],
        "slices": pa.array([slices_of(it, day.slices) for it in identities], pa.list_(pa.string())),
    }
    return per_query_table(sessions, figures)
