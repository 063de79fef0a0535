"""Base, champion and challenger on the same held-out sessions: the whole catalogue is ranked for each query."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torchmetrics.functional.retrieval import (
    retrieval_normalized_dcg,
    retrieval_recall,
    retrieval_reciprocal_rank,
)

from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.items import ItemsSet, QueryRetriever
from embft.finetuning.models import EmbeddingsModelInterface

CUTOFF = 10
MEASURES = {
    "ndcg_at_10": retrieval_normalized_dcg,
    "mrr_at_10": retrieval_reciprocal_rank,
    "recall_at_10": retrieval_recall,
}


def rank_catalogue(
    model: EmbeddingsModelInterface,
    sessions: Sequence[FineTuningInput],
    items_set: ItemsSet,
    query_retriever: QueryRetriever,
    *,
    queries_per_chunk: int = 512,
) -> dict[str, NDArray[np.float64]]:
    """Rank the whole catalogue for each session's query, and measure where the clicked items stand.

    Each distinct query and item is encoded once, and each distinct pair of query and clicked items measured once.
    Clicked items are the relevant ones, all of grade 1.

    Args:
        model: The model; unit vectors, so that a dot product is a cosine.
        sessions: Clicked sessions, n of them.
        items_set: The catalogue.
        query_retriever: What of a query the model gets.
        queries_per_chunk: Queries whose scores are held in memory at once.

    Returns:
        `ndcg_at_10`, `mrr_at_10`, `recall_at_10`, each float64 [n], in [0, 1].
    """
    ids = list(items_set)
    row_of = {id_: row for row, id_ in enumerate(ids)}
    item_vectors = torch.from_numpy(model.encode_items(items_set.items_by_ids(ids)))
    cases = [(query_retriever(it.query), tuple(sorted(row_of[id_] for id_ in it.events))) for it in sessions]
    distinct = sorted(set(cases))
    queries = sorted({query for query, _ in distinct})
    query_vectors = dict(zip(queries, torch.from_numpy(model.encode_queries(queries)), strict=True))

    measured: dict[tuple[str, tuple[int, ...]], dict[str, float]] = {}
    for start in range(0, len(distinct), queries_per_chunk):
        chunk = distinct[start : start + queries_per_chunk]
        scores = torch.stack([query_vectors[query] for query, _ in chunk]) @ item_vectors.T
        for case, row in zip(chunk, scores, strict=True):
            measured[case] = measure_ranking(row, case[1])
    return {name: np.array([measured[case][name] for case in cases]) for name in MEASURES}


def measure_ranking(scores: torch.Tensor, clicked: Sequence[int]) -> dict[str, float]:
    """Measure one ranking of the catalogue.

    Args:
        scores: float [items], higher is nearer.
        clicked: Rows of the clicked items, at least one.

    Returns:
        nDCG@10 (Järvelin and Kekäläinen 2002), reciprocal rank at 10, recall at 10, by torchmetrics.
    """
    # The measures look at the first ten alone; the clicked items must be there for recall's denominator.
    kept = torch.tensor(sorted({*scores.topk(min(CUTOFF, len(scores))).indices.tolist(), *clicked}))
    relevant = torch.isin(kept, torch.tensor(clicked))
    return {name: float(measure(scores[kept], relevant, top_k=CUTOFF)) for name, measure in MEASURES.items()}


def per_query_table(
    sessions: Sequence[FineTuningInput], values: Mapping[str, Mapping[str, NDArray[np.float64]]]
) -> pa.Table:
    """Lay out every model's figures per session.

    Args:
        sessions: Clicked sessions, n of them.
        values: Model → measure → float64 [n].

    Returns:
        One row per session: session_id, query, clicked, and `<model>.<measure>` columns.
    """
    columns: dict[str, object] = {
        "session_id": [it.session_id for it in sessions],
        "query": [it.query for it in sessions],
        "clicked": [list(it.events) for it in sessions],
    }
    for model, measures in values.items():
        for measure, figures in measures.items():
            columns[f"{model}.{measure}"] = figures
    return pa.table(columns)
