"""What can be set about fine-tuning: `FineTuningParams` are searched over, `FineTuningSettings` stay fixed.

Free of torch, so that a config is checked in milliseconds. Both are frozen and refuse unknown keys.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

LossName = Literal["catalogue_softmax", "in_batch_softmax", "listwise_softmax", "prob_margin", "cosine_prob_margin"]
RepeatedClicks = Literal["count", "log"]
RankerName = Literal["cosine_similarity", "euclidean_distance"]
ConfidenceName = Literal["dummy_confidences", "click_confidences", "propensity_confidences"]
MetricName = Literal["distance_shift", "ranking"]
AugmentationName = Literal["change_case", "misspell", "respell"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Devices = Literal["auto", "cpu"] | Annotated[int, Field(ge=1, strict=True)]


class ExamplesType(StrEnum):
    """Which pairs (clicked item, not-clicked item) a phase of the training learns from."""

    all_examples = "all_examples"
    """Every pair."""

    hardest_negative = "hardest_negative"
    """For each click only the not-clicked item that the model now finds nearest to the query."""

    hard_negatives = "hard_negatives"
    """Only pairs that the model now has in the wrong order, or apart by less than the margin."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)

    @property
    def id(self) -> str:
        """Sha256 of the content, 64 hex digits: equal content has equal ids, in any process and key order.

        An object given in place of a name (a loss of one's own) counts by its `repr`, a function by its name and
        module: two lambdas of one place are not told apart.
        """
        content = json.dumps(self.model_dump(mode="python"), sort_keys=True, default=_name_of)
        return hashlib.sha256(content.encode()).hexdigest()


def _name_of(value: Any) -> str:
    """What stays the same in another process: the repr of a function holds its address."""
    name = getattr(value, "__qualname__", None)
    return repr(value) if name is None else f"{value.__module__}.{name}"


class FineTuningParams(_Frozen):
    """Hyper-parameters of one training run. The defaults suit 5,000 to 20,000 sessions."""

    num_fixed_layers: int = Field(0, ge=0, description="The first N layers of each tower are frozen; a count.")
    query_lr: float | None = Field(
        None,
        gt=0,
        description="Learning rate of the query tower, unused where the towers share weights; None takes what suits "
        "the kind of model: 0.005 for a static one, 0.0001 for a transformer.",
    )
    items_lr: float | None = Field(
        None, gt=0, description="Learning rate of the item tower, or of the one shared model; None as for query_lr."
    )
    query_weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay of the query tower, per step.")
    items_weight_decay: float = Field(
        0.0, ge=0, description="Decoupled weight decay of the item tower; above 0 the gradients become dense: slower."
    )
    margin: float | None = Field(
        None,
        ge=0,
        description="By how much a clicked item should beat a not-clicked one, in units of the ranker; None takes what "
        "suits the loss: 0 for catalogue_softmax, 0.2 for the others.",
    )
    half_life_days: float | None = Field(
        7.0,
        gt=0,
        description="A click weighs half for each so many days before the newest training click; None: all alike.",
    )
    repeated_clicks: RepeatedClicks = Field(
        "count",
        description="Clicks of one query on one item: count takes each as one more, log lets n of them weigh "
        "min(6, log2(1 + n)) together.",
    )
    not_irrelevant_only: bool = Field(
        True, description="Leave out sessions without a click; False takes their results as further negatives."
    )
    negative_downsampling: float = Field(
        1.0, ge=0, le=1, description="Share of a click's negatives used per step (at least one); 1.0 is all."
    )
    min_abs_difference_threshold: float = Field(
        0.0, ge=0, description="Train only on pairs whose ranks differ by at least this; units of the ranker."
    )
    max_abs_difference_threshold: float = Field(
        2.0, gt=0, description="Train only on pairs whose ranks differ by at most this; 2 is the range of a cosine."
    )
    examples_order: tuple[ExamplesType, ...] = Field(
        (ExamplesType.all_examples,),
        min_length=1,
        description="Kinds of pairs, each for an equal share of `num_epochs`; early stopping may end before the last.",
    )

    @model_validator(mode="after")
    def _thresholds_in_order(self) -> FineTuningParams:
        if self.min_abs_difference_threshold > self.max_abs_difference_threshold:
            raise ValueError(
                f"min_abs_difference_threshold is {self.min_abs_difference_threshold}, above "
                f"max_abs_difference_threshold {self.max_abs_difference_threshold}: no pair could be used"
            )
        return self


class FineTuningSettings(_Frozen):
    """What stays fixed over the training runs of a model.

    Where a name is expected, an object of one's own is taken too (a loss, a ranker, a confidence calculator, a
    metric); a config file can only give names.
    """

    loss_func: LossName | Callable[..., Any] = Field("catalogue_softmax", description="Loss, by name or as an object.")
    metric_calculators: tuple[MetricName | Callable[..., Any], ...] = Field(
        ("distance_shift",), description="Measures followed in training, by name or as objects."
    )
    ranker: RankerName | Callable[..., Any] = Field(
        "cosine_similarity", description="Vectors of queries and items → ranks, by name or as a callable."
    )
    is_similarity: bool = Field(True, description="True: a bigger rank is closer. False: the ranker is a distance.")
    confidence_calculator: ConfidenceName | Callable[..., Any] = Field(
        "dummy_confidences", description="How far each click and no-click is believed, by name or as a callable."
    )
    query_augmentations: tuple[AugmentationName | Callable[..., Any], ...] = Field(
        ("misspell", "respell"),
        description="What may be done to a query's text in training, by name or as callables; () for nothing.",
    )
    augmented_share: float = Field(
        0.3, ge=0, le=1, description="Share of the queries of a step that one of the augmentations is done to."
    )
    catalogue_candidates: int | None = Field(
        None,
        ge=1,
        description="Items that catalogue_softmax compares the clicks of a step with: all where there are no more, "
        "else a draw of so many; None takes what suits the kind of model.",
    )
    step_size: int = Field(500, gt=0, strict=True, description="Optimiser steps between falls of the learning rate.")
    gamma: float = Field(0.9, gt=0, lt=1, description="Factor of each fall of the learning rate.")
    num_epochs: int = Field(10, ge=1, description="Passes over the training sessions, at most: see early stopping.")
    batch_size: int = Field(256, ge=1, description="Clicked sessions per optimiser step.")
    kept_passes: int | None = Field(
        4,
        ge=1,
        description="A transformer reads the queries of a batch, and its items, in passes of up to 64 texts (256 on a "
        "GPU). As much as this many full ones of each keeps what the gradient needs; what is more is computed twice, "
        "in up to a third more time, so that memory stays flat in `batch_size`; None keeps all.",
    )
    test_each_n_inputs: int | None = Field(
        None, ge=1, description="Training sessions between two validations; None validates once per epoch."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Of order, pairing, downsampling and dropout.")
    precision: Precision = Field("32-true", description="Lightning's precision; only 32-true on a CPU.")
    devices: Devices = Field(
        "auto",
        description="auto: all GPUs of the pod, or outside of pods one where there is one; cpu; or a number of GPUs.",
    )

    @model_validator(mode="after")
    def _ranker_matches_direction(self) -> FineTuningSettings:
        expected = {"cosine_similarity": True, "euclidean_distance": False}
        if isinstance(self.ranker, str) and expected[self.ranker] != self.is_similarity:
            raise ValueError(
                f"is_similarity is {self.is_similarity}, but {self.ranker} is a "
                f"{'similarity' if expected[self.ranker] else 'distance'}; training would push the wrong way"
            )
        return self
