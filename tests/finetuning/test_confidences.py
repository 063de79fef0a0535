from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from embft.clickstream.propensities import Propensities, inverse_propensity_weights
from embft.errors import ConfigError, DataRejected
from embft.finetuning.confidences import ShownItems, click_confidences, dummy_confidences, propensity_confidences


def _shown(
    ranks: list[float], clicked: list[bool], lengths: list[int] | None = None, propensities: list[float] | None = None
) -> ShownItems:
    lengths = lengths or [len(ranks)]
    return ShownItems(
        ranks=torch.tensor(ranks, dtype=torch.float64),
        clicked=torch.tensor(clicked),
        lengths=torch.tensor(lengths),
        positions=torch.cat([torch.arange(n) + 1.0 for n in lengths]),
        propensities=torch.tensor(propensities or [math.nan] * len(ranks)),
    )


def _one_session(ranks: list[float], clicked: list[bool], window: int) -> NDArray[np.float64]:
    """The formula of the docstring, item by item."""
    n = len(ranks)
    scores = []
    for i in range(n):
        around = slice(max(0, i - window // 2), i + window // 2 + 1)
        mean, c = float(np.mean(ranks[around])), float(np.mean(clicked[around]))
        d = min(1.0, abs(ranks[i] - mean) / max(abs(mean), 1e-9))
        c = c if clicked[i] else 1 - c
        scores.append((c * (1 - d) + (1 - c) * d) * (math.exp(-3 * (i + 1) / n - 0.3) + 0.25))
    low, high = min(scores), max(scores)
    return np.array([1.0 if high - low <= 1e-12 else (score - low) / (high - low) for score in scores])


_session = st.lists(st.tuples(st.floats(0.1, 1.0), st.booleans()), min_size=1, max_size=8)


@given(sessions=st.lists(_session, min_size=1, max_size=4), window=st.sampled_from([3, 5]))
def test_a_batch_gives_what_each_session_gives_alone(sessions: list[list[tuple[float, bool]]], window: int) -> None:
    items = [item for session in sessions for item in session]
    shown = _shown([rank for rank, _ in items], [click for _, click in items], [len(session) for session in sessions])
    expected = np.concatenate([_one_session([r for r, _ in s], [c for _, c in s], window) for s in sessions])
    got = click_confidences(shown, window=window).numpy()
    # Where a session's scores all but tie, stretching them to [0, 1] magnifies rounding.
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_a_click_among_clicks_is_believed_more_than_one_among_skips() -> None:
    confidences = click_confidences(_shown([0.5] * 6, [True, True, False, False, True, False]))
    assert confidences[0] > confidences[4]


def test_unknown_ranks_and_even_windows_are_refused() -> None:
    with pytest.raises(DataRejected, match="1 of 1 ranks are unknown"):
        click_confidences(_shown([math.nan], [True]))
    with pytest.raises(ConfigError, match="window is 4"):
        click_confidences(_shown([0.5], [True]), window=4)


def test_the_place_at_which_an_item_was_shown_discounts_it_not_its_place_in_the_list() -> None:
    in_order = _shown([0.5, 0.5, 0.5], [True, True, True])
    turned = replace(in_order, positions=torch.tensor([3.0, 2.0, 1.0]))
    assert (
        click_confidences(in_order).tolist()
        == click_confidences(turned).tolist()[::-1]
        == [1, pytest.approx(0.27, abs=0.01), 0]
    )


def test_a_click_counts_by_its_clipped_inverse_propensity() -> None:
    shown = _shown([0.5] * 4, [True, True, True, False], propensities=[1.0, 0.2, 0.05, 0.5])
    # floor / max(p, floor): 0.1 / 1, 0.1 / 0.2, clipped to 1; the absence of a click is believed.
    assert propensity_confidences(shown).tolist() == pytest.approx([0.1, 0.5, 1.0, 1.0])


@pytest.mark.parametrize("max_weight", [1.0, 4.0, 10.0])
def test_a_floor_of_one_by_the_greatest_weight_gives_the_clipped_weights_scaled(max_weight: float) -> None:
    values = (1.0, 0.5, 0.2, 0.05)
    propensities = Propensities(
        method="em", values=values, is_estimated=(True,) * 4, n_sessions=1, n_impressions=(1,) * 4, n_clicks=(1,) * 4
    )
    weights = inverse_propensity_weights(propensities, np.arange(1, 5), max_weight=max_weight)
    shown = _shown([0.5] * 4, [True] * 4, propensities=list(values))
    assert propensity_confidences(shown, floor=1 / max_weight).tolist() == pytest.approx(weights / max_weight)


def test_weighting_by_propensity_undoes_the_bias_of_positions() -> None:
    # Two items equally liked (0.5); the upper is looked at always, the lower one time in four.
    propensities = torch.tensor([1.0, 0.25]).repeat(20_000)
    generator = torch.Generator().manual_seed(0)
    clicked = torch.rand(len(propensities), generator=generator) < 0.5 * propensities
    shown = ShownItems(propensities, clicked, torch.tensor([len(clicked)]), propensities, propensities)
    weights = propensity_confidences(shown) * clicked
    upper, lower = weights[::2].sum().item(), weights[1::2].sum().item()
    assert clicked[::2].sum() > 3.5 * clicked[1::2].sum()
    assert lower == pytest.approx(upper, rel=0.05)


def test_a_click_without_a_propensity_is_refused_with_the_count() -> None:
    with pytest.raises(DataRejected, match="1 of 2 clicked items have no propensity"):
        propensity_confidences(_shown([0.5] * 3, [True, True, False], propensities=[0.3, math.nan, math.nan]))
    with pytest.raises(ConfigError, match="floor is 0"):
        propensity_confidences(_shown([0.5], [True]), floor=0)


def test_dummy_confidences_believe_everything() -> None:
    assert dummy_confidences(_shown([math.nan, 0.1], [True, False])).tolist() == [1, 1]
