"""Measures followed in training, and their accumulation over batches."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from embft.errors import ConfigError
from embft.finetuning.catalogue import rank_catalogue
from embft.finetuning.features import RankedBatch
from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.items import ItemsSet, QueryRetriever
from embft.finetuning.models.interface import EmbeddingsModelInterface
from embft.finetuning.rankers import Ranker


@dataclass(frozen=True)
class MetricValue:
    """A named number.

    Args:
        name: Such as `not_irrelevant_dist_shift`.
        value: The number.
        weight: What it counts in a mean, such as the sessions it was taken over; > 0.
    """

    name: str
    value: float
    weight: float = 1.0


@dataclass(frozen=True)
class ValidationSet:
    """All that a measure of a whole validation may look at.

    Args:
        model: As it is now; in evaluation mode, without gradients.
        sessions: The clicked sessions of the validation, in order.
        items_set: The catalogue.
        query_retriever: What of a query the model gets.
        ranker: Vectors of queries and items → ranks.
        is_similarity: Whether a bigger rank is closer.
    """

    model: EmbeddingsModelInterface
    sessions: Sequence[FineTuningInput]
    items_set: ItemsSet
    query_retriever: QueryRetriever
    ranker: Ranker
    is_similarity: bool


class MetricCalculator:
    """A measure followed in training; a subclass overrides what it needs of the two."""

    def __call__(self, ranked: RankedBatch) -> list[MetricValue]:
        """Values for a batch, from ranks that are computed anyway; a value that it does not define is left out."""
        return []

    def of_validation(self, validation: ValidationSet) -> list[MetricValue]:
        """Values for a whole validation, at its end; here the model may be asked for more vectors."""
        return []


class DistanceShift(MetricCalculator):
    """How much closer clicked items came, and how much farther not-clicked ones went, since the start.

    Per session, the mean over its items of target · (rank now - rank at the start) for clicked items, and of the
    same with the opposite sign for not-clicked ones; then the mean over sessions. Both are above 0 where training
    does its work. Each item is compared with its own rank at the start; items without one are left out.
    """

    def __call__(self, ranked: RankedBatch) -> list[MetricValue]:
        """`not_irrelevant_dist_shift` (clicked items) and `irrelevant_dist_shift` (the others).

        Args:
            ranked: Ranks of a batch.

        Returns:
            The two values, weighted by sessions; one is missing where no such item has a rank at the start.
        """
        n_sessions = int(ranked.session_index.max()) + 1 if ranked.session_index.numel() else 0
        values = []
        for name, shifts in distance_shifts(ranked, n_sessions).items():
            known = shifts[~torch.isnan(shifts)]
            if known.numel():
                values.append(MetricValue(name, float(known.mean()), weight=float(known.numel())))
        return values


def distance_shifts(ranked: RankedBatch, n_sessions: int) -> dict[str, Tensor]:
    """Say of each session how much closer its clicked items came, and how much farther the others went.

    Args:
        ranked: Ranks of a batch.
        n_sessions: Sessions of the batch.

    Returns:
        `not_irrelevant_dist_shift` (clicked items) and `irrelevant_dist_shift` (the others), float64 [sessions], as
        `DistanceShift` says; NaN for a session without such an item of a known rank at the start.
    """
    closer = (ranked.ranks - ranked.start_ranks) * (1.0 if ranked.is_similarity else -1.0)
    known = ~torch.isnan(ranked.start_ranks)
    sides = {"not_irrelevant_dist_shift": (ranked.clicked, 1.0), "irrelevant_dist_shift": (~ranked.clicked, -1.0)}
    shifts = {}
    for name, (side, sign) in sides.items():
        sessions = ranked.session_index[known & side]
        sums = closer.new_zeros(n_sessions, dtype=torch.float64)
        sums.index_add_(0, sessions, sign * closer[known & side].double())
        shifts[name] = sums / torch.bincount(sessions, minlength=n_sessions)  # 0 / 0 is NaN
    return shifts


class RankingMetrics(MetricCalculator):
    """nDCG@10, MRR@10 and Recall@10 of the validation's clicks, the whole catalogue ranked for each query.

    Encodes the catalogue at every validation: seconds for 50,000 items by a static model, minutes by a transformer.
    """

    def of_validation(self, validation: ValidationSet) -> list[MetricValue]:
        """`ndcg_at_10`, `mrr_at_10` and `recall_at_10`, means over the clicked sessions.

        Args:
            validation: The validation.

        Returns:
            The three values.

        Raises:
            DataRejected: A clicked item is not in the catalogue.
        """
        figures = rank_catalogue(
            validation.model,
            validation.sessions,
            validation.items_set,
            validation.query_retriever,
            ranker=validation.ranker,
            is_similarity=validation.is_similarity,
        )
        return [MetricValue(name, float(values.mean()), float(len(values))) for name, values in figures.items()]


class MetricsAccumulator:
    """Values of named measures: weighted mean of all, mean of the latest, smallest and largest.

    Args:
        window: How many of the latest values `sliding` looks at, >= 1.

    Raises:
        ConfigError: `window` is below 1.
    """

    def __init__(self, window: int = 10) -> None:
        if window < 1:
            raise ConfigError(f"window is {window}; it must be 1 value or more")
        self._window = window
        self.reset()

    def reset(self) -> None:
        """Forget every value."""
        self._sums: dict[str, float] = defaultdict(float)
        self._weights: dict[str, float] = defaultdict(float)
        self._latest: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=self._window))
        self._minimum: dict[str, float] = {}
        self._maximum: dict[str, float] = {}

    def add(self, metrics: Iterable[MetricValue]) -> None:
        """Take in values, each by its weight."""
        for metric in metrics:
            self._sums[metric.name] += metric.value * metric.weight
            self._weights[metric.name] += metric.weight
            self._latest[metric.name].append(metric.value)
            self._minimum[metric.name] = min(metric.value, self._minimum.get(metric.name, metric.value))
            self._maximum[metric.name] = max(metric.value, self._maximum.get(metric.name, metric.value))

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """All that was taken in, as plain values: `load_state_dict` goes on from there."""
        return {
            "sums": dict(self._sums),
            "weights": dict(self._weights),
            "latest": {name: list(values) for name, values in self._latest.items()},
            "minimum": dict(self._minimum),
            "maximum": dict(self._maximum),
        }

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Take in what `state_dict` gave, instead of what is here."""
        self.reset()
        self._sums.update(state["sums"])
        self._weights.update(state["weights"])
        for name, values in state["latest"].items():
            self._latest[name].extend(values)
        self._minimum.update(state["minimum"])
        self._maximum.update(state["maximum"])

    def means(self) -> dict[str, float]:
        """Weighted mean of every measure that has a value."""
        return {name: total / self._weights[name] for name, total in self._sums.items()}

    def mean(self, name: str) -> float:
        """Weighted mean of all values; KeyError where there is none."""
        return self.means()[name]

    def sliding(self, name: str) -> float:
        """Plain mean of the latest `window` values; KeyError where there is none."""
        self._minimum[name]
        return sum(self._latest[name]) / len(self._latest[name])

    def minimum(self, name: str) -> float:
        """Smallest value; KeyError where there is none."""
        return self._minimum[name]

    def maximum(self, name: str) -> float:
        """Largest value; KeyError where there is none."""
        return self._maximum[name]
