"""Names in `FineTuningSettings` → the objects they stand for. Objects pass through as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from embft.errors import ConfigError
from embft.finetuning.augmentations import QueryAugmenter, Respell, TextAugmentation, change_case, misspell
from embft.finetuning.confidences import (
    ConfidenceCalculator,
    click_confidences,
    dummy_confidences,
    propensity_confidences,
)
from embft.finetuning.losses import (
    CatalogueSoftmaxLoss,
    CosineProbMarginRankingLoss,
    InBatchSoftmaxLoss,
    ListwiseSoftmaxLoss,
    ProbMarginRankingLoss,
    RankingLossInterface,
)
from embft.finetuning.metrics import DistanceShift, MetricCalculator, RankingMetrics
from embft.finetuning.params import FineTuningSettings
from embft.finetuning.rankers import Ranker, cosine_similarity, euclidean_distance

_LOSSES: dict[str, type[RankingLossInterface]] = {
    "catalogue_softmax": CatalogueSoftmaxLoss,
    "listwise_softmax": ListwiseSoftmaxLoss,
    "in_batch_softmax": InBatchSoftmaxLoss,
    "prob_margin": ProbMarginRankingLoss,
    "cosine_prob_margin": CosineProbMarginRankingLoss,
}
_RANKERS: dict[str, Ranker] = {"cosine_similarity": cosine_similarity, "euclidean_distance": euclidean_distance}
_CONFIDENCES: dict[str, ConfidenceCalculator] = {
    "dummy_confidences": dummy_confidences,
    "click_confidences": click_confidences,
    "propensity_confidences": propensity_confidences,
}
_AUGMENTATIONS: dict[str, Callable[[], TextAugmentation]] = {
    "change_case": lambda: change_case,
    "misspell": lambda: misspell,
    "respell": Respell,
}
_METRICS: dict[str, type[MetricCalculator]] = {"distance_shift": DistanceShift, "ranking": RankingMetrics}


def make_loss(loss: str | Callable[..., Any]) -> RankingLossInterface:
    """A loss by its name, new; or the object itself.

    Args:
        loss: `settings.loss_func`.

    Returns:
        The loss; its margin is set later, from `FineTuningParams`.

    Raises:
        ConfigError: Unknown name, or an object that is no `RankingLossInterface`.
    """
    found = _lookup(_LOSSES, loss, "loss_func")() if isinstance(loss, str) else loss
    if not isinstance(found, RankingLossInterface):
        raise ConfigError(f"loss_func is {found!r}; it must be a RankingLossInterface or one of {sorted(_LOSSES)}")
    return found


def make_metrics(metrics: tuple[str | Callable[..., Any], ...]) -> list[MetricCalculator]:
    """Metric calculators by name, new; or the objects themselves.

    Args:
        metrics: `settings.metric_calculators`.

    Returns:
        The calculators.

    Raises:
        ConfigError: Unknown name.
    """
    return [
        _lookup(_METRICS, metric, "metric_calculators")() if isinstance(metric, str) else cast(MetricCalculator, metric)
        for metric in metrics
    ]


def find_ranker(ranker: str | Callable[..., Any]) -> Ranker:
    """A ranker by its name, or the callable itself; `ConfigError` for an unknown name."""
    return _lookup(_RANKERS, ranker, "ranker") if isinstance(ranker, str) else ranker


def find_confidences(calculator: str | Callable[..., Any]) -> ConfidenceCalculator:
    """A confidence calculator by its name, or the callable itself; `ConfigError` for an unknown name."""
    return _lookup(_CONFIDENCES, calculator, "confidence_calculator") if isinstance(calculator, str) else calculator


def make_augmenter(settings: FineTuningSettings) -> QueryAugmenter | None:
    """The augmenter of queries that settings ask for; None where they ask for none.

    Args:
        settings: `query_augmentations`, `augmented_share` and `seed` are read.

    Returns:
        A new augmenter, or None.

    Raises:
        ConfigError: Unknown name.
    """
    if not settings.query_augmentations:
        return None
    augmentations = [
        _lookup(_AUGMENTATIONS, it, "query_augmentations")() if isinstance(it, str) else it
        for it in settings.query_augmentations
    ]
    return QueryAugmenter(augmentations, settings.augmented_share, settings.seed)


def _lookup(known: Mapping[str, Any], name: str, field: str) -> Any:
    if name not in known:
        raise ConfigError(
            f"{field} is {name!r}; it must be one of {sorted(known)}: change it in the fine-tuning settings"
        )
    return known[name]
