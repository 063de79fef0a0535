"""`validation_loss`: the loss of a model on frozen sessions, to compare models by. Imports no Lightning."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from embft.errors import ConfigError, DataRejected
from embft.finetuning.batches import Pair, flatten
from embft.finetuning.confidences import ConfidenceCalculator, dummy_confidences
from embft.finetuning.features import FeaturesExtractor
from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.items import ItemsSet, QueryRetriever
from embft.finetuning.losses import RankingLossInterface
from embft.finetuning.metrics import distance_shifts
from embft.finetuning.models.interface import EmbeddingsModelInterface
from embft.finetuning.params import FineTuningParams
from embft.finetuning.rankers import Ranker, cosine_similarity
from embft.finetuning.threads import cpu_threads
from embft.finetuning.vectors import Vectors


@dataclass(frozen=True)
class ValidationLoss:
    """Loss of a model on a frozen set of sessions.

    Args:
        mean: Mean over the sessions that have a pair, in the loss's unit (nats for the softmax).
        per_session: Float64 [sessions], aligned to the clicked inputs in their order; NaN for a session without a
            not-clicked result.
        n_sessions: Sessions in the mean.
        shifts: `DistanceShift`'s values of each session, aligned in the same way; NaN where there is none.
    """

    mean: float
    per_session: NDArray[np.float64]
    n_sessions: int
    shifts: dict[str, NDArray[np.float64]]


def validation_loss(
    model: EmbeddingsModelInterface,
    inputs: Iterable[FineTuningInput],
    items_set: ItemsSet,
    query_retriever: QueryRetriever,
    loss_func: RankingLossInterface,
    params: FineTuningParams,
    batch_size: int = 1024,
    *,
    ranker: Ranker = cosine_similarity,
    is_similarity: bool = True,
    confidence_calculator: ConfidenceCalculator = dummy_confidences,
) -> ValidationLoss:
    """Loss of a model on sessions: the same for the same sessions, no chance is in it.

    It does not depend on the batch size either, unless the loss takes its negatives from the batch: then compare
    models at one batch size. Every pair of a clicked session counts: no downsampling, no filter by difference,
    whatever `params` say. Sessions without a click are left out, as is the irrelevant partner that training may give
    a session. Each distinct query and item is encoded once over all batches; ranks are computed in float64.

    Args:
        model: Not changed.
        inputs: Sessions; those without a click are skipped.
        items_set: Texts of all their items.
        query_retriever: What of a query the model gets.
        loss_func: Not changed; the margin is the one of `params`.
        params: The margin is read; None takes what suits the loss.
        batch_size: Sessions ranked at a time; a matter of memory, and of what a loss with negatives from the batch
            compares.
        ranker: Vectors of queries and items → ranks.
        is_similarity: Whether a bigger rank is closer.
        confidence_calculator: Shown items → confidences.

    Returns:
        Mean and per-session losses.

    Raises:
        ConfigError: `batch_size` is below 1.
        DataRejected: No session has both a click and a not-clicked result, an item is not in the catalogue, or the
            loss is not a number.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; it must be 1 session or more")
    loss_func = copy(loss_func)
    loss_func.set_margin(params.margin)
    pairs: list[Pair] = [(session, None) for session in inputs if not session.is_irrelevant]
    queries = Vectors(model.encode_queries, (query_retriever(it.query) for it, _ in pairs), torch.float64)
    extractor = FeaturesExtractor(
        model, params, ranker, is_similarity, confidence_calculator, negatives=loss_func.negatives
    )
    was_training = model.training
    extractor.eval()
    shown = items_set.items_by_ids(dict.fromkeys(id_ for session, _ in pairs for id_ in session.results))
    candidates = extractor.candidates(items_set)
    items = Vectors(model.encode_items, items_set.parts([*shown, *candidates]).parts, torch.float64)

    losses = [np.zeros(0)]
    has_pair = [np.zeros(0, bool)]
    shifts: dict[str, list[NDArray[np.float64]]] = {}
    with torch.no_grad(), cpu_threads(model.n_cpu_threads):
        for start in range(0, len(pairs), batch_size):
            batch = pairs[start : start + batch_size]
            flat = flatten(
                batch,
                items_set,
                query_retriever,
                with_irrelevant=False,
                with_clicks_of_log=extractor.negatives == "batch",
                candidates=candidates,
            )
            features, ranked = extractor.features_from_vectors(
                flat, queries[flat.query_texts], items[flat.item_parts.parts]
            )
            losses.append(loss_func.per_session(features, len(batch)).numpy())
            has_pair.append(np.bincount(features.session_index, minlength=len(batch)) > 0)
            for name, values in distance_shifts(ranked, len(batch)).items():
                shifts.setdefault(name, []).append(values.numpy())
    model.train(was_training)
    of_sessions = {name: np.concatenate(parts) for name, parts in shifts.items()}
    return _summary(np.concatenate(losses), np.concatenate(has_pair), pairs, of_sessions)


def _summary(
    per_session: NDArray[np.float64],
    has_pair: NDArray[np.bool_],
    pairs: list[Pair],
    shifts: dict[str, NDArray[np.float64]],
) -> ValidationLoss:
    if not has_pair.any():
        raise DataRejected(
            f"none of {len(pairs)} clicked sessions has a not-clicked item beside it, so there is no pair to take a "
            "loss of; give shown lists, or draw not-clicked items from the catalogue"
        )
    broken = np.flatnonzero(has_pair & ~np.isfinite(per_session))
    if broken.size:
        raise DataRejected(
            f"the validation loss of {broken.size} of {has_pair.sum()} sessions is not a finite number, "
            f"the first is {pairs[broken[0]][0]!r}; the model's weights are broken"
        )
    return ValidationLoss(float(per_session[has_pair].mean()), per_session, int(has_pair.sum()), shifts)
