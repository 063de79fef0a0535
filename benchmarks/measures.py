"""nDCG, MRR and recall at 10 of whole score matrices: the same figures as torchmetrics gives, many queries at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CUTOFF = 10
MEASURES = ("ndcg_at_10", "mrr_at_10", "recall_at_10")


@dataclass(frozen=True)
class Case:
    """One ranking to be measured.

    Args:
        query: What was searched.
        gains: Item id → gain > 0 in nDCG; items left out gain nothing.
        relevant: Ids that count for MRR and recall, at least one.
    """

    query: str
    gains: Mapping[str, float]
    relevant: frozenset[str]


class Evaluation:
    """Queries, the items ranked for each of them, and what a good ranking is.

    Args:
        cases: Rankings to be measured, each distinct one once.
        weights: Part ("all", "unseen") → how often each case counts in the part's means, [cases].
        items: Id → text of the ranked items, in the order that breaks ties.
    """

    def __init__(self, cases: Sequence[Case], weights: Mapping[str, Sequence[float]], items: Mapping[str, str]) -> None:
        self.item_ids, self.item_texts = list(items), list(items.values())
        self.queries = list(dict.fromkeys(case.query for case in cases))
        self.weights = {part: np.array(values, np.float64) for part, values in weights.items()}
        row_of = {query: row for row, query in enumerate(self.queries)}
        column_of = {id_: column for column, id_ in enumerate(self.item_ids)}
        entries = [(number, id_) for number, case in enumerate(cases) for id_ in {**case.gains, **_ones(case.relevant)}]
        self._case = np.array([number for number, _ in entries])
        self._row = np.array([row_of[cases[number].query] for number, _ in entries])
        self._column = np.array([column_of[id_] for _, id_ in entries])
        self._gain = np.array([cases[number].gains.get(id_, 0.0) for number, id_ in entries])
        self._is_relevant = np.array([id_ in cases[number].relevant for number, id_ in entries])
        self._ideal = np.array([_dcg_of_sorted(case.gains.values()) for case in cases])

    def measure(self, scores: NDArray[np.floating]) -> dict[str, dict[str, float]]:
        """Measure one model.

        Args:
            scores: Float [queries, items], higher is nearer; the first of equal items comes first.

        Returns:
            Part → measure → mean, in [0, 1].
        """
        per_case = self.per_case(scores)
        return {
            part: {name: float(np.average(values, weights=weights)) for name, values in per_case.items()}
            for part, weights in self.weights.items()
        }

    def per_case(self, scores: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
        """Measure → float64 [cases]; gains count linearly, as in torchmetrics."""
        first_ten = np.argsort(-scores, axis=1, kind="stable")[:, :CUTOFF]
        is_at = first_ten[self._row] == self._column[:, None]
        is_found, place = is_at.any(1), is_at.argmax(1) + 1.0
        is_hit = is_found & self._is_relevant
        dcg = self._sums(np.where(is_found, self._gain / np.log2(place + 1), 0.0))
        best = np.zeros(len(self._ideal))
        np.maximum.at(best, self._case, np.where(is_hit, 1 / place, 0.0))
        recall = self._sums(is_hit) / self._sums(self._is_relevant)
        return {"ndcg_at_10": dcg / self._ideal, "mrr_at_10": best, "recall_at_10": recall}

    def _sums(self, values: NDArray[np.generic]) -> NDArray[np.float64]:
        return np.bincount(self._case, weights=values.astype(np.float64), minlength=len(self._ideal))


def _ones(ids: frozenset[str]) -> dict[str, float]:
    return dict.fromkeys(sorted(ids), 1.0)


def _dcg_of_sorted(gains: object) -> float:
    best = sorted(gains, reverse=True)[:CUTOFF]  # type: ignore[call-overload]
    return float(sum(gain / np.log2(place + 2) for place, gain in enumerate(best)))
