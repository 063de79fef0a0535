"""Retrieval measures: the whole catalogue is ranked for each query, and the relevant items looked up in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import nan

import numpy as np
import torch
from numpy.typing import NDArray

from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.items import ItemsSet, QueryRetriever
from embft.finetuning.models.interface import EmbeddingsModelInterface
from embft.finetuning.rankers import Ranker, cosine_similarity
from embft.finetuning.vectors import Vectors

CUTOFF = 10
_SCORES_AT_ONCE = 30_000_000  # 120 MB, and about three times as much while they are made
MEASURES = ("ndcg_at_10", "mrr_at_10", "recall_at_10")


def rank_catalogue(
    model: EmbeddingsModelInterface,
    sessions: Sequence[FineTuningInput],
    items_set: ItemsSet,
    query_retriever: QueryRetriever,
    *,
    ranker: Ranker = cosine_similarity,
    is_similarity: bool = True,
) -> dict[str, NDArray[np.float64]]:
    """Rank the whole catalogue for each session's query, and measure where the clicked items stand.

    Args:
        model: The model.
        sessions: Clicked sessions, n of them. Clicked items are the relevant ones, all of grade 1.
        items_set: The catalogue.
        query_retriever: What of a query the model gets.
        ranker: Vectors of queries and items → ranks.
        is_similarity: Whether a bigger rank is closer.

    Returns:
        `ndcg_at_10`, `mrr_at_10`, `recall_at_10`, each float64 [n], in [0, 1].

    Raises:
        DataRejected: A clicked item is not in the catalogue.
    """
    catalogue = RankedCatalogue(model, items_set, ranker=ranker, is_similarity=is_similarity)
    return catalogue.measure([(query_retriever(it.query), dict.fromkeys(it.events, 1.0)) for it in sessions])


class RankedCatalogue:
    """A model's view of a catalogue: its items are encoded once, whatever is then measured against them.

    Args:
        model: The model.
        items_set: The catalogue.
        ranker: Vectors of queries and items → ranks.
        is_similarity: Whether a bigger rank is closer.
        queries_per_chunk: Queries whose scores are held in memory at once; fewer where the catalogue is a big one.
        item_vectors: Of each item, float32 [items, dim], where they are known, such as those that serve: they are
            ranked as they are, and nothing is encoded. The set is one that is not split then.
    """

    def __init__(
        self,
        model: EmbeddingsModelInterface,
        items_set: ItemsSet,
        *,
        ranker: Ranker = cosine_similarity,
        is_similarity: bool = True,
        queries_per_chunk: int = 512,
        item_vectors: NDArray[np.float32] | None = None,
    ) -> None:
        self._model = model
        self._items_set = items_set
        self._ranker = ranker
        self._sign = 1.0 if is_similarity else -1.0
        self._queries_per_chunk = max(1, min(queries_per_chunk, _SCORES_AT_ONCE // max(1, len(items_set))))
        self._row_of = {id_: row for row, id_ in enumerate(items_set)}
        self._parts = items_set.parts(items_set.items)
        self._item_vectors = (
            Vectors(model.encode_items, self._parts.parts)[self._parts.parts]
            if item_vectors is None
            else torch.from_numpy(item_vectors)
        )

    def __contains__(self, id_: object) -> bool:
        """Whether an item of this id is ranked."""
        return id_ in self._row_of

    @property
    def is_finite(self) -> bool:
        """Whether every item has a vector of numbers; where one has not, no query has a figure."""
        return bool(self._item_vectors.isfinite().all())

    def measure(
        self,
        cases: Iterable[tuple[str, Mapping[str, float]]],
        *,
        cutoffs: Sequence[int] = (CUTOFF,),
        relevant_from: float = 1.0,
        clicks: Mapping[str, Mapping[str, int]] | None = None,
    ) -> dict[str, NDArray[np.float64]]:
        """Measure where the relevant items of each query stand.

        Each distinct query is encoded once, and each distinct case measured once.

        Args:
            cases: Query, as the model gets it, and its judged items → grade; n of them.
            cutoffs: The k of nDCG@k, MRR@k and Recall@k, each >= 1.
            relevant_from: Grade from which MRR and Recall take an item as relevant; each case has such an item.
            clicks: Query → item of the catalogue → how often it was clicked. A look-up table: a query's clicked items
                come first, the one clicked most on top; the model orders those clicked equally often, and all others.

        Returns:
            `ndcg_at_<k>`, `mrr_at_<k>`, `recall_at_<k>` for every k, each float64 [n], in [0, 1]; NaN for a query to
            which some item has no finite rank, and so no order.

        Raises:
            DataRejected: A judged item is not in the catalogue.
        """
        told = [(query, tuple(sorted(grades.items()))) for query, grades in cases]
        self._items_set.items_by_ids(dict.fromkeys(id_ for _, grades in told for id_, _ in grades))
        distinct = sorted(set(told))
        names = [f"{measure}_at_{k}" for k in cutoffs for measure in ("ndcg", "mrr", "recall")]
        measured: dict[object, dict[str, float]] = {}
        for case, scores in zip(distinct, self._scores([query for query, _ in distinct]), strict=True):
            if not scores.isfinite().all():
                measured[case] = dict.fromkeys(names, nan)
                continue
            grades = {self._row_of[id_]: grade for id_, grade in case[1]}
            counts = {self._row_of[id_]: n for id_, n in (clicks or {}).get(case[0], {}).items()}
            row = _clicked_first(scores, counts) if counts else scores
            measured[case] = measure_ranking(row, grades, cutoffs=cutoffs, relevant_from=relevant_from)
        return {name: np.array([measured[case][name] for case in told], dtype=np.float64) for name in names}

    def top(self, queries: Iterable[str], k: int) -> dict[str, list[str]]:
        """Give the first results of some queries.

        Args:
            queries: As the model gets them.
            k: How many results.

        Returns:
            Query → ids, the nearest first; fewer where the catalogue is smaller.
        """
        distinct = list(dict.fromkeys(queries))
        ids, k = self._items_set.ids, min(k, len(self._items_set))
        return {
            query: [ids[row] for row in scores.topk(k).indices.tolist()]
            for query, scores in zip(distinct, self._scores(distinct), strict=True)
        }

    def _scores(self, queries: Sequence[str]) -> Iterator[torch.Tensor]:
        """Score the catalogue for each query, float [items], higher is nearer; a chunk of queries at once."""
        vectors = Vectors(self._model.encode_queries, queries)
        for start in range(0, len(queries), self._queries_per_chunk):
            ranks = self._ranker(vectors[queries[start : start + self._queries_per_chunk]], self._item_vectors)
            yield from self._sign * self._parts.aggregated(ranks)


def _clicked_first(scores: torch.Tensor, counts: Mapping[int, int]) -> torch.Tensor:
    """Put the clicked items first: what a look-up table shows, and the model behind it.

    Args:
        scores: Of the model, float [items].
        counts: Row of each clicked item → how often it was clicked.

    Returns:
        float64 [items]: 0 … 1 by the model, and above that by the count. Not by the count itself: thousands of clicks
        would leave too few digits to tell the model's order.
    """
    low, high = scores.min().double(), scores.max().double()
    placed = (scores.double() - low) / (high - low + 1)
    step_of = {count: step for step, count in enumerate(sorted(set(counts.values())), start=1)}
    placed[list(counts)] += torch.tensor([step_of[it] for it in counts.values()], dtype=torch.float64)
    return placed


def measure_ranking(
    scores: torch.Tensor,
    grades: Mapping[int, float],
    *,
    cutoffs: Sequence[int] = (CUTOFF,),
    relevant_from: float = 1.0,
) -> dict[str, float]:
    """Measure one ranking of the catalogue.

    Args:
        scores: float [items], higher is nearer.
        grades: Row of each judged item → its grade, 0 or more; what is not judged has grade 0.
        cutoffs: As of `RankedCatalogue.measure`.
        relevant_from: As of `RankedCatalogue.measure`.

    Returns:
        nDCG at k with the grades as gains (Järvelin and Kekäläinen 2002), reciprocal rank at k, recall at k, by
        torchmetrics.
    """
    # Importing it takes 4 to 8 seconds (it pulls in transformers), which stages that measure no ranking need not pay.
    from torchmetrics.functional import retrieval

    # The measures look at the first k alone; all that tie with the k-th must be there, for nDCG is the mean over
    # their orders, and the judged items, for the ideal order and for recall's denominator. NumPy finds them in a
    # tenth of torch's time, whose threads wait for each other over so few numbers.
    last = float(scores.topk(min(max(cutoffs), len(scores))).values[-1])
    rows = np.union1d(np.flatnonzero(scores.numpy() >= last), np.fromiter(grades, np.int64))
    gains = torch.tensor([grades.get(row, 0.0) for row in rows.tolist()], dtype=torch.float64)
    kept = scores[torch.from_numpy(rows)].double()
    relevant = gains >= relevant_from
    # Torchmetrics takes its scores for probabilities: to some measures nothing at or below 0 is relevant.
    positive = kept - kept.min() + 1.0
    figures = {}
    for k in cutoffs:
        figures[f"ndcg_at_{k}"] = float(retrieval.retrieval_normalized_dcg(positive, gains, top_k=k))
        figures[f"mrr_at_{k}"] = float(retrieval.retrieval_reciprocal_rank(positive, relevant, top_k=k))
        figures[f"recall_at_{k}"] = float(retrieval.retrieval_recall(positive, relevant, top_k=k))
    return figures
