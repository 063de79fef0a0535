"""Mixing the base model's weights into trained ones."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import embft
from embft.finetuning.interpolation import KEPT_GAIN, SHARES, choose_share, loss_of, mix_with_base
from tests.finetuning.conftest import make_tokenizer


@pytest.fixture
def tuner(
    tiny_model: embft.StaticEmbeddingsModel, items: embft.ItemsSet
) -> Callable[[embft.EmbeddingsModelInterface], embft.EmbeddingsFineTuner]:
    def make(model: embft.EmbeddingsModelInterface) -> embft.EmbeddingsFineTuner:
        loss, params = embft.ListwiseSoftmaxLoss(), embft.FineTuningParams(margin=0.2)
        return embft.EmbeddingsFineTuner(
            model, {"train": items, "test": items}, embft.TextQueryRetriever(), loss, params, metric_calculators=[]
        )

    return make


def trained_on(base: embft.StaticEmbeddingsModel, *changes: tuple[str, str, float]) -> embft.StaticEmbeddingsModel:
    """Give a copy in which the first word of each change leans towards the second."""
    weights, row_of = base.embedding.weight.detach().clone(), base.tokenizer.token_to_id
    for word, other, amount in changes:
        weights[row_of(word), row_of(other)] += amount
    return embft.StaticEmbeddingsModel(make_tokenizer(), weights)


def test_the_smallest_share_that_keeps_nearly_all_of_the_gain_is_chosen() -> None:
    # Of a gain of 2.0 - 1.0 in the best case, 0.02 may be lost: 1.015 will do, 1.03 will not.
    losses = {0.0: 2.0, 0.5: 1.5, 0.6: 1.2, 0.7: 1.03, 0.8: 1.015, 0.9: 1.0, 1.0: 1.001}
    mixture = choose_share(losses.__getitem__)
    assert mixture.new_share == 0.8
    assert mixture.losses == losses


@pytest.mark.parametrize(
    ("loss_at", "share"),
    [
        (lambda share: 1.0 + share, 0.5),  # trained weights are worse: as few as may be
        (lambda share: 1.0 + abs(share - 0.9), 0.9),  # all but one are worse than the base
        (lambda share: 1.0, 0.5),  # trained weights change nothing
    ],
)
def test_without_a_gain_the_lowest_loss_decides_and_of_equal_ones_the_smallest_share(
    loss_at: Callable[[float], float], share: float
) -> None:
    assert choose_share(loss_at).new_share == share


@given(st.lists(st.floats(-10, 10), min_size=7, max_size=7))
def test_no_smaller_share_keeps_as_much_and_the_choice_is_never_worse_than_allowed(values: list[float]) -> None:
    losses = dict(zip((0.0, *SHARES), values, strict=True))
    chosen = choose_share(losses.__getitem__).new_share
    best = min(losses[share] for share in SHARES)
    gain = max(0.0, losses[0.0] - best)
    assert losses[0.0] - losses[chosen] >= KEPT_GAIN * gain - 1e-9 or losses[chosen] == best
    assert all(losses[share] > best + (1 - KEPT_GAIN) * gain - 1e-9 for share in SHARES if share < chosen)


def test_each_weight_is_mixed_by_the_share_that_the_validation_sessions_choose(
    tiny_model: embft.StaticEmbeddingsModel,
    sessions: list[embft.FineTuningInput],
    tuner: Callable[[embft.EmbeddingsModelInterface], embft.EmbeddingsFineTuner],
) -> None:
    trained = trained_on(tiny_model, ("shoe", "green", 8.0), ("hat", "red", 8.0))
    learned, known = trained.embedding.weight.detach().clone(), tiny_model.embedding.weight.detach().clone()
    validation = embft.PairedFineTuningInputsDataset(sessions[:2])
    mixture = mix_with_base(tuner(trained), tiny_model, validation, 4)
    assert mixture is not None

    def loss_at(share: float) -> float:
        model = embft.StaticEmbeddingsModel(make_tokenizer(), known * (1 - share) + learned * share)
        queries, items = model.encode_queries(["shoe", "hat"]), model.encode_items(["red shoe", "green hat", "blue"])
        red = model.encode_items(["red"])[0]
        first = 20 * queries[0].astype(float) @ items.T  # clicked is the green hat
        second = 20 * queries[1].astype(float) @ np.stack([items[1], red]).T  # clicked is the red one
        margin = 20 * 0.2
        first[[0, 2]] += margin
        second[0] += margin
        return float(np.mean([np.logaddexp.reduce(first) - first[1], np.logaddexp.reduce(second) - second[1]]))

    np.testing.assert_allclose(list(mixture.losses.values()), [loss_at(it) for it in mixture.losses], atol=1e-5)
    assert mixture.new_share == choose_share(loss_at).new_share < 1
    share = mixture.new_share
    torch.testing.assert_close(trained.embedding.weight.detach(), known * (1 - share) + learned * share)
    assert torch.equal(tiny_model.embedding.weight, known)


def test_a_model_of_another_form_stays_as_it_was_trained(
    caplog: pytest.LogCaptureFixture,
    tiny_model: embft.StaticEmbeddingsModel,
    sessions: list[embft.FineTuningInput],
    tuner: Callable[[embft.EmbeddingsModelInterface], embft.EmbeddingsFineTuner],
) -> None:
    other = embft.StaticEmbeddingsModel(make_tokenizer(), torch.eye(7, 5))
    validation = embft.PairedFineTuningInputsDataset(sessions[:2])
    assert mix_with_base(tuner(other), tiny_model, validation, 4) is None
    assert torch.equal(other.embedding.weight, torch.eye(7, 5))
    assert "nothing of the base is mixed in" in caplog.text
    # It competes with mixtures, so its loss is theirs.
    mixture = mix_with_base(tuner(other), deepcopy(other), validation, 4)
    assert mixture is not None
    assert loss_of(tuner(other), validation, 4) == pytest.approx(mixture.losses[1.0], rel=1e-6)
