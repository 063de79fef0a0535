"""Measure one model on all that was held out: the clicks, the guard sets, and what it costs to serve."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from embft.finetuning.catalogue import RankedCatalogue
from embft.finetuning.inputs import FineTuningInput, query_identity
from embft.finetuning.items import ItemsSet, QueryRetriever
from embft.finetuning.models import EmbeddingsModelInterface
from embft.finetuning.params import FineTuningParams, FineTuningSettings
from embft.finetuning.registry import find_confidences, find_ranker, make_loss
from embft.finetuning.validation import ValidationLoss, validation_loss
from embft.promotion.evaluation_record import Costs
from embft.promotion.guards import GuardSet
from embft.promotion_config import SHIFTS

log = logging.getLogger(__name__)

_TIMED_QUERIES = 50

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """What every model is measured on.

    Args:
        sessions: Clicked sessions that no model was trained on.
        items_set: The catalogue.
        retriever: What of a query a model gets.
        guards: Guard sets.
        guard_items: Items that a guard set brings with it, by its name; others are looked for in the catalogue.
    """

    sessions: Sequence[FineTuningInput]
    items_set: ItemsSet
    retriever: QueryRetriever
    guards: Sequence[GuardSet]
    guard_items: Mapping[str, ItemsSet]


@dataclass(frozen=True)
class Measured:
    """One model's figures.

    Args:
        sessions: Measure → float64 [sessions]; NaN where a session has none.
        guards: Guard → measure → float64 [queries], in the order of its cases.
        costs: Size, and time to encode a query.
        catalogue: As the model ranks it; None where it could not serve.
    """

    sessions: dict[str, Numbers]
    guards: dict[str, dict[str, Numbers]]
    costs: Costs
    catalogue: RankedCatalogue | None


class Measuring:
    """Measures models in one and the same way.

    Args:
        held_out: What they are measured on.
        params: The margin is read.
        settings: Loss, ranker, confidences, batch size.
        cutoffs: The k of nDCG@k, MRR@k and Recall@k.
    """

    def __init__(
        self, held_out: HeldOut, params: FineTuningParams, settings: FineTuningSettings, cutoffs: Sequence[int]
    ) -> None:
        self._held_out = held_out
        self._params = params
        self._settings = settings
        self._cutoffs = cutoffs

    def __call__(self, model: EmbeddingsModelInterface) -> Measured:
        """Measure a model.

        Args:
            model: Not changed.

        Returns:
            Its figures; every one is NaN of a model with a broken weight, or without a vector for some item: it could
            not serve.

        Raises:
            DataRejected: The sessions are such that no model has a loss on them.
        """
        costs = Costs(model_mb=_megabytes(model), encode_ms=_encode_ms(model, self._queries()))
        if not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
            return self._broken(costs)
        catalogue = self._ranked(model, self._held_out.items_set)
        if not catalogue.is_finite:
            log.warning("the model gives an item of the catalogue a vector that is not finite, so it is not measured")
            return self._broken(costs)
        loss = self.loss(model, self._held_out.sessions)
        ranking = catalogue.measure(self._cases(), cutoffs=self._cutoffs)
        guards = {}
        for guard in self._held_out.guards:
            own = self._held_out.guard_items.get(guard.name)
            of_guard = self._ranked(model, own) if own else catalogue
            guards[guard.name] = of_guard.measure(
                guard.cases.items(), cutoffs=self._cutoffs, relevant_from=guard.relevant_from
            )
        return Measured({"val_loss": loss.per_session, **ranking, **loss.shifts}, guards, costs, catalogue)

    def most_clicked(
        self, counts: Mapping[str, Mapping[str, int]], behind: RankedCatalogue | None
    ) -> dict[str, Numbers]:
        """Measure a look-up table of past clicks; see `embft.promotion.most_clicked`.

        Args:
            counts: Query, by its `query_identity` → item → how often it was clicked before the held-out days.
            behind: Orders what the table does not; None where that model could not serve.

        Returns:
            Retrieval measure → float64 [sessions]; it has no loss, and costs nothing to mention.
        """
        if behind is None:
            return {name: np.full(len(self._held_out.sessions), np.nan) for name in self._ranking_measures}
        told = ((self._held_out.retriever(it.query), query_identity(it.query)) for it in self._held_out.sessions)
        clicks = {query: counts[identity] for query, identity in told if identity in counts}
        return behind.measure(self._cases(), cutoffs=self._cutoffs, clicks=clicks)

    def loss(self, model: EmbeddingsModelInterface, sessions: Sequence[FineTuningInput]) -> ValidationLoss:
        """Take the ranking loss of a model on sessions; see `validation_loss`."""
        settings = self._settings
        return validation_loss(
            model,
            sessions,
            self._held_out.items_set,
            self._held_out.retriever,
            make_loss(settings.loss_func),
            self._params,
            batch_size=settings.batch_size,
            ranker=find_ranker(settings.ranker),
            is_similarity=settings.is_similarity,
            confidence_calculator=find_confidences(settings.confidence_calculator),
        )

    def _cases(self) -> Iterator[tuple[str, dict[str, float]]]:
        clicked = [dict.fromkeys(it.events, 1.0) for it in self._held_out.sessions]
        return zip(self._queries(), clicked, strict=True)

    @property
    def _ranking_measures(self) -> list[str]:
        return [f"{name}_at_{k}" for k in self._cutoffs for name in ("ndcg", "mrr", "recall")]

    def _queries(self) -> list[str]:
        return [self._held_out.retriever(it.query) for it in self._held_out.sessions]

    def _ranked(self, model: EmbeddingsModelInterface, items_set: ItemsSet) -> RankedCatalogue:
        ranker = find_ranker(self._settings.ranker)
        return RankedCatalogue(model, items_set, ranker=ranker, is_similarity=self._settings.is_similarity)

    def _broken(self, costs: Costs) -> Measured:
        ranking = self._ranking_measures
        nothing = {name: np.full(len(self._held_out.sessions), np.nan) for name in ("val_loss", *ranking, *SHIFTS)}
        guards = {
            guard.name: {name: np.full(len(guard.cases), np.nan) for name in ranking} for guard in self._held_out.guards
        }
        return Measured(nothing, guards, costs, catalogue=None)


def _megabytes(model: EmbeddingsModelInterface) -> float:
    return float(sum(weight.numel() * weight.element_size() for weight in model.state_dict().values()) / 1e6)


def _encode_ms(model: EmbeddingsModelInterface, queries: Sequence[str]) -> float:
    distinct = list(dict.fromkeys(queries))[:_TIMED_QUERIES]
    model.encode_queries(distinct[:1])  # the first call sets things up
    times = []
    for query in distinct:
        began = perf_counter()
        model.encode_queries([query])
        times.append(1000 * (perf_counter() - began))
    return median(times)
