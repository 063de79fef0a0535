"""The items that a model ranks highest for a query: where hard negatives are drawn from."""

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embft.finetuning.models import EmbeddingsModelInterface
    from embft.finetuning.rankers import Ranker
    from embft.stages.models import Vocabulary

SKIPPED, DEPTH = 10, 100
MARGIN = 0.05
"""Nearer than the query's clicked item but for so much of its score, an item may be one that is wanted too."""
_QUERIES_PER_CHUNK = 512


def mined_items(
    model: "EmbeddingsModelInterface",
    queries: Iterable[str],
    vocabulary: "Vocabulary",
    ranker: "Ranker",
    *,
    clicked: Mapping[str, Collection[str]] | None = None,
    is_similarity: bool = True,
) -> dict[str, list[str]]:
    """Give the items that a model ranks high for each query, but not so high that they may be wanted too.

    A negative that the model finds near teaches more than one it finds far. But among the very nearest are items that
    are wanted too, and were not clicked for want of being shown. Passed over is therefore what scores above 95 % of the
    best of the items clicked for the query. Where these themselves rank below the hundredth place, as they do for words
    that the model is yet to learn, that would leave nothing to draw: there, and for a query without a click, it is the
    first ten that are passed over.

    Args:
        model: The one that training starts from. Not changed.
        queries: Each distinct one is encoded once.
        vocabulary: The catalogue, and what of a query the model gets.
        ranker: Vectors of queries and items → ranks.
        clicked: Query → ids clicked for it; those that the catalogue lacks are passed over.
        is_similarity: Whether a bigger rank is closer.

    Returns:
        Query → ids among its hundred nearest, nearest first; there may be none.

    Source: negatives from the model's own top 200 of Xiong et al. 2020 (ANCE), arXiv:2007.00808; "top-k to percentage
        of positive" and "top-k shifted by N" of Moreira et al. 2024 (NV-Retriever), arXiv:2407.15831, section 3.
    """
    import torch

    from embft.finetuning.vectors import Vectors

    items_set, retriever = vocabulary
    distinct = sorted(set(queries))
    parts = items_set.parts(items_set.items)
    item_vectors = Vectors(model.encode_items, parts.parts)[parts.parts]
    query_vectors = Vectors(model.encode_queries, map(retriever, distinct))
    row_of = {id_: row for row, id_ in enumerate(items_set.ids)}
    mined: dict[str, list[str]] = {}
    for start in range(0, len(distinct), _QUERIES_PER_CHUNK):
        chunk = distinct[start : start + _QUERIES_PER_CHUNK]
        with torch.no_grad():
            scores = parts.aggregated(ranker(query_vectors[[retriever(it) for it in chunk]], item_vectors))
        closeness = scores if is_similarity else -scores
        nearest = closeness.topk(min(DEPTH, len(items_set)))
        for query, row, values, places in zip(chunk, closeness, *nearest, strict=True):
            known = [row_of[id_] for id_ in (clicked or {}).get(query, ()) if id_ in row_of]
            kept = places[values <= _limit(row[known].max().item())] if known else places[:0]
            mined[query] = [items_set.ids[place] for place in (kept if len(kept) else places[SKIPPED:]).tolist()]
    return mined


def _limit(of_clicked: float) -> float:
    return of_clicked - MARGIN * abs(of_clicked)
