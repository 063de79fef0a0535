"""A distribution of ranks, stored as quantiles, and its distance from an earlier one."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Every half per cent: the distance between two smooth distributions is then off by less than 0.005.
GRID: NDArray[np.float64] = np.linspace(0, 1, 201)
# What Kolmogorov's distribution exceeds once in a thousand times: scipy.stats.kstwobign.isf(0.001). Importing SciPy's
# statistics for one number takes `evaluate` longer than its work.
_ONCE_IN_A_THOUSAND = 1.9494746


def summarise(ranks: NDArray[np.floating[Any]], n_independent: int) -> dict[str, Any]:
    """Store a distribution for a later night to compare with.

    Args:
        ranks: Finite ranks [n].
        n_independent: How many of them count as independent draws: the sessions, as ranks of one session are alike.

    Returns:
        JSON-able: `n`, `n_independent`, `mean`, `stdev`, and `quantiles` on `GRID`; no quantiles where n is 0.
    """
    if not len(ranks):
        return {"n": 0, "n_independent": 0, "mean": None, "stdev": None, "quantiles": []}
    return {
        "n": len(ranks),
        "n_independent": n_independent,
        "mean": float(ranks.mean(dtype=np.float64)),
        "stdev": float(ranks.std(dtype=np.float64)),
        "quantiles": np.quantile(ranks, GRID).round(6).tolist(),
    }


def distance(now: Mapping[str, Any], before: Mapping[str, Any]) -> float:
    """Measure how far two stored distributions lie apart: the Kolmogorov–Smirnov statistic.

    Args:
        now: From `summarise`, not empty.
        before: From `summarise`, not empty.

    Returns:
        The largest difference between the two cumulative distributions, 0 … 1.

    Source: Smirnov 1948, the two-sample statistic, from quantiles instead of samples.
    """
    points = np.union1d(now["quantiles"], before["quantiles"])
    up_to = _at_most(points, now["quantiles"]) - _at_most(points, before["quantiles"])
    below = _below(points, now["quantiles"]) - _below(points, before["quantiles"])
    return float(max(np.abs(up_to).max(), np.abs(below).max()))


def explained_by_chance(n_now: int, n_before: int) -> float:
    """Give the distance that two samples of one distribution exceed in one night of a thousand.

    Args:
        n_now: Independent draws, at least 1.
        n_before: Independent draws, at least 1.

    Returns:
        Critical value of the two-sample statistic, at most 1.
    """
    return min(1.0, _ONCE_IN_A_THOUSAND * math.sqrt((n_now + n_before) / (n_now * n_before)))


def drift(now: Mapping[str, Any], before: Mapping[str, Any]) -> float:
    """Measure the distance beyond what the sample sizes explain.

    Args:
        now: From `summarise`, not empty.
        before: From `summarise`, not empty.

    Returns:
        0 where chance explains it, else the excess, at most 1.
    """
    return max(0.0, distance(now, before) - explained_by_chance(now["n_independent"], before["n_independent"]))


def _at_most(points: NDArray[np.float64], quantiles: ArrayLike) -> NDArray[np.float64]:
    """Give the share of ranks <= each point. Quantiles that repeat are a jump; np.interp takes its upper end."""
    return np.interp(points, np.asarray(quantiles, dtype=np.float64), GRID, left=0.0, right=1.0)


def _below(points: NDArray[np.float64], quantiles: ArrayLike) -> NDArray[np.float64]:
    """Give the share of ranks < each point: the same from above, with the signs turned."""
    return 1 - _at_most(-points, -np.asarray(quantiles)[::-1])
