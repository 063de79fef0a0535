"""The items that a model ranks highest for a query: where hard negatives are drawn from."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embft.finetuning.models import EmbeddingsModelInterface
    from embft.finetuning.rankers import Ranker
    from embft.stages.models import Vocabulary

SKIPPED, DEPTH = 10, 100
_QUERIES_PER_CHUNK = 512


def mined_items(
    model: "EmbeddingsModelInterface",
    queries: Iterable[str],
    vocabulary: "Vocabulary",
    ranker: "Ranker",
    *,
    is_similarity: bool = True,
) -> dict[str, list[str]]:
    """Give the items that a model ranks 11th to 100th for each query.

    A negative that the model finds near teaches more than one it finds far. But among the very nearest are items that
    are wanted too, and were not clicked for want of being shown: the first ten are passed over. Of the margins against
    such false negatives this one needs no score of a clicked item; a share of that score, say 95 %, leaves nothing to
    draw where the clicked item itself ranks low, as it does for the words that the model is yet to learn.

    Args:
        model: The one that training starts from. Not changed.
        queries: Each distinct one is encoded once.
        vocabulary: The catalogue, and what of a query the model gets.
        ranker: Vectors of queries and items → ranks.
        is_similarity: Whether a bigger rank is closer.

    Returns:
        Query → ids, nearest first; none of them for a catalogue of ten.

    Source: negatives from the model's own top 200 of Xiong et al. 2020 (ANCE), arXiv:2007.00808; "top-k shifted by N",
        and the shares of the positive's score, of Moreira et al. 2024 (NV-Retriever), arXiv:2407.15831, section 3.
    """
    import torch

    from embft.finetuning.vectors import Vectors

    items_set, retriever = vocabulary
    distinct = sorted(set(queries))
    parts = items_set.parts(items_set.items)
    item_vectors = Vectors(model.encode_items, parts.parts)[parts.parts]
    query_vectors = Vectors(model.encode_queries, map(retriever, distinct))
    mined: dict[str, list[str]] = {}
    for start in range(0, len(distinct), _QUERIES_PER_CHUNK):
        chunk = distinct[start : start + _QUERIES_PER_CHUNK]
        with torch.no_grad():
            scores = parts.aggregated(ranker(query_vectors[[retriever(it) for it in chunk]], item_vectors))
        nearest = scores.topk(min(DEPTH, len(items_set)), largest=is_similarity).indices[:, SKIPPED:].tolist()
        mined.update((query, [items_set.ids[row] for row in rows]) for query, rows in zip(chunk, nearest, strict=True))
    return mined
