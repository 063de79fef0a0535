"""Trained weights mixed with the base model's: to keep what the base knows beside what the clicks taught.

Measured by `benchmarks/forgetting.py`: where each night goes on from the last one's model, small losses of general
knowledge add up, and a mixture with that model would only slow this down. So it is the base that holds it.

Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv:2109.01903; for embedding models Xiao et
al. 2023, "LM-Cocktail", arXiv:2311.13534.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

from torch import Tensor

from embft.finetuning.models.interface import EmbeddingsModelInterface
from embft.finetuning.paired import PairedFineTuningInputsDataset
from embft.finetuning.tuner import EmbeddingsFineTuner
from embft.finetuning.validation import validation_loss

logger = logging.getLogger(__name__)

SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
KEPT_GAIN = 0.98


@dataclass(frozen=True)
class Mixture:
    """The share that was chosen.

    Args:
        new_share: Share of the trained weights; 1 leaves them as they are.
        losses: Share → validation loss, all that were tried; 0 is the base model.
    """

    new_share: float
    losses: dict[float, float]


def mix_with_base(
    tuner: EmbeddingsFineTuner,
    base: EmbeddingsModelInterface,
    validation: PairedFineTuningInputsDataset,
    batch_size: int,
) -> Mixture | None:
    """Mix the base model's weights into a trained model, as many as cost next to nothing; see `choose_share`.

    Args:
        tuner: After its training; its model is changed in place.
        base: Another object than the model; not changed.
        validation: The sessions that picked the best epoch.
        batch_size: As of `validation_loss`.

    Returns:
        What was chosen; None where the models differ in their form, as after the base was changed while the training
        started from an older champion: the model stays as it was trained.

    Raises:
        DataRejected: As of `validation_loss`.
    """
    tuner.model.to(next(base.parameters()).device)  # a Trainer leaves it on the CPU
    if not _are_alike(base, tuner.model):
        logger.warning("the trained model has other layers or words than the base, so nothing of the base is mixed in")
        return None
    trained = deepcopy(tuner.model)

    def loss_at(share: float) -> float:
        tuner.model.load_state_dict(_interpolated(base, trained, share))
        return loss_of(tuner, validation, batch_size)

    mixture = choose_share(loss_at)
    tuner.model.load_state_dict(_interpolated(base, trained, mixture.new_share))
    return mixture


def loss_of(tuner: EmbeddingsFineTuner, validation: PairedFineTuningInputsDataset, batch_size: int) -> float:
    """Measure the model of a fine-tuner as mixtures are measured.

    Args:
        tuner: Its objective counts, not what it trains with.
        validation: Sessions without a click are left out.
        batch_size: As of `validation_loss`.

    Returns:
        The mean validation loss.

    Raises:
        DataRejected: As of `validation_loss`.
    """
    return validation_loss(
        tuner.model,
        validation.not_irrelevant,
        tuner.items_sets["test"],
        tuner.query_retriever,
        tuner.validation_loss_func,
        tuner.objective,
        batch_size,
        ranker=tuner.features_extractor.ranker,
        is_similarity=tuner.features_extractor.is_similarity,
        confidence_calculator=tuner.features_extractor.confidence_calculator,
    ).mean


def choose_share(loss_at: Callable[[float], float]) -> Mixture:
    """Choose the smallest share of trained weights that keeps nearly all of what they gained over the base model.

    The lowest loss would nearly always take them whole: queries of the validation day were mostly seen in training,
    and nothing in their loss tells what else was forgotten.

    Args:
        loss_at: Share of trained weights → loss, on sessions that were not trained on; 0 is the base model.

    Returns:
        The smallest of `SHARES` that keeps `KEPT_GAIN` of the best one's gain; where none gains anything, the one of
        the lowest loss, the smallest where some tie.
    """
    losses = {share: loss_at(share) for share in (0.0, *SHARES)}
    best = min(losses[share] for share in SHARES)
    allowed = best + (1 - KEPT_GAIN) * max(0.0, losses[0.0] - best)
    return Mixture(min(share for share in SHARES if losses[share] <= allowed), losses)


def _interpolated(
    base: EmbeddingsModelInterface, trained: EmbeddingsModelInterface, new_share: float
) -> dict[str, Tensor]:
    """Mix the weights of two models of one form.

    Args:
        base: Not changed.
        trained: Not changed.
        new_share: Share of the trained weights, 0 to 1.

    Returns:
        (1 - share) · base + share · trained for each weight, by its name; what is no float is the trained model's.
    """
    old = base.state_dict()
    return {
        name: (old[name].to(weight) * (1 - new_share) + weight * new_share) if weight.is_floating_point() else weight
        for name, weight in trained.state_dict().items()
    }


def _are_alike(base: EmbeddingsModelInterface, trained: EmbeddingsModelInterface) -> bool:
    return type(base) is type(trained) and _form(base.state_dict()) == _form(trained.state_dict())


def _form(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in weights.items()}
