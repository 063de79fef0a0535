"""Interventions that a log holds by itself: the same item, for the same query, now at one position, now at another.

For two positions k and k' the items that were seen at both are an experiment: only the position tells their clicks
apart. This is the AllPairs estimator, which fits the examination of all positions to all such sets at once; chains of
neighbouring positions, or every position against the first, throw most sets away and are noisier.

It differs from the source in the weights. There each pair of query and item counts alike in a set, however seldom it
was shown. Here it counts n·n' / (n + n'), with n and n' its impressions at the two positions, as strata do in the
estimator of Mantel & Haenszel 1959: what was shown once at k' adds little noise, however often it was shown at k.

Source: Agarwal et al. 2019, "Estimating position bias without intrusive interventions", WSDM (arXiv:1806.03555).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from embft.clickstream.impressions import Cells


def intervention_sets(cells: Cells, n_positions: int) -> Cells:
    """Sum up the pairs that were shown at two positions, for each two positions.

    Args:
        cells: Counts, ordered by pair.
        n_positions: The deepest position.

    Returns:
        Two cells for each set of positions that has a click: a position-based model with one attraction per set. Their
        clicks are weighted rates, so that both positions of a set have the same impressions.
    """
    weights, clicks = np.zeros((2, n_positions**2)), np.zeros((2, n_positions**2))
    for upper, lower in _neighbours(cells):
        n_upper, n_lower = cells.impressions[upper], cells.impressions[lower]
        weight = n_upper * n_lower / (n_upper + n_lower)
        of_set = (cells.positions[upper] - 1) * n_positions + cells.positions[lower] - 1
        for side, rows in enumerate((upper, lower)):
            rates = cells.clicks[rows] / cells.impressions[rows]
            weights[side] += np.bincount(of_set, weights=weight, minlength=n_positions**2)
            clicks[side] += np.bincount(of_set, weights=weight * rates, minlength=n_positions**2)
    sets = np.flatnonzero(clicks.sum(0) > 0)
    positions = np.stack([sets // n_positions, sets % n_positions], axis=1) + 1
    return Cells(
        pairs=np.repeat(np.arange(len(sets)), 2),
        positions=positions.ravel(),
        impressions=weights[:, sets].T.ravel(),
        clicks=clicks[:, sets].T.ravel(),
    )


def linked_positions(cells: Cells, n_positions: int) -> NDArray[np.bool_]:
    """Find the positions that can be compared with the first one there is, directly or by way of others.

    Args:
        cells: Counts, at least one.
        n_positions: The deepest position.

    Returns:
        bool [n_positions].
    """
    sets = intervention_sets(cells, n_positions)
    ends = sets.positions.reshape(-1, 2) - 1
    is_linked = np.zeros(n_positions, np.bool_)
    is_linked[cells.positions.min() - 1] = True
    for _ in range(n_positions):
        reached = ends[is_linked[ends].any(1)]
        if is_linked[reached].all():
            break
        is_linked[reached] = True
    return is_linked


def _neighbours(cells: Cells) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Give the rows of every two cells of one pair, the upper and the lower one, by how far apart the rows are."""
    for apart in range(1, len(cells)):
        upper = np.flatnonzero(cells.pairs[:-apart] == cells.pairs[apart:])
        if not len(upper):
            break
        yield upper, upper + apart
