"""How far each click, and each absence of a click, is believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from embft.errors import ConfigError, DataRejected


@dataclass(frozen=True)
class ShownItems:
    """The shown items of a batch's sessions, one session after the other.

    Args:
        ranks: Ranks at the start, float [shown]; NaN where unknown.
        clicked: Whether each was clicked, bool [shown].
        lengths: Items shown in each session, int64 [sessions], summing to `shown`.
        positions: Place at which each was shown, from 1 within its session, float [shown].
        propensities: Probability that it was looked at, in (0, 1], float [shown]; NaN where unknown.
    """

    ranks: Tensor
    clicked: Tensor
    lengths: Tensor
    positions: Tensor
    propensities: Tensor


ConfidenceCalculator = Callable[[ShownItems], Tensor]
"""Shown items → confidences in [0, 1], float [shown].

One call per batch, so that a calculator is written without a loop over sessions or items.
"""


def dummy_confidences(shown: ShownItems) -> Tensor:
    """Every click and every absence of one is believed: 1.0.

    Args:
        shown: The shown items; only their number is read.

    Returns:
        Ones, float32 [shown].
    """
    return torch.ones(shown.clicked.shape[0], device=shown.clicked.device)


def propensity_confidences(shown: ShownItems, *, floor: float = 0.1) -> Tensor:
    """Believe a click the more, the less likely its item was looked at: inverse propensities, clipped.

    A click at a place that everybody looks at says less than one far below. With p the propensity, a click counts
    floor / max(p, floor): the clipped inverse propensity 1 / max(p, floor), scaled so that the largest is 1. The
    absence of a click is believed: 1.0.

    Correction can hurt where the propensities are wrong: compare with `dummy_confidences` on held-out clicks.

    Args:
        shown: The shown items; `clicked` and `propensities` are read.
        floor: Propensities below count as this, in (0, 1]: bounds the variance.

    Returns:
        Confidences in [floor, 1], float32 [shown].

    Raises:
        ConfigError: `floor` is out of range.
        DataRejected: A clicked item has no propensity.

    Source: clipped propensity weighting of Joachims et al. 2017, arXiv:1608.04468; clipping as in Strehl et al. 2010.
    """
    if not 0.0 < floor <= 1.0:
        raise ConfigError(f"floor is {floor}; it must be a propensity above 0, and 1 at most")
    lacking = int((torch.isnan(shown.propensities) & shown.clicked).sum())
    if lacking:
        raise DataRejected(
            f"{lacking} of {int(shown.clicked.sum())} clicked items have no propensity; "
            "give `propensities` to every session, or take another confidence_calculator"
        )
    weights = floor / shown.propensities.clamp_min(floor)
    return torch.where(shown.clicked, weights, torch.ones_like(weights)).float()


@dataclass(frozen=True)
class ClippedPropensities:
    """`propensity_confidences` with a floor of its own, as a confidence calculator.

    Args:
        floor: Propensities below count as this, in (0, 1]; a click weighs at most 1 / floor times one at a place that
            everybody looks at.
    """

    floor: float

    def __call__(self, shown: ShownItems) -> Tensor:
        """Give the confidences, float32 [shown]."""
        return propensity_confidences(shown, floor=self.floor)


def click_confidences(shown: ShownItems, *, window: int = 3) -> Tensor:
    """Believe a click near clicks, and a skip near skips, of items with a similar rank; discount low positions.

    For item i, shown at position p (from 1) in a session with n items, over the `window` items around it (cut at
    the session's ends), with c the share of clicks in the window and d = min(1, |rank_i - mean rank| / |mean rank|):

        clicked:      s = c·(1 - d) + (1 - c)·d
        not clicked:  s = (1 - c)·(1 - d) + c·d
        confidence  = s · (exp(-3p/n - 0.3) + 0.25), then stretched to [0, 1] within the session

    Where all items of a session come out alike, nothing tells them apart, and all are believed: 1.0.

    Args:
        shown: The shown items; every rank must be known.
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
    ranks, clicked, lengths = shown.ranks, shown.clicked, shown.lengths
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
    discount = torch.exp(-3.0 * shown.positions / n_shown - 0.3) + 0.25
    return _stretched(score * discount, lengths).float()


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
