"""A mixture of two models' weights: to keep what the old one knows while gaining what the new one learned.

Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv:2109.01903; for embedding models Xiao et
al. 2023, "LM-Cocktail", arXiv:2311.13534.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

from torch import Tensor

from embft.errors import ConfigError
from embft.finetuning.models.interface import EmbeddingsModelInterface

SHARES = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Mixture:
    """The mixture that was chosen.

    Args:
        model: Old and new weights, mixed.
        new_share: Share of the new model's weights, in (0, 1]; 1 is the new model itself.
        losses: Share → its loss, all that were tried.
    """

    model: EmbeddingsModelInterface
    new_share: float
    losses: dict[float, float]


def interpolate(
    old: EmbeddingsModelInterface, new: EmbeddingsModelInterface, new_share: float
) -> EmbeddingsModelInterface:
    """Mix the weights of two models of one form.

    Args:
        old: Such as the champion.
        new: Such as the challenger; neither is changed.
        new_share: Share of the new model's weights, 0 to 1.

    Returns:
        A model of the form of `new`, with (1 - share) · old + share · new for each weight.

    Raises:
        ConfigError: The share is out of range, or the models differ in their form.
    """
    if not 0 <= new_share <= 1:
        raise ConfigError(f"new_share is {new_share}; it must be 0 to 1")
    if not can_be_mixed(old, new):
        raise ConfigError(
            f"a {type(old).__name__} and a {type(new).__name__} of other layers or words cannot be mixed; "
            "start the training from the model that it is mixed with, or set training.interpolate to false"
        )
    ours, theirs = new.state_dict(), old.state_dict()
    mixed = deepcopy(new)
    mixed.load_state_dict(
        {
            name: theirs[name].to(weight) * (1 - new_share) + weight * new_share
            if weight.is_floating_point()
            else weight
            for name, weight in ours.items()
        }
    )
    return mixed


def can_be_mixed(old: EmbeddingsModelInterface, new: EmbeddingsModelInterface) -> bool:
    """Whether two models have the same weights by name and shape."""
    return type(old) is type(new) and _form(old.state_dict()) == _form(new.state_dict())


def choose_mixture(
    old: EmbeddingsModelInterface,
    new: EmbeddingsModelInterface,
    loss_of: Callable[[EmbeddingsModelInterface], float],
    shares: Sequence[float] = SHARES,
) -> Mixture:
    """Mix two models by the share that gives the lowest loss; of equal ones the largest.

    Args:
        old: As of `interpolate`.
        new: As of `interpolate`.
        loss_of: Loss of a model, on sessions that it is not compared by later.
        shares: Those to try.

    Returns:
        The best mixture.

    Raises:
        ConfigError: As of `interpolate`.
    """
    losses = {share: loss_of(interpolate(old, new, share)) for share in shares}
    best = min(losses, key=lambda share: (losses[share], -share))
    return Mixture(interpolate(old, new, best), best, losses)


def _form(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in weights.items()}
