"""Mixing two models' weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

import embft
from embft.errors import ConfigError
from embft.finetuning.interpolation import choose_mixture, interpolate
from embft.finetuning.models import EmbeddingsModelInterface
from tests.finetuning.tiny_models import tiny_bert


@pytest.fixture
def models(tmp_path: Path) -> tuple[EmbeddingsModelInterface, EmbeddingsModelInterface]:
    old = embft.SentenceTransformerModel(tiny_bert(tmp_path / "old"))
    new = embft.SentenceTransformerModel(tiny_bert(tmp_path / "new"))
    with torch.no_grad():
        for weight in new.parameters():
            weight += 0.1
    return old, new


def test_each_weight_is_mixed_and_neither_model_changes(
    models: tuple[EmbeddingsModelInterface, EmbeddingsModelInterface],
) -> None:
    old, new = models
    before = [it.clone() for it in old.parameters()], [it.clone() for it in new.parameters()]
    mixed = interpolate(old, new, 0.25)
    for ours, theirs, it in zip(*before, mixed.parameters(), strict=True):
        torch.testing.assert_close(it, 0.75 * ours + 0.25 * theirs)
    for model, kept in zip(models, before, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), kept, strict=True))


def test_the_ends_are_the_models_themselves(models: tuple[EmbeddingsModelInterface, EmbeddingsModelInterface]) -> None:
    for share, model in ((0.0, models[0]), (1.0, models[1])):
        mixed = interpolate(*models, share).encode_queries(["red hat"])
        np.testing.assert_allclose(mixed, model.encode_queries(["red hat"]), atol=1e-6)


def test_the_share_of_the_lowest_loss_is_chosen_and_of_equal_ones_the_largest(
    models: tuple[EmbeddingsModelInterface, EmbeddingsModelInterface],
) -> None:
    first = next(models[0].parameters()).flatten()[0].item()

    def share_of(model: EmbeddingsModelInterface) -> float:
        return (next(model.parameters()).flatten()[0].item() - first) / 0.1

    assert choose_mixture(*models, lambda it: abs(share_of(it) - 0.5)).new_share == 0.5
    chosen = choose_mixture(*models, lambda _: 1.0)
    assert (chosen.new_share, set(chosen.losses)) == (1.0, {0.25, 0.5, 0.75, 1.0})


def test_models_of_another_form_are_not_mixed(
    models: tuple[EmbeddingsModelInterface, EmbeddingsModelInterface],
) -> None:
    with pytest.raises(ConfigError, match="cannot be mixed; start the training from the model"):
        interpolate(embft.load_model("wordllama"), models[1], 0.5)
    with pytest.raises(ConfigError, match=r"new_share is 1\.5"):
        interpolate(*models, 1.5)
