"""The position-based click model, fitted by expectation maximisation.

A result is clicked if it is looked at, which depends on its position k alone, and attracts, which depends on the query
and the item p alone: P(click) = θ_k · γ_p.

Source: Richardson et al. 2007, "Predicting clicks", WWW; Craswell et al. 2008, "An experimental comparison of click
position-bias models", WSDM; the EM steps are those of Wang et al. 2018, "Position bias estimation for unbiased learning
to rank in personal search", WSDM, with a free γ for every pair. Steps are lengthened by SQUAREM: Varadhan & Roland
2008, "Simple and globally convergent methods for accelerating the convergence of any EM algorithm".
"""

import numpy as np
from numpy.typing import NDArray

from embft.clickstream.impressions import Cells

Floats = NDArray[np.float64]

_LEAST = 1e-6  # a probability of 0 could never grow again, and one of 1 makes a missed click impossible
_TOLERANCE = 1e-8  # of the log likelihood, per click: estimates move by less than 0.001 after it
_MAX_ROUNDS = 2000


def fit_examination(
    cells: Cells, n_positions: int, *, tolerance: float = _TOLERANCE, max_rounds: int = _MAX_ROUNDS
) -> Floats:
    """Estimate how likely each position is looked at, up to one common factor.

    No prior: a pull of γ towards a mean would be taken for position bias where the ranking puts attractive items on
    top. So give only pairs that tell something, which are those of `pairs_that_moved`.

    Args:
        cells: Counts; every pair has a click and several positions.
        n_positions: Length of the result.
        tolerance: Growth of the log likelihood per click in a round at which it ends; nats.
        max_rounds: Rounds of three EM steps, at most.

    Returns:
        θ, in (0, 1], float64 [n_positions]; of no meaning where no cell is.
    """
    chances = _start(cells, n_positions)
    reached = log_likelihood(cells, chances, n_positions)
    for _ in range(max_rounds):
        chances, before = _round(cells, chances, n_positions), reached
        reached = log_likelihood(cells, chances, n_positions)
        if reached - before <= tolerance * cells.clicks.sum():
            break
    return chances[:n_positions]


def em_step(cells: Cells, chances: Floats, n_positions: int) -> Floats:
    """Take one EM step.

    Of a result that was not clicked, looked at is θ(1 - γ) / (1 - θγ), attractive γ(1 - θ) / (1 - θγ).

    Args:
        cells: Counts.
        chances: θ of each position, then γ of each pair, float64 [n_positions + pairs].
        n_positions: How many of them are θ.

    Returns:
        The next `chances`; their likelihood is not below that of the last. θ stays where no cell is.
    """
    theta, gamma = _of_cells(cells, chances, n_positions)
    missed = (cells.impressions - cells.clicks) / (1 - theta * gamma)
    seen = cells.sums_by_position(cells.clicks + missed * theta * (1 - gamma), n_positions)
    attracted = cells.sums_by_pair(cells.clicks + missed * gamma * (1 - theta))
    shown = cells.sums_by_position(cells.impressions, n_positions)
    next_theta = np.where(shown > 0, seen / np.where(shown > 0, shown, 1), chances[:n_positions])
    return _inside(np.concatenate([next_theta, attracted / cells.sums_by_pair(cells.impressions)]))


def log_likelihood(cells: Cells, chances: Floats, n_positions: int) -> float:
    """Give the log likelihood of the counts.

    Args:
        cells: Counts.
        chances: As for `em_step`.
        n_positions: As for `em_step`.

    Returns:
        In nats.
    """
    theta, gamma = _of_cells(cells, chances, n_positions)
    clicked = theta * gamma
    missed = cells.impressions - cells.clicks
    return float((cells.clicks * np.log(clicked) + missed * np.log1p(-clicked)).sum())


def pairs_that_moved(cells: Cells, min_impressions: int = 2) -> Cells:
    """Keep the pairs that tell of position bias: clicked at all, and shown at several positions.

    The others fit whatever θ is: γ = 0 where nothing was clicked, and the rate divided by θ where there is one
    position. They would only slow the fit down.

    Args:
        cells: Counts.
        min_impressions: Pairs that were shown less often are left out too.

    Returns:
        Counts of the pairs kept, perhaps none.
    """
    if not len(cells):
        return cells
    tells = (cells.sums_by_pair(np.ones(len(cells))) > 1) & (cells.sums_by_pair(cells.clicks) > 0)
    tells &= cells.sums_by_pair(cells.impressions) >= min_impressions
    return cells.select(tells[cells.pairs])


def _start(cells: Cells, n_positions: int) -> Floats:
    """Begin with θ as if all items were alike, the most 1, and the γ that gives each pair its clicks."""
    shown = cells.sums_by_position(cells.impressions, n_positions)
    theta = cells.sums_by_position(cells.clicks, n_positions) / np.where(shown > 0, shown, 1)
    theta = _inside(theta / theta.max())
    gamma = cells.sums_by_pair(cells.clicks) / cells.sums_by_pair(cells.impressions * theta[cells.positions - 1])
    return _inside(np.concatenate([theta, np.minimum(gamma, 0.9)]))


def _round(cells: Cells, chances: Floats, n_positions: int) -> Floats:
    """Two EM steps, then as far again as their bend allows; just the two where that is no gain."""
    first = em_step(cells, chances, n_positions)
    second = em_step(cells, first, n_positions)
    change, bend = first - chances, (second - first) - (first - chances)
    size = np.linalg.norm(bend)
    if size == 0:
        return second
    stride = max(1.0, float(np.linalg.norm(change) / size))
    leapt = em_step(cells, _inside(chances + 2 * stride * change + stride**2 * bend), n_positions)
    is_gain = log_likelihood(cells, leapt, n_positions) >= log_likelihood(cells, second, n_positions)
    return leapt if is_gain else second


def _of_cells(cells: Cells, chances: Floats, n_positions: int) -> tuple[Floats, Floats]:
    return chances[cells.positions - 1], chances[n_positions + cells.pairs]


def _inside(chances: Floats) -> Floats:
    return np.clip(chances, _LEAST, 1 - _LEAST)
