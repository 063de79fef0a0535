"""What `evaluate` shows people of a night: the queries that changed most, with their first results before and after."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from embft.clickstream.anonymity import searched_by
from embft.promotion.changed_queries import TOP, ChangedQueries, ChangedQuery, Hit, changed_queries
from embft.promotion_config import MAIN_CUTOFF
from embft.stages.held_out import Night
from embft.stages.preprocess_ranks import QUERY_CLIENTS
from embft.stages.stage import Context

if TYPE_CHECKING:
    from embft.promotion.measuring import Measured

_LONGEST_TEXT = 200
_MEASURE = f"ndcg_at_{MAIN_CUTOFF}"


def queries_changed(
    context: Context, night: Night, measured: Mapping[str, Measured], candidate: str, opponent: str
) -> ChangedQueries:
    """Find the queries that gained and lost most, and show what people saw before and would see now.

    Args:
        context: Of `evaluate`.
        night: What was measured on.
        measured: Of each model.
        candidate: The model that wants to serve.
        opponent: The one that it would replace.

    Returns:
        Both lists; a query that few people searched for is in none.
    """
    min_clients = context.run.config.logs.privacy.min_clients
    searched = pq.read_table(context.fetch("preprocess_ranks", QUERY_CLIENTS))
    found = changed_queries(
        [it.query for it in night.held_out.sessions],
        measured[opponent].sessions[_MEASURE],
        measured[candidate].sessions[_MEASURE],
        candidate=candidate,
        opponent=opponent,
        shareable=searched_by(searched, min_clients),
        min_clients=min_clients,
    )
    named = [it.query for it in (*found.gained, *found.lost)]
    clicked = _clicked_for(named, night)
    before, after = (_hits(named, night, measured[it], clicked) for it in (opponent, candidate))

    def with_hits(changed: Sequence[ChangedQuery]) -> tuple[ChangedQuery, ...]:
        return tuple(
            it.model_copy(update={"top_before": before[it.query], "top_after": after[it.query]}) for it in changed
        )

    return found.model_copy(update={"gained": with_hits(found.gained), "lost": with_hits(found.lost)})


def _clicked_for(queries: Sequence[str], night: Night) -> Mapping[str, set[str]]:
    wanted, clicked = set(queries), defaultdict[str, set[str]](set)
    for session in night.held_out.sessions:
        if session.query in wanted:
            clicked[session.query].update(session.events)
    return clicked


def _hits(
    queries: Sequence[str], night: Night, model: Measured, clicked: Mapping[str, set[str]]
) -> dict[str, tuple[Hit, ...]]:
    """Give the first results of each query. A query that changed has a figure, and so its model a catalogue."""
    if not queries or model.catalogue is None:
        return {}
    items, retriever = night.held_out.items_set, night.held_out.retriever
    top = model.catalogue.top([retriever(it) for it in queries], TOP)

    def hit(query: str, id_: str) -> Hit:
        return Hit(id=id_, text=_cut(str(items[id_])), clicked=id_ in clicked[query])

    return {query: tuple(hit(query, id_) for id_ in top[retriever(query)]) for query in queries}


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1].rstrip()}…"
