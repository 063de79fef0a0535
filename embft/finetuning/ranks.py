"""Fill in the ranks that sessions lack, by a model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch

from embft.errors import DataRejected
from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.items import ItemsSet, QueryRetriever
from embft.finetuning.models.interface import EmbeddingsModelInterface
from embft.finetuning.rankers import Ranker, cosine_similarity
from embft.finetuning.vectors import Vectors

_SESSIONS_PER_CHUNK = 512


def shown_vectors(model: EmbeddingsModelInterface, inputs: Sequence[FineTuningInput], items_set: ItemsSet) -> Vectors:
    """Encode what some sessions showed, each distinct item once.

    Args:
        model: Not changed.
        inputs: Sessions.
        items_set: All their items.

    Returns:
        The vectors of the items, or of their parts where the set is split.

    Raises:
        DataRejected: An item is not in the catalogue.
    """
    shown = dict.fromkeys(chain.from_iterable(session.results for session in inputs))
    return Vectors(model.encode_items, items_set.parts(items_set.items_by_ids(shown)).parts)


def fill_ranks(
    model: EmbeddingsModelInterface,
    inputs: Sequence[FineTuningInput],
    items_set: ItemsSet,
    query_retriever: QueryRetriever,
    ranker: Ranker = cosine_similarity,
    *,
    items: Vectors | None = None,
) -> int:
    """Give every shown item of every session a rank, in place; sessions whose ranks are complete keep them.

    Where one rank of a session is unknown all are computed, so that a session never mixes the ranks of two models.
    Each distinct query and item is encoded once.

    Args:
        model: Not changed.
        inputs: Clicked and irrelevant sessions.
        items_set: All their items.
        query_retriever: What of a query the model gets.
        ranker: Vectors of queries and items → ranks.
        items: `shown_vectors` of the sessions, where they are at hand.

    Returns:
        How many sessions got ranks.

    Raises:
        DataRejected: A session has no result, an item is not in the catalogue, or the model gives a rank that is not
            a finite number.
    """
    for session in inputs:
        if not session.results:
            raise DataRejected(f"{session!r} has no result, so there is nothing to rank; leave such sessions out")
    lacking = [session for session in inputs if not session.has_all_ranks]
    queries = Vectors(model.encode_queries, (query_retriever(session.query) for session in lacking))
    if items is None:
        items = shown_vectors(model, lacking, items_set)
    for start in range(0, len(lacking), _SESSIONS_PER_CHUNK):
        chunk = lacking[start : start + _SESSIONS_PER_CHUNK]
        texts = [query_retriever(session.query) for session in chunk]
        _rank_chunk(chunk, texts, items_set, queries, items, ranker)
    return len(lacking)


def _rank_chunk(
    chunk: Sequence[FineTuningInput],
    texts: Sequence[str],
    items_set: ItemsSet,
    queries: Vectors,
    items: Vectors,
    ranker: Ranker,
) -> None:
    """Rank a chunk's distinct queries against its distinct items by one product, and hand each session its part."""
    row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    column_of = {id_: column for column, id_ in enumerate(dict.fromkeys(chain(*(it.results for it in chunk))))}
    parts = items_set.parts(items_set.items_by_ids(column_of))
    with torch.no_grad():
        matrix = parts.aggregated(ranker(queries[list(row_of)], items[parts.parts])).numpy()
    for session, text in zip(chunk, texts, strict=True):
        ranks = matrix[row_of[text], [column_of[id_] for id_ in session.results]].tolist()
        session.ranks = dict(zip(session.results, ranks, strict=True))
