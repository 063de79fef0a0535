"""`EmbeddingsFineTuner`: the training of an embedding model from clicks, as a LightningModule."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from embft.errors import ConfigError, DataRejected
from embft.experiments.manager import ExperimentsManager
from embft.finetuning.augmentations import QueryAugmenter
from embft.finetuning.batches import Pair, checked_batch
from embft.finetuning.confidences import ConfidenceCalculator, dummy_confidences
from embft.finetuning.features import FeaturesExtractor, FineTuningFeatures, RankedBatch
from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.items import ItemsSet, QueryRetriever
from embft.finetuning.losses import RankingLossInterface
from embft.finetuning.metrics import DistanceShift, MetricCalculator, MetricsAccumulator, MetricValue, ValidationSet
from embft.finetuning.models.interface import EmbeddingsModelInterface
from embft.finetuning.optimizers import make_optimizers
from embft.finetuning.paired import PairedFineTuningInputsDataset
from embft.finetuning.params import FineTuningParams, FineTuningSettings
from embft.finetuning.rankers import Ranker, cosine_similarity
from embft.finetuning.ranks import fill_ranks
from embft.finetuning.registry import find_confidences, find_ranker, make_augmenter, make_loss, make_metrics

logger = logging.getLogger(__name__)


class EmbeddingsFineTuner(pl.LightningModule):  # type: ignore[misc]  # Lightning is untyped here
    """Trains an embedding model so that clicked items rank above shown items without a click.

    Use it under a Lightning Trainer (`embft.fit` sets one up), with batches that are lists of pairs from
    `PairedFineTuningInputsDataset`:

        tuner = EmbeddingsFineTuner(model, items_sets, query_retriever, loss_func, params, tracker)

    Optimisation is manual, for two towers need two optimisers; the schedulers are stepped after each of their steps.

    Args:
        model: Trained in place; its first `num_fixed_layers` layers are frozen.
        items_sets: "train" and "test" → items; a `DatasetDict` or any mapping.
        query_retriever: What of a session's query is given to the model.
        loss_func: Copied; the margin is the one of `fine_tuning_params`, or what suits the loss.
        fine_tuning_params: Hyper-parameters.
        tracker: Where measures go; None keeps them to Lightning, as in a notebook.
        metric_calculators: Measures besides the loss; None takes `[DistanceShift()]`.
        ranker: Vectors [queries, dim] and [items, dim] → ranks [queries, items].
        is_similarity: Whether a bigger rank is closer.
        confidence_calculator: How far clicks are believed.
        step_size: Optimiser steps between two falls of the learning rate.
        gamma: Factor of each fall.
        seed: Of the draws of negatives.
        query_augmenter: Query texts → query texts, in training only; see `QueryAugmenter`.
        catalogue_candidates: Of a loss over the catalogue; see `FineTuningSettings`.
        objective: What `val_loss` is measured with: trainings are compared by one margin, whatever they train with.
            None takes `fine_tuning_params`.

    Raises:
        ConfigError: An argument is of the wrong kind, `items_sets` lacks a split, or too many layers are frozen.
    """

    def __init__(
        self,
        model: EmbeddingsModelInterface,
        items_sets: Mapping[str, ItemsSet],
        query_retriever: QueryRetriever,
        loss_func: RankingLossInterface,
        fine_tuning_params: FineTuningParams,
        tracker: ExperimentsManager | None = None,
        metric_calculators: Sequence[MetricCalculator] | None = None,
        ranker: Ranker = cosine_similarity,
        is_similarity: bool = True,
        confidence_calculator: ConfidenceCalculator = dummy_confidences,
        step_size: int = 500,
        gamma: float = 0.9,
        seed: int = 0,
        query_augmenter: Callable[[Sequence[str]], list[str]] | None = None,
        catalogue_candidates: int | None = None,
        objective: FineTuningParams | None = None,
    ) -> None:
        super().__init__()
        _check_kinds(model, items_sets, query_retriever, loss_func, fine_tuning_params)
        self.automatic_optimization = False
        self.model = model
        self.items_sets = items_sets
        self.query_retriever = query_retriever
        self.loss_func = copy(loss_func)
        self.loss_func.set_margin(fine_tuning_params.margin)
        self.fine_tuning_params = fine_tuning_params
        self.objective = objective or fine_tuning_params
        self.validation_loss_func = copy(loss_func)
        self.validation_loss_func.set_margin(self.objective.margin)
        self.tracker = tracker
        self.metric_calculators = [DistanceShift()] if metric_calculators is None else list(metric_calculators)
        self.step_size = step_size
        self.gamma = gamma
        self.features_extractor = FeaturesExtractor(
            model,
            fine_tuning_params,
            ranker,
            is_similarity,
            confidence_calculator,
            negatives=loss_func.negatives,
            query_augmenter=query_augmenter,
            seed=seed,
            n_candidates=catalogue_candidates,
        )
        self.features_extractor.margin = self.loss_func.margin
        self.features_extractor.validates_with_irrelevant = not self.objective.not_irrelevant_only
        self.train_measures = MetricsAccumulator()
        self.validation_measures = MetricsAccumulator()
        self.steps_done = 0
        self._validated: list[FineTuningInput] = []
        model.fix_layers(fine_tuning_params.num_fixed_layers)

    @staticmethod
    def create(
        model: EmbeddingsModelInterface,
        settings: FineTuningSettings,
        items_sets: Mapping[str, ItemsSet],
        query_retriever: QueryRetriever,
        fine_tuning_params: FineTuningParams,
        tracker: ExperimentsManager | None = None,
        objective: FineTuningParams | None = None,
    ) -> EmbeddingsFineTuner:
        """Build a fine-tuner from settings, whose names are resolved here.

        Args:
            model: As in the constructor.
            settings: Loss, measures, ranker, confidences, scheduler, seed.
            items_sets: As in the constructor.
            query_retriever: As in the constructor.
            fine_tuning_params: As in the constructor.
            tracker: As in the constructor.
            objective: As in the constructor.

        Returns:
            The fine-tuner.

        Raises:
            ConfigError: As in the constructor.
        """
        return EmbeddingsFineTuner(
            model,
            items_sets,
            query_retriever,
            make_loss(settings.loss_func),
            fine_tuning_params,
            tracker,
            metric_calculators=make_metrics(settings.metric_calculators),
            ranker=find_ranker(settings.ranker),
            is_similarity=settings.is_similarity,
            confidence_calculator=find_confidences(settings.confidence_calculator),
            step_size=settings.step_size,
            gamma=settings.gamma,
            seed=settings.seed,
            query_augmenter=make_augmenter(settings),
            catalogue_candidates=settings.catalogue_candidates,
            objective=objective,
        )

    def preprocess_inputs(
        self, clickstream_dataset: Mapping[str, PairedFineTuningInputsDataset]
    ) -> Mapping[str, PairedFineTuningInputsDataset]:
        """Fill in, in place, the ranks that sessions lack, so that every input is valid afterwards.

        Args:
            clickstream_dataset: Split ("train", "test") → its sessions; a `DatasetDict` or any mapping.

        Returns:
            The same object.

        Raises:
            ConfigError: A split has no items in `items_sets`.
            DataRejected: A session has no result, or an item is not in the catalogue.
        """
        for split, dataset in clickstream_dataset.items():
            if split not in self.items_sets:
                raise ConfigError(f"split {split!r} has no items; `items_sets` has {sorted(self.items_sets)}")
            sessions = [*dataset.not_irrelevant, *dataset.irrelevant]
            filled = fill_ranks(
                self.model, sessions, self.items_sets[split], self.query_retriever, self.features_extractor.ranker
            )
            logger.info("%s: ranks filled in for %d of %d sessions", split, filled, len(sessions))
        return clickstream_dataset

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        """One optimiser and one scheduler where the towers share weights, two of each otherwise (items first).

        Returns:
            Optimisers and their schedulers.

        Raises:
            ConfigError: `step_size` is not a positive integer, `gamma` is not a float in (0, 1), or every layer
                is frozen.
        """
        return make_optimizers(self.model, self.fine_tuning_params, self.step_size, self.gamma)

    def training_step(self, batch: list[Pair], batch_idx: int) -> Tensor:
        """Features, loss, backward, and a step of every optimiser and its scheduler.

        Args:
            batch: Pairs of a clicked session and an irrelevant one or None.
            batch_idx: Not used.

        Returns:
            The loss, [].

        Raises:
            ConfigError: The batch is not made of pairs of sessions.
            DataRejected: The loss is not a number; no step was made with it.
        """
        pairs = checked_batch(batch)
        features, ranked = self.features_extractor(pairs, self.items_sets["train"], self.query_retriever)
        loss = self.loss_func(features)
        if (weights := self.features_extractor.click_weights) is not None:
            loss = loss / weights.mean  # of the size of the validation loss, which weighs all clicks alike
        if not torch.isfinite(loss):
            names = ", ".join(repr(clicked.session_id) for clicked, _ in pairs[:10])
            raise DataRejected(
                f"the training loss became {loss.item()} at step {self.steps_done}, in the batch of {len(pairs)} "
                f"sessions that begins with {names}; lower the learning rates, or look at these sessions"
            )
        measures = self._measures(ranked)
        if len(features):  # a step with zero gradients would still move the weights by Adam's momentum
            self._optimize(loss)
            self.steps_done += 1
            n_sessions = torch.count_nonzero(torch.bincount(features.session_index))
            measures.insert(0, MetricValue("loss", loss.item(), float(n_sessions)))
        self.train_measures.add(measures)
        self._log(measures, "train_")
        return loss

    def _optimize(self, loss: Tensor) -> None:
        optimizers, schedulers = _as_list(self.optimizers()), _as_list(self.lr_schedulers())
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()
        # Lightning steps no scheduler under manual optimisation.
        for scheduler in schedulers:
            scheduler.step()

    @torch.no_grad()
    def validation_step(self, batch: list[Pair] | Pair, batch_idx: int) -> Tensor:
        """Loss and measures of a batch, accumulated until the epoch's end; no gradient, no downsampling.

        Args:
            batch: As in training; a single pair is accepted.
            batch_idx: Not used.

        Returns:
            The batch's loss, [].

        Raises:
            ConfigError: The batch is not made of pairs of sessions.
        """
        pairs = checked_batch(batch)
        was_training = self.training
        self.eval()  # a Trainer has done so; a notebook may not have
        try:
            features: FineTuningFeatures
            features, ranked = self.features_extractor(pairs, self.items_sets["test"], self.query_retriever)
        finally:
            self.train(was_training)
        per_session = self.validation_loss_func.per_session(features, len(pairs))
        has_pair = torch.bincount(features.session_index, minlength=len(pairs)) > 0
        if has_pair.any():
            mean = per_session[has_pair].double().mean().item()
            self.validation_measures.add([MetricValue("loss", mean, float(has_pair.sum()))])
        self.validation_measures.add(self._measures(ranked))
        self._validated.extend(clicked for clicked, _ in pairs)
        return self.validation_loss_func(features)

    def on_validation_epoch_start(self) -> None:
        """Forget what a validation that broke off has left."""
        self.validation_measures.reset()
        self._validated.clear()

    def on_validation_epoch_end(self) -> float:
        """Log the means over the validation sessions as `val_<name>`, and begin anew.

        `val_loss` is a mean over sessions, whatever the batch size, and what EarlyStopping and ModelCheckpoint see.

        Returns:
            `val_loss`.

        Raises:
            DataRejected: No session had both a click and a not-clicked result, or the loss is not a number.
        """
        self.validation_measures.add(self._measures_of_validation())
        means, n_sessions = self.validation_measures.means(), len(self._validated)
        self.on_validation_epoch_start()
        loss = means.get("loss")
        if loss is None:
            raise DataRejected(
                f"none of {n_sessions} validation sessions has a click with a not-clicked item beside it, so there is "
                "no loss to watch; give shown lists, or take the loss catalogue_softmax"
            )
        if not math.isfinite(loss):
            raise DataRejected(f"the validation loss became {loss} at step {self.steps_done}; lower the learning rates")
        self._log([MetricValue(name, value) for name, value in means.items()], "val_")
        return loss

    def on_train_start(self) -> None:
        """Look over the training set for what its clicks are worth, and how its queries are spelled."""
        dataset = self.trainer.train_dataloader.dataset
        if isinstance(dataset, PairedFineTuningInputsDataset):
            extractor = self.features_extractor
            extractor.click_weights = dataset.click_weights(self.fine_tuning_params)
            if isinstance(extractor.query_augmenter, QueryAugmenter):
                extractor.query_augmenter.read(dataset.same_queries)

    def on_train_epoch_start(self) -> None:
        """Choose the kind of examples: each of `examples_order` gets an equal share of the epochs."""
        order = self.fine_tuning_params.examples_order
        epochs = self.trainer.max_epochs or len(order)
        phase = self.current_epoch * len(order) // max(epochs, len(order))
        self.features_extractor.examples_type = order[min(phase, len(order) - 1)]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leave the batch alone: sessions hold no tensor."""
        return batch

    def _measures(self, ranked: RankedBatch) -> list[MetricValue]:
        return [value for calculator in self.metric_calculators for value in calculator(ranked)]

    @torch.no_grad()
    def _measures_of_validation(self) -> list[MetricValue]:
        if not self._validated:
            return []
        extractor = self.features_extractor
        validation = ValidationSet(
            self.model,
            self._validated,
            self.items_sets["test"],
            self.query_retriever,
            extractor.ranker,
            extractor.is_similarity,
        )
        return [value for calculator in self.metric_calculators for value in calculator.of_validation(validation)]

    def _log(self, measures: Sequence[MetricValue], prefix: str) -> None:
        """To Lightning's callbacks, if a Trainer runs this now, and to the tracker, if there is one."""
        if self._trainer is not None and self._trainer._results is not None:
            values = {prefix + measure.name: measure.value for measure in measures}
            self.log_dict(values, batch_size=1, on_step=prefix == "train_", on_epoch=prefix == "val_", logger=False)
            if self._trainer.sanity_checking:
                return
        if self.tracker is not None and self.global_rank == 0:
            for measure in measures:
                self.tracker.log_metric(prefix + measure.name, measure.value, self.steps_done)


def _as_list(one_or_more: Any) -> list[Any]:
    return one_or_more if isinstance(one_or_more, list) else [one_or_more]


def _check_kinds(
    model: object, items_sets: object, query_retriever: object, loss_func: object, fine_tuning_params: object
) -> None:
    expected = [
        ("model", model, EmbeddingsModelInterface),
        ("items_sets", items_sets, Mapping),
        ("query_retriever", query_retriever, QueryRetriever),
        ("loss_func", loss_func, RankingLossInterface),
        ("fine_tuning_params", fine_tuning_params, FineTuningParams),
    ]
    for name, value, kind in expected:
        if not isinstance(value, kind):
            raise ConfigError(f"{name} is a {type(value).__name__}; EmbeddingsFineTuner needs a {kind.__name__}")
    assert isinstance(items_sets, Mapping)
    if missing := {"train", "test"} - items_sets.keys():
        raise ConfigError(f"items_sets lacks {sorted(missing)}; it has {sorted(items_sets)}, and needs train and test")
