"""embft: keeps a search team's embedding model fresh from what people click.

`import embft` loads nothing heavy: each public name is imported from its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embft.experiments.manager import ExperimentsManager
    from embft.finetuning.augmentations import QueryAugmenter, change_case, misspell
    from embft.finetuning.checkpoints import CheckpointFolder
    from embft.finetuning.confidences import (
        ShownItems,
        click_confidences,
        dummy_confidences,
        propensity_confidences,
    )
    from embft.finetuning.features import FeaturesExtractor, FineTuningFeatures
    from embft.finetuning.history import TrainingHistory
    from embft.finetuning.inputs import FineTuningInput
    from embft.finetuning.interpolation import Mixture, mix_with_base
    from embft.finetuning.items import ItemsSet, QueryRetriever, TextQueryRetriever
    from embft.finetuning.losses import (
        CatalogueSoftmaxLoss,
        CosineProbMarginRankingLoss,
        InBatchSoftmaxLoss,
        ListwiseSoftmaxLoss,
        ProbMarginRankingLoss,
        RankingLossInterface,
    )
    from embft.finetuning.metrics import (
        DistanceShift,
        MetricCalculator,
        MetricsAccumulator,
        MetricValue,
        RankingMetrics,
        ValidationSet,
    )
    from embft.finetuning.models import (
        EmbeddingsModelInterface,
        SentenceTransformerModel,
        StaticEmbeddingsModel,
        TextImageModel,
        load_model,
    )
    from embft.finetuning.paired import PairedFineTuningInputsDataset
    from embft.finetuning.params import ExamplesType, FineTuningParams, FineTuningSettings
    from embft.finetuning.parts import split_words
    from embft.finetuning.rankers import cosine_similarity
    from embft.finetuning.splitter import ClickstreamSplitter
    from embft.finetuning.trainer import fit
    from embft.finetuning.tuner import EmbeddingsFineTuner
    from embft.finetuning.validation import ValidationLoss, validation_loss

__version__ = "0.1.0"

_MODULE_OF = {
    "CatalogueSoftmaxLoss": "embft.finetuning.losses",
    "CheckpointFolder": "embft.finetuning.checkpoints",
    "ClickstreamSplitter": "embft.finetuning.splitter",
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
    "InBatchSoftmaxLoss": "embft.finetuning.losses",
    "ItemsSet": "embft.finetuning.items",
    "ListwiseSoftmaxLoss": "embft.finetuning.losses",
    "MetricCalculator": "embft.finetuning.metrics",
    "MetricValue": "embft.finetuning.metrics",
    "MetricsAccumulator": "embft.finetuning.metrics",
    "Mixture": "embft.finetuning.interpolation",
    "PairedFineTuningInputsDataset": "embft.finetuning.paired",
    "ProbMarginRankingLoss": "embft.finetuning.losses",
    "QueryAugmenter": "embft.finetuning.augmentations",
    "QueryRetriever": "embft.finetuning.items",
    "RankingLossInterface": "embft.finetuning.losses",
    "RankingMetrics": "embft.finetuning.metrics",
    "SentenceTransformerModel": "embft.finetuning.models",
    "ShownItems": "embft.finetuning.confidences",
    "StaticEmbeddingsModel": "embft.finetuning.models",
    "TextImageModel": "embft.finetuning.models",
    "TextQueryRetriever": "embft.finetuning.items",
    "TrainingHistory": "embft.finetuning.history",
    "ValidationLoss": "embft.finetuning.validation",
    "ValidationSet": "embft.finetuning.metrics",
    "change_case": "embft.finetuning.augmentations",
    "click_confidences": "embft.finetuning.confidences",
    "cosine_similarity": "embft.finetuning.rankers",
    "dummy_confidences": "embft.finetuning.confidences",
    "fit": "embft.finetuning.trainer",
    "load_model": "embft.finetuning.models",
    "misspell": "embft.finetuning.augmentations",
    "mix_with_base": "embft.finetuning.interpolation",
    "propensity_confidences": "embft.finetuning.confidences",
    "split_words": "embft.finetuning.parts",
    "validation_loss": "embft.finetuning.validation",
}

__all__ = [
    "CatalogueSoftmaxLoss",
    "CheckpointFolder",
    "ClickstreamSplitter",
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
    "InBatchSoftmaxLoss",
    "ItemsSet",
    "ListwiseSoftmaxLoss",
    "MetricCalculator",
    "MetricValue",
    "MetricsAccumulator",
    "Mixture",
    "PairedFineTuningInputsDataset",
    "ProbMarginRankingLoss",
    "QueryAugmenter",
    "QueryRetriever",
    "RankingLossInterface",
    "RankingMetrics",
    "SentenceTransformerModel",
    "ShownItems",
    "StaticEmbeddingsModel",
    "TextImageModel",
    "TextQueryRetriever",
    "TrainingHistory",
    "ValidationLoss",
    "ValidationSet",
    "change_case",
    "click_confidences",
    "cosine_similarity",
    "dummy_confidences",
    "fit",
    "load_model",
    "misspell",
    "mix_with_base",
    "propensity_confidences",
    "split_words",
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
