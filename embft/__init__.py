"""embft: keeps a search team's embedding model fresh from what people click.

`import embft` loads nothing heavy: each public name is imported from its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embft.experiments.manager import ExperimentsManager
    from embft.finetuning.confidences import click_confidences, dummy_confidences
    from embft.finetuning.features import FeaturesExtractor, FineTuningFeatures
    from embft.finetuning.inputs import FineTuningInput, PairedFineTuningInputsDataset
    from embft.finetuning.items import ItemsSet, QueryRetriever, TextQueryRetriever
    from embft.finetuning.losses import (
        CosineProbMarginRankingLoss,
        ListwiseSoftmaxLoss,
        ProbMarginRankingLoss,
        RankingLossInterface,
    )
    from embft.finetuning.metrics import DistanceShift, MetricCalculator, MetricsAccumulator, MetricValue
    from embft.finetuning.models import EmbeddingsModelInterface, StaticEmbeddingsModel, load_model
    from embft.finetuning.params import ExamplesType, FineTuningParams, FineTuningSettings
    from embft.finetuning.rankers import cosine_similarity
    from embft.finetuning.trainer import TrainingHistory, fit
    from embft.finetuning.tuner import EmbeddingsFineTuner
    from embft.finetuning.validation import ValidationLoss, validation_loss

__version__ = "0.1.0"

_MODULE_OF = {
    "CosineProbMarginRankingLoss": "embft.finetuning.losses",
    "DistanceShift": "embft.finetuning.metrics",
    "EmbeddingsFineTuner": "embft.finetuning.tuner",
    "EmbeddingsModelInterface": "embft.finetuning.models",
    "ExamplesType": "embft.finetuning.params",
    "ExperimentsManager": "embft.experiments.manager",
    "FeaturesExtractor": "embft.finetuning.features",
    "FineTuningFeatures": "embft.finetuning.features",
    "FineTuningInput": "embft.finetuning.inputs",
    "FineTuningParams": "embft.finetuning.params",
    "FineTuningSettings": "embft.finetuning.params",
    "ItemsSet": "embft.finetuning.items",
    "ListwiseSoftmaxLoss": "embft.finetuning.losses",
    "MetricCalculator": "embft.finetuning.metrics",
    "MetricValue": "embft.finetuning.metrics",
    "MetricsAccumulator": "embft.finetuning.metrics",
    "PairedFineTuningInputsDataset": "embft.finetuning.inputs",
    "ProbMarginRankingLoss": "embft.finetuning.losses",
    "QueryRetriever": "embft.finetuning.items",
    "RankingLossInterface": "embft.finetuning.losses",
    "StaticEmbeddingsModel": "embft.finetuning.models",
    "TextQueryRetriever": "embft.finetuning.items",
    "TrainingHistory": "embft.finetuning.trainer",
    "ValidationLoss": "embft.finetuning.validation",
    "click_confidences": "embft.finetuning.confidences",
    "cosine_similarity": "embft.finetuning.rankers",
    "dummy_confidences": "embft.finetuning.confidences",
    "fit": "embft.finetuning.trainer",
    "load_model": "embft.finetuning.models",
    "validation_loss": "embft.finetuning.validation",
}

__all__ = [
    "CosineProbMarginRankingLoss",
    "DistanceShift",
    "EmbeddingsFineTuner",
    "EmbeddingsModelInterface",
    "ExamplesType",
    "ExperimentsManager",
    "FeaturesExtractor",
    "FineTuningFeatures",
    "FineTuningInput",
    "FineTuningParams",
    "FineTuningSettings",
    "ItemsSet",
    "ListwiseSoftmaxLoss",
    "MetricCalculator",
    "MetricValue",
    "MetricsAccumulator",
    "PairedFineTuningInputsDataset",
    "ProbMarginRankingLoss",
    "QueryRetriever",
    "RankingLossInterface",
    "StaticEmbeddingsModel",
    "TextQueryRetriever",
    "TrainingHistory",
    "ValidationLoss",
    "click_confidences",
    "cosine_similarity",
    "dummy_confidences",
    "fit",
    "load_model",
    "validation_loss",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use, and keep it.

    Raises:
        AttributeError: It is no public name.
    """
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'embft' has no attribute {name!r}; its public names are in `embft.__all__`")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names, also those not imported yet (a notebook completes from it)."""
    return [*globals(), *(name for name in __all__ if name not in globals())]
