"""`FeaturesExtractor`: sessions and a model → `FineTuningFeatures`, the pairs that a loss compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embft.errors import ConfigError
from embft.finetuning.batches import FlatBatch, Pair, flatten
from embft.finetuning.confidences import ConfidenceCalculator, ShownItems, dummy_confidences
from embft.finetuning.evidence import ClickWeights
from embft.finetuning.items import ItemsSet, QueryRetriever
from embft.finetuning.models.interface import EmbeddingsModelInterface
from embft.finetuning.pairs import Pairs, batch_pairs, catalogue_pairs, downsampled, shown_pairs
from embft.finetuning.params import ExamplesType, FineTuningParams
from embft.finetuning.parts import Item
from embft.finetuning.rankers import Ranker, cosine_similarity

Negatives = Literal["shown", "batch", "catalogue"]
EVALUATED_CANDIDATES = 512
"""Items that a click is compared with in evaluation mode; the same for every model, whatever it is trained with."""
Encode = Callable[[Callable[[Sequence[Any]], Tensor], Sequence[Any]], Tensor]
"""A tower and its inputs → their vectors; where several processes train, each encodes a share: see `sharing`."""


@dataclass(frozen=True)
class FineTuningFeatures:
    """Pairs of a clicked and a not-clicked item, as aligned 1-D tensors: entry k of each is pair k.

    Args:
        positive_ranks: Rank of the clicked item, float [pairs].
        negative_ranks: Rank of the not-clicked item, float [pairs].
        target: +1 where a bigger rank is closer, -1 where the rank is a distance; float [pairs].
        positive_confidences: How far the click is believed, in [0, 1], float [pairs].
        negative_confidences: How far the absence of a click is believed, in [0, 1], times the items that the negative
            stands for where it is drawn from the catalogue, float [pairs].
        session_index: Which session of the batch the pair is of, int64 [pairs].
        click_index: Which click of the batch the pair is of, int64 [pairs]; a click's pairs share one number.

    Raises:
        ConfigError: The tensors are not 1-D or differ in length.
    """

    positive_ranks: Tensor
    negative_ranks: Tensor
    target: Tensor
    positive_confidences: Tensor
    negative_confidences: Tensor
    session_index: Tensor
    click_index: Tensor

    def __post_init__(self) -> None:
        shapes = {field.name: tuple(getattr(self, field.name).shape) for field in fields(self)}
        if len(set(shapes.values())) != 1 or len(shapes["target"]) != 1:
            raise ConfigError(f"features must be 1-D tensors of one length; their shapes are {shapes}")

    def __len__(self) -> int:
        """How many pairs there are."""
        return self.target.shape[0]

    @property
    def differences(self) -> Tensor:
        """By how much the clicked item is closer, float [pairs]; negative where the order is wrong."""
        return self.target * (self.positive_ranks - self.negative_ranks)

    def select(self, pairs: Tensor) -> FineTuningFeatures:
        """The pairs chosen by a mask, bool [pairs]."""
        if pairs.all():
            return self
        chosen = pairs.nonzero().flatten()
        return FineTuningFeatures(
            **{field.name: getattr(self, field.name).index_select(0, chosen) for field in fields(self)}
        )

    def clamp_diff_in(self, minimum: float, maximum: float) -> FineTuningFeatures:
        """The pairs whose ranks differ by `minimum` to `maximum`, both included, in either direction.

        A pair with a NaN stays: left out here, broken weights would look like a batch without pairs.
        """
        size = (self.positive_ranks - self.negative_ranks).detach().abs()
        return self.select(~((size < minimum) | (size > maximum)))


@dataclass(frozen=True)
class RankedBatch:
    """Every shown item of a batch with its rank now and at the start; what a `MetricCalculator` reads.

    Args:
        ranks: Ranks by the model as it is now, float [shown], without gradients.
        start_ranks: Ranks at the start, from the inputs, float64 [shown]; NaN where unknown.
        clicked: Whether the item was clicked, bool [shown].
        session_index: Which session of the batch it was shown in, int64 [shown].
        is_similarity: Whether a bigger rank is closer.
    """

    ranks: Tensor
    start_ranks: Tensor
    clicked: Tensor
    session_index: Tensor
    is_similarity: bool


class FeaturesExtractor(nn.Module):
    """Encodes a batch's distinct queries and distinct items once each, ranks them, and pairs clicks with no-clicks.

    Positives are the clicked items of a session. Negatives are its shown items without a click and, with
    `not_irrelevant_only=False`, the results of the irrelevant session beside it, ranked for that session's query;
    or, for a loss that wants it so, the not-clicked results of its own session and all clicked items of the batch, but
    for those that were clicked for the query anywhere in the log, or all items of the catalogue.

    In training mode (`.train()`) queries are augmented, negatives are downsampled, and pairs filtered by their
    difference and by the kind of examples. In evaluation mode every pair counts, of the texts as they are: there,
    chance and a model that moves its hard pairs out of the filter's range must not change a loss.

    Args:
        model: Both towers.
        ranker: Vectors [queries, dim] and [items, dim] → ranks [queries, items].
        is_similarity: Whether a bigger rank is closer.
        params: Downsampling, thresholds, margin and kinds of examples.
        confidence_calculator: Shown items → confidences.
        negatives: "shown", "batch" or "catalogue": where negatives come from; see `RankingLossInterface.negatives`.
        query_augmenter: Query texts → query texts, in training mode; None leaves them as they are.
        seed: Of the downsampling and of the candidates.
        n_candidates: Items of the catalogue that a step compares its clicks with, for "catalogue"; None takes what
            suits the model.
    """

    def __init__(
        self,
        model: EmbeddingsModelInterface,
        params: FineTuningParams,
        ranker: Ranker = cosine_similarity,
        is_similarity: bool = True,
        confidence_calculator: ConfidenceCalculator = dummy_confidences,
        negatives: Negatives = "shown",
        query_augmenter: Callable[[Sequence[str]], list[str]] | None = None,
        seed: int = 0,
        n_candidates: int | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.params = params
        self.ranker = ranker
        self.is_similarity = is_similarity
        self.confidence_calculator = confidence_calculator
        self.negatives = negatives
        self.query_augmenter = query_augmenter
        self.n_candidates = n_candidates or model.suggested_candidates
        self.click_weights: ClickWeights | None = None
        """What a click is worth, in training mode; None takes all alike."""
        self.margin = params.margin or 0.0
        """By which a pair counts as in order, for `hard_negatives`."""
        self.encode: Encode = _encode_alone
        self.examples_type = params.examples_order[0]
        self.validates_with_irrelevant = not params.not_irrelevant_only
        self._random = np.random.default_rng(seed)

    @property
    def random_state(self) -> dict[str, Any]:
        """Where the draws of negatives and of augmentations are, as plain values; set it, and they go on from there.

        An augmenter of one's own counts if it has a `random_state` too.
        """
        return {
            "negatives": self._random.bit_generator.state,
            "augmentations": getattr(self.query_augmenter, "random_state", None),
        }

    @random_state.setter
    def random_state(self, state: Mapping[str, Any]) -> None:
        self._random.bit_generator.state = state["negatives"]
        if state["augmentations"] is not None:
            self.query_augmenter.random_state = state["augmentations"]  # type: ignore[union-attr]

    def forward(
        self, batch: Sequence[Pair], items_set: ItemsSet, query_retriever: QueryRetriever
    ) -> tuple[FineTuningFeatures, RankedBatch]:
        """Features of a batch, with gradients, and the ranks they came from.

        Args:
            batch: (clicked session, irrelevant session or None), one per entry.
            items_set: All items of the batch.
            query_retriever: What of a query the model gets.

        Returns:
            Features, whose session index counts the batch's entries, and all ranks without gradients.

        Raises:
            DataRejected: An item is not in the catalogue.
        """
        candidates = self.candidates(items_set)
        is_draw = self.training and 0 < len(candidates) < len(items_set)
        flat = flatten(
            batch,
            items_set,
            query_retriever,
            with_irrelevant=not self.params.not_irrelevant_only if self.training else self.validates_with_irrelevant,
            with_clicks_of_log=self.negatives == "batch",
            candidates=candidates,
            candidate_weight=len(items_set) / len(candidates) if is_draw else 1.0,
            certain=self._clicked_for_queries(batch, items_set) if is_draw and self.model.candidates_learn else (),
            click_weights=self.click_weights if self.training else None,
        )
        queries = flat.query_texts
        if self.training and self.query_augmenter is not None:
            queries = self.query_augmenter(queries)
        query_vectors = self.encode(self.model.forward_query, queries)
        item_vectors = self._item_vectors(flat)
        return self.features_from_vectors(flat, query_vectors, item_vectors)

    def candidates(self, items_set: ItemsSet) -> Sequence[Item]:
        """Items that every click is compared with, besides those of the batch; none unless the loss asks for them.

        All items where there are few; else a draw, in evaluation mode always the same one.
        """
        count = self.n_candidates if self.training else EVALUATED_CANDIDATES
        if self.negatives != "catalogue":
            return ()
        if len(items_set) <= count:
            return items_set.items
        random = self._random if self.training else np.random.default_rng(0)
        drawn = random.choice(len(items_set), count, replace=False, shuffle=False)
        return [items_set.items[row] for row in drawn.tolist()]

    def _clicked_for_queries(self, batch: Sequence[Pair], items_set: ItemsSet) -> list[Item]:
        """What was clicked for the batch's queries anywhere in the log, or as many of it as there are candidates.

        A draw of few of many items has hardly any of them, and they would have no order among each other.
        """
        known = sorted({id_ for clicked, _ in batch for id_ in clicked.clicked_for_query if id_ in items_set})
        if len(known) > self.n_candidates:
            known = [known[row] for row in self._random.choice(len(known), self.n_candidates, replace=False).tolist()]
        return items_set.items_by_ids(known)

    def _item_vectors(self, flat: FlatBatch) -> Tensor:
        parts = flat.item_parts.parts
        own = self.encode(self.model.forward_items, parts[: flat.n_own_parts])
        if flat.n_own_parts == len(parts):
            return own
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.model.candidates_learn):
            others = self.encode(self.model.forward_items, parts[flat.n_own_parts :])
        return torch.cat([own, others])

    def features_from_vectors(
        self, flat: FlatBatch, query_vectors: Tensor, item_vectors: Tensor
    ) -> tuple[FineTuningFeatures, RankedBatch]:
        """Features of a batch whose queries and items are encoded already.

        Args:
            flat: The batch.
            query_vectors: One row per text of `flat.query_texts`, float [queries, dim].
            item_vectors: One row per part of `flat.item_parts`, float [parts, dim].

        Returns:
            As `forward`.

        Raises:
            ConfigError: The towers' vectors differ in length.
        """
        if query_vectors.shape[1] != item_vectors.shape[1]:
            raise ConfigError(
                f"the query tower gives {query_vectors.shape[1]} numbers per text and the item tower "
                f"{item_vectors.shape[1]}; towers that are compared need one length"
            )
        device = query_vectors.device
        # Under mixed precision too: a cosine in bfloat16 has steps of 0.004, which a scale of 20 makes 0.08 nats.
        with torch.autocast(device.type, enabled=False):
            matrix = self.ranker(_at_least_float32(query_vectors), _at_least_float32(item_vectors))
        # index_select on a flat matrix: the gradient of matrix[rows, columns] takes three times as long on a CPU.
        matrix = flat.item_parts.aggregated(matrix).flatten()
        cells = flat.query_rows * flat.item_parts.n_items + flat.item_columns
        ranks = matrix.detach().index_select(0, _tensor(cells, device))
        start_ranks, clicked = _tensor(flat.start_ranks, device), _tensor(flat.clicked, device)
        session_index = _tensor(flat.session_index, device)

        pairs = self._pairs(flat)
        positives, negatives = _tensor(pairs.positives, device), _tensor(pairs.negatives, device)
        confidences = self._confidences(flat, start_ranks, clicked).to(ranks)
        positive_ranks = matrix.index_select(0, _tensor(cells[pairs.positives], device))
        # What was not shown in the session says nothing by its having no click; it is taken at its word.
        negative_confidences = confidences.index_select(0, negatives.clamp_min(0)).masked_fill(negatives < 0, 1.0)
        if pairs.weights is not None:
            negative_confidences = negative_confidences * _tensor(pairs.weights, device).to(negative_confidences)
        features = FineTuningFeatures(
            positive_ranks=positive_ranks,
            negative_ranks=matrix.index_select(0, _tensor(pairs.negative_cells, device)),
            target=torch.full_like(positive_ranks, 1.0 if self.is_similarity else -1.0),
            positive_confidences=confidences.index_select(0, positives),
            negative_confidences=negative_confidences,
            session_index=session_index.index_select(0, positives),
            click_index=positives,
        )
        ranked = RankedBatch(ranks, start_ranks, clicked, session_index, self.is_similarity)
        return (self._filtered(features) if self.training else features), ranked

    def _pairs(self, flat: FlatBatch) -> Pairs:
        if self.negatives == "batch":
            pairs = batch_pairs(flat)
        elif self.negatives == "catalogue":
            pairs = catalogue_pairs(flat, with_clicks_of_batch=self.training)
        else:
            pairs = shown_pairs(flat)
        if self.training and self.params.negative_downsampling < 1.0:
            return downsampled(pairs, self.params.negative_downsampling, self._random)
        return pairs

    def _confidences(self, flat: FlatBatch, start_ranks: Tensor, clicked: Tensor) -> Tensor:
        """How far each shown item's click or no-click is believed, float [shown]."""
        device = clicked.device
        shown = ShownItems(
            ranks=start_ranks,
            clicked=clicked,
            lengths=_tensor(flat.lengths, device),
            positions=_tensor(flat.positions, device),
            propensities=_tensor(flat.propensities, device),
        )
        return self.confidence_calculator(shown) * _tensor(flat.event_weights, device)

    def _filtered(self, features: FineTuningFeatures) -> FineTuningFeatures:
        params = self.params
        features = features.clamp_diff_in(params.min_abs_difference_threshold, params.max_abs_difference_threshold)
        if self.examples_type is ExamplesType.hard_negatives:
            return features.select(~(features.differences.detach() >= self.margin))
        if self.examples_type is ExamplesType.hardest_negative:
            return features.select(_hardest_of_each_click(features))
        return features


def _hardest_of_each_click(features: FineTuningFeatures) -> Tensor:
    """Mask of the pair with the smallest difference of each click (all of them where they tie), bool [pairs]."""
    if not len(features):
        return features.target > 0
    differences = features.differences.detach()
    smallest = differences.new_zeros(int(features.click_index.max()) + 1)
    smallest = smallest.scatter_reduce(0, features.click_index, differences, "amin", include_self=False)
    return ~(differences > smallest[features.click_index])


def _encode_alone(forward: Callable[[Sequence[Any]], Tensor], inputs: Sequence[Any]) -> Tensor:
    return forward(inputs)


def _at_least_float32(vectors: Tensor) -> Tensor:
    return vectors.float() if vectors.dtype in (torch.bfloat16, torch.float16) else vectors


def _tensor(values: NDArray[np.generic], device: torch.device) -> Tensor:
    return torch.from_numpy(values).to(device)
