"""How far each click, and each absence of a click, is believed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from embft.errors import ConfigError, DataRejected

ConfidenceCalculator = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(ranks [shown], clicked [shown], lengths [sessions]) → confidences in [0, 1], [shown].

The shown items of a batch's sessions lie one session after the other; `lengths` says where each ends. One call per
batch, so that a calculator is written without a loop over sessions or items.
"""


def dummy_confidences(ranks: Tensor, clicked: Tensor, lengths: Tensor) -> Tensor:
    """Every click and every absence of one is believed: 1.0.

    Args:
        ranks: Ranks at the start, float [shown]; may be NaN, not read.
        clicked: Whether each item was clicked, bool [shown].
        lengths: Items shown in each session, int64 [sessions].

    Returns:
        Ones, float32 [shown].
    """
    return torch.ones(clicked.shape[0], device=clicked.device)


def click_confidences(ranks: Tensor, clicked: Tensor, lengths: Tensor, *, window: int = 3) -> Tensor:
    """Believe a click near clicks, and a skip near skips, of items with a similar rank; discount low positions.

    For item i at position p (1-based) of a session with n items, over the `window` items around it (cut at the
    session's ends), with c the share of clicks in the window and d = min(1, |rank_i - mean rank| / |mean rank|):

        clicked:      s = c·(1 - d) + (1 - c)·d
        not clicked:  s = (1 - c)·(1 - d) + c·d
        confidence  = s · (exp(-3p/n - 0.3) + 0.25), then stretched to [0, 1] within the session

    Where all items of a session come out alike, nothing tells them apart, and all are believed: 1.0.

    Args:
        ranks: Ranks at the start, float [shown].
        clicked: Whether each item was clicked, bool [shown].
        lengths: Items shown in each session, int64 [sessions], summing to `shown`.
        window: Items looked at around each, itself included; odd, >= 3.

    Returns:
        Confidences in [0, 1], float32 [shown].

    Raises:
        ConfigError: `window` is even or below 3.
        DataRejected: A rank is NaN (unknown).

    Source: the windowed confidence of Embedding Studio's click model, vectorised over a whole batch.
    """
    if window < 3 or window % 2 == 0:
        raise ConfigError(f"window is {window}; it must be an odd number of items, 3 or more")
    if torch.isnan(ranks).any():
        raise DataRejected(
            f"{int(torch.isnan(ranks).sum())} of {ranks.numel()} ranks are unknown; "
            "fill them with `preprocess_inputs` first"
        )
    starts = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
    n_shown = torch.repeat_interleave(lengths, lengths)
    index = torch.arange(ranks.shape[0], device=ranks.device)
    left = torch.maximum(index - window // 2, starts)
    right = torch.minimum(index + window // 2 + 1, starts + n_shown)

    mean_rank = _window_mean(ranks.double(), left, right)
    clicks = _window_mean(clicked.double(), left, right)
    difference = ((ranks - mean_rank).abs() / mean_rank.abs().clamp_min(1e-9)).clamp_max(1.0)
    agreement = torch.where(clicked, clicks, 1.0 - clicks)
    score = agreement * (1.0 - difference) + (1.0 - agreement) * difference
    position = (index - starts + 1) / n_shown
    return _stretched(score * (torch.exp(-3.0 * position - 0.3) + 0.25), lengths).float()


def _window_mean(values: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Mean of values[left:right] for each window, by differences of one cumulative sum; float64 [shown]."""
    sums = torch.nn.functional.pad(values.cumsum(0), (1, 0))
    return (sums[right] - sums[left]) / (right - left)


def _stretched(scores: Tensor, lengths: Tensor) -> Tensor:
    """Map each session's lowest score to 0 and its highest to 1; all to 1 where they are equal."""
    session = torch.repeat_interleave(torch.arange(lengths.shape[0], device=lengths.device), lengths)
    empty = scores.new_zeros(lengths.shape[0])
    lowest = empty.scatter_reduce(0, session, scores, "amin", include_self=False)[session]
    highest = empty.scatter_reduce(0, session, scores, "amax", include_self=False)[session]
    spread = highest - lowest
    return torch.where(spread > 1e-12, (scores - lowest) / spread.clamp_min(1e-12), torch.ones_like(scores))
