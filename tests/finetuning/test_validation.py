from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from embft.errors import ConfigError, DataRejected
from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.items import ItemsSet, TextQueryRetriever
from embft.finetuning.losses import ListwiseSoftmaxLoss
from embft.finetuning.models import StaticEmbeddingsModel
from embft.finetuning.params import FineTuningParams
from embft.finetuning.ranks import fill_ranks
from embft.finetuning.validation import ValidationLoss, validation_loss

RETRIEVER = TextQueryRetriever()


def _loss(
    model: StaticEmbeddingsModel,
    sessions: list[FineTuningInput],
    items: ItemsSet,
    batch_size: int = 10,
    params: FineTuningParams | None = None,
) -> ValidationLoss:
    params = params or FineTuningParams(margin=0.0)
    return validation_loss(model, sessions, items, RETRIEVER, ListwiseSoftmaxLoss(scale=1.0), params, batch_size)


def test_the_loss_of_a_session_by_hand(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: list[FineTuningInput]
) -> None:
    got = _loss(tiny_model, sessions, items)
    # "shoe", click green hat (0) against red shoe (0.71) and blue (0): ln(1 + e^0.71 + 1).
    # "hat", click red (0) against green hat (0.71): ln(1 + e^0.71).
    # "red", clicks green and blue (0) against red (1) and red shoe (0.71): twice ln(1 + e + e^0.71).
    half = math.exp(2**-0.5)
    expected = [math.log(2 + half), math.log(1 + half), math.log(1 + math.e + half)]
    np.testing.assert_allclose(got.per_session, expected, rtol=1e-6)
    assert got.mean == pytest.approx(np.mean(expected))
    assert got.n_sessions == 3


def test_neither_batch_size_nor_chance_nor_filters_change_it(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: list[FineTuningInput]
) -> None:
    many = sessions * 7
    expected = _loss(tiny_model, many, items, batch_size=100).per_session
    filtered = FineTuningParams(margin=0.0, negative_downsampling=0.1, min_abs_difference_threshold=0.5)
    for batch_size in (1, 2, 5):
        np.testing.assert_allclose(
            _loss(tiny_model, many, items, batch_size, filtered).per_session, expected, rtol=1e-12
        )


def test_a_session_without_a_pair_is_nan_and_not_in_the_mean(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: list[FineTuningInput]
) -> None:
    got = _loss(tiny_model, [FineTuningInput("all", "red", ["r"], ["r"]), sessions[1]], items)
    assert np.isnan(got.per_session).tolist() == [True, False]
    assert got.mean == got.per_session[1]
    assert got.n_sessions == 1


def test_nothing_to_compare_is_rejected(tiny_model: StaticEmbeddingsModel, items: ItemsSet) -> None:
    with pytest.raises(DataRejected, match="none of 1 clicked sessions"):
        _loss(tiny_model, [FineTuningInput("all", "red", ["r"], ["r"])], items)
    with pytest.raises(DataRejected, match="none of 0"):
        _loss(tiny_model, [], items)
    with pytest.raises(ConfigError, match="batch_size is 0"):
        _loss(tiny_model, [], items, batch_size=0)


def test_broken_weights_are_rejected(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: list[FineTuningInput]
) -> None:
    with torch.no_grad():
        tiny_model.embedding.weight.fill_(math.nan)
    with pytest.raises(DataRejected, match=r"3 of 3 sessions.*'s1'.*weights are broken"):
        _loss(tiny_model, sessions, items)


def test_ranks_are_filled_in_for_clicked_and_not_clicked_results(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: list[FineTuningInput]
) -> None:
    assert fill_ranks(tiny_model, sessions, items, RETRIEVER) == 4
    assert dict(sessions[0].ranks) == pytest.approx({"rs": 2**-0.5, "gh": 0.0, "b": 0.0})
    assert dict(sessions[3].ranks) == pytest.approx({"b": 1.0, "rs": 0.0})
    assert fill_ranks(tiny_model, sessions, items, RETRIEVER) == 0


def test_ranks_that_are_complete_are_kept_and_partly_known_ones_computed_anew(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet
) -> None:
    complete = FineTuningInput("1", "red", ["r"], ["r", "b"], ranks={"r": 0.3, "b": 0.2})
    partly = FineTuningInput("2", "red", ["r"], ["r", "b"], ranks={"r": 0.3, "b": None})
    assert fill_ranks(tiny_model, [complete, partly], items, RETRIEVER) == 1
    assert dict(complete.ranks) == {"r": 0.3, "b": 0.2}
    assert dict(partly.ranks) == {"r": 1.0, "b": 0.0}


def test_a_session_without_results_cannot_be_ranked(tiny_model: StaticEmbeddingsModel, items: ItemsSet) -> None:
    with pytest.raises(DataRejected, match=r"'s9'.*no result"):
        fill_ranks(tiny_model, [FineTuningInput("s9", "red", [], [])], items, RETRIEVER)
