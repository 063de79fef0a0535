"""Fill in the ranks that sessions lack, by a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from embft.errors import DataRejected
from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.items import ItemsSet, QueryRetriever
from embft.finetuning.models.interface import EmbeddingsModelInterface
from embft.finetuning.rankers import Ranker, cosine_similarity

_SESSIONS_PER_CHUNK = 512


def fill_ranks(
    model: EmbeddingsModelInterface,
    inputs: Sequence[FineTuningInput],
    items_set: ItemsSet,
    query_retriever: QueryRetriever,
    ranker: Ranker = cosine_similarity,
) -> int:
    """Give every shown item of every session a rank, in place; sessions whose ranks are complete keep them.

    Where one rank of a session is unknown all are computed, so that a session never mixes the ranks of two models.
    Each distinct query and item is encoded once.

    Args:
        model: Not changed.
        inputs: Clicked and irrelevant sessions.
        items_set: Texts of all their items.
        query_retriever: What of a query the model gets.
        ranker: Vectors of queries and items → ranks.

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
    queries = sorted({query_retriever(session.query) for session in lacking})
    item_ids = sorted({id_ for session in lacking for id_ in session.results})
    query_vectors = model.encode_queries(queries)
    item_vectors = model.encode_items(items_set.items_by_ids(item_ids))
    query_row = {query: row for row, query in enumerate(queries)}
    item_row = {id_: row for row, id_ in enumerate(item_ids)}

    for start in range(0, len(lacking), _SESSIONS_PER_CHUNK):
        chunk = lacking[start : start + _SESSIONS_PER_CHUNK]
        rows = np.array([query_row[query_retriever(session.query)] for session in chunk])
        columns = [np.array([item_row[id_] for id_ in session.results]) for session in chunk]
        _rank_chunk(chunk, rows, columns, query_vectors, item_vectors, ranker)
    return len(lacking)


def _rank_chunk(
    chunk: Sequence[FineTuningInput],
    rows: NDArray[np.int64],
    columns: list[NDArray[np.int64]],
    query_vectors: NDArray[np.float32],
    item_vectors: NDArray[np.float32],
    ranker: Ranker,
) -> None:
    """Rank a chunk's distinct queries against its distinct items by one product, and hand each session its part."""
    used_rows, row_in_matrix = np.unique(rows, return_inverse=True)
    used_columns = np.unique(np.concatenate(columns))
    with torch.no_grad():
        matrix = ranker(
            torch.from_numpy(query_vectors[used_rows]), torch.from_numpy(item_vectors[used_columns])
        ).numpy()
    for session, row, cells in zip(chunk, row_in_matrix, columns, strict=True):
        ranks = matrix[row, np.searchsorted(used_columns, cells)].tolist()
        session.ranks = dict(zip(session.results, ranks, strict=True))
