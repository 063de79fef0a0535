from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from embft.errors import ConfigError, DataRejected
from embft.finetuning.confidences import click_confidences, dummy_confidences


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
    ranks = torch.tensor([rank for session in sessions for rank, _ in session], dtype=torch.float64)
    clicked = torch.tensor([click for session in sessions for _, click in session])
    lengths = torch.tensor([len(session) for session in sessions])
    expected = np.concatenate([_one_session([r for r, _ in s], [c for _, c in s], window) for s in sessions])
    got = click_confidences(ranks, clicked, lengths, window=window).numpy()
    # Where a session's scores all but tie, stretching them to [0, 1] magnifies rounding.
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_a_click_among_clicks_is_believed_more_than_one_among_skips() -> None:
    ranks = torch.full((6,), 0.5)
    clicked = torch.tensor([True, True, False, False, True, False])
    confidences = click_confidences(ranks, clicked, torch.tensor([6]))
    assert confidences[0] > confidences[4]


def test_unknown_ranks_and_even_windows_are_refused() -> None:
    one = torch.tensor([True])
    with pytest.raises(DataRejected, match="1 of 1 ranks are unknown"):
        click_confidences(torch.tensor([math.nan]), one, torch.tensor([1]))
    with pytest.raises(ConfigError, match="window is 4"):
        click_confidences(torch.tensor([0.5]), one, torch.tensor([1]), window=4)


def test_dummy_confidences_believe_everything() -> None:
    assert dummy_confidences(
        torch.tensor([math.nan, 0.1]), torch.tensor([True, False]), torch.tensor([2])
    ).tolist() == [1, 1]
