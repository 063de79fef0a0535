"""Retrieval measures: the whole catalogue is ranked for each query, and the clicked items looked up in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.items import ItemsSet, QueryRetriever
from embft.finetuning.models.interface import EmbeddingsModelInterface
from embft.finetuning.rankers import Ranker, cosine_similarity
from embft.finetuning.vectors import Vectors

CUTOFF = 10
MEASURES = ("ndcg_at_10", "mrr_at_10", "recall_at_10")


def rank_catalogue(
    model: EmbeddingsModelInterface,
    sessions: Sequence[FineTuningInput],
    items_set: ItemsSet,
    query_retriever: QueryRetriever,
    *,
    ranker: Ranker = cosine_similarity,
    is_similarity: bool = True,
    queries_per_chunk: int = 512,
) -> dict[str, NDArray[np.float64]]:
    """Rank the whole catalogue for each session's query, and measure where the clicked items stand.

    Each distinct query and item is encoded once, and each distinct pair of query and clicked items measured once.
    Clicked items are the relevant ones, all of grade 1.

    Args:
        model: The model.
        sessions: Clicked sessions, n of them.
        items_set: The catalogue.
        query_retriever: What of a query the model gets.
        ranker: Vectors of queries and items → ranks.
        is_similarity: Whether a bigger rank is closer.
        queries_per_chunk: Queries whose scores are held in memory at once.

    Returns:
        `ndcg_at_10`, `mrr_at_10`, `recall_at_10`, each float64 [n], in [0, 1].

    Raises:
        DataRejected: A clicked item is not in the catalogue.
    """
    items_set.items_by_ids(dict.fromkeys(id_ for it in sessions for id_ in it.events))
    row_of = {id_: row for row, id_ in enumerate(items_set)}
    parts = items_set.parts(items_set.items)
    item_vectors = Vectors(model.encode_items, parts.parts)[parts.parts]
    cases = [(query_retriever(it.query), tuple(sorted(row_of[id_] for id_ in it.events))) for it in sessions]
    distinct = sorted(set(cases))
    query_vectors = Vectors(model.encode_queries, (query for query, _ in distinct))

    measured: dict[tuple[str, tuple[int, ...]], dict[str, float]] = {}
    for start in range(0, len(distinct), queries_per_chunk):
        chunk = distinct[start : start + queries_per_chunk]
        scores = parts.aggregated(ranker(query_vectors[[query for query, _ in chunk]], item_vectors))
        for case, row in zip(chunk, scores if is_similarity else -scores, strict=True):
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
    # Importing it takes 4 to 8 seconds (it pulls in transformers), which stages that measure no ranking need not pay.
    from torchmetrics.functional import retrieval

    functions = (
        retrieval.retrieval_normalized_dcg,
        retrieval.retrieval_reciprocal_rank,
        retrieval.retrieval_recall,
    )
    # The measures look at the first ten alone; all that tie with the tenth must be there, for nDCG is the mean over
    # their orders, and the clicked items, for recall's denominator.
    is_kept = scores >= scores.topk(min(CUTOFF, len(scores))).values[-1]
    is_kept[list(clicked)] = True
    kept = is_kept.nonzero().flatten()
    relevant = torch.isin(kept, torch.tensor(clicked))
    # Torchmetrics takes its scores for probabilities: to some measures nothing at or below 0 is relevant.
    positive = scores[kept].double() - scores[kept].min() + 1.0
    figures = [float(measure(positive, relevant, top_k=CUTOFF)) for measure in functions]
    return dict(zip(MEASURES, figures, strict=True))
