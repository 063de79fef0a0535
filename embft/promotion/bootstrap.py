"""How sure a comparison is: a paired bootstrap over queries, and Holm's correction. NumPy alone.

Queries are drawn, not sessions: the sessions of one query rise and fall together, so a head query of a thousand
sessions says little more than one of ten. Paired: a query that is drawn brings both models' figures.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

MIN_QUERIES = 10
_POWER = 0.8
_SEED = 20_111_020
_WEIGHTS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Sample:
    """A figure, and what it was in each resample.

    Args:
        figure: On the queries as they are.
        resampled: Float64 [resamples]; empty where there are too few queries to say how sure the figure is.
    """

    figure: float
    resampled: Numbers

    @property
    def is_sure(self) -> bool:
        """Whether there were enough queries for an interval."""
        return bool(self.resampled.size)

    @property
    def standard_error(self) -> float:
        """The figure's standard error over queries; NaN where there are too few."""
        return float(self.resampled.std()) if self.is_sure else nan

    def interval(self, confidence: float) -> tuple[float, float]:
        """Give the percentile interval.

        Args:
            confidence: Share of the resamples in it, (0, 1).

        Returns:
            Both ends; NaN where there are too few queries. Source: Efron and Tibshirani 1993, chapter 13.
        """
        if not self.is_sure:
            return nan, nan
        outside = (1 - confidence) / 2
        # No mean of two resamples: one of them may be infinite. The wider one of the two is taken.
        low = np.quantile(self.resampled, outside, method="lower")
        high = np.quantile(self.resampled, 1 - outside, method="higher")
        return float(low), float(high)

    def p_at_least(self, limit: float) -> float:
        """Give the one-sided p of "the true figure is at least the limit"; NaN where there are too few queries."""
        return self._share(self.resampled >= limit)

    def p_no_difference(self) -> float:
        """Give the two-sided p of "the true figure is 0"; NaN where there are too few queries."""
        sides = self._share(self.resampled >= 0), self._share(self.resampled <= 0)
        return min(1.0, 2 * min(sides)) if self.is_sure else nan

    def detectable(self, confidence: float) -> float:
        """Give the smallest true figure whose interval would be above 0 in 8 of 10 such nights.

        Args:
            confidence: Of the interval.

        Returns:
            (z of the confidence + z of the power) · standard error; NaN where there are too few queries, or the figure
            is not finite in every resample. Source: Cohen 1988, chapter 2, for the normal approximation.
        """
        if not self.is_sure or not np.isfinite(self.resampled).all():
            return nan
        normal = NormalDist()
        z = normal.inv_cdf(1 - (1 - confidence) / 2) + normal.inv_cdf(_POWER)
        return z * self.standard_error

    def _share(self, is_so: NDArray[np.bool_]) -> float:
        # Plus one: no p of 0 from so many resamples. Source: Davison and Hinkley 1997, section 4.2.
        return float((1 + np.count_nonzero(is_so)) / (1 + is_so.size)) if self.is_sure else nan


@dataclass(frozen=True)
class Pair:
    """Two models' means of one measure, as they are and in each resample.

    Args:
        ours: The candidate's mean.
        theirs: The opponent's.
        higher_is_better: Whether a bigger figure is the better one.
    """

    ours: Sample
    theirs: Sample
    higher_is_better: bool

    @property
    def gain(self) -> Sample:
        """Share by which ours is better than theirs; below 0 it is worse."""
        figures = relative_gain(np.array([self.ours.figure]), np.array([self.theirs.figure]), self.higher_is_better)
        resampled = relative_gain(self.ours.resampled, self.theirs.resampled, self.higher_is_better)
        return Sample(float(figures[0]), resampled)


def relative_gain(ours: Numbers, theirs: Numbers, higher_is_better: bool) -> Numbers:
    """Say by which share figures are better than others.

    Args:
        ours: Float64 [n].
        theirs: Float64 [n].
        higher_is_better: Whether a bigger figure is the better one.

    Returns:
        Float64 [n]. Where theirs is 0: 0 if ours is, too, else infinite, above or below 0 as ours is better or worse.
    """
    better = ours - theirs if higher_is_better else theirs - ours
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = better / np.abs(theirs)
    return np.where(theirs == 0, np.where(better == 0, 0.0, np.copysign(inf, better)), gain)


def resample(
    queries: Sequence[object],
    figures: Mapping[str, tuple[Numbers, Numbers]],
    *,
    lower_is_better: frozenset[str],
    resamples: int,
) -> dict[str, Pair]:
    """Draw the queries again and again, as many as there are, and take both models' means each time.

    The same queries give the same draws. Sessions without a finite figure of either model are left out of a measure
    for both.

    Args:
        queries: Of each session, [sessions].
        figures: Measure → the candidate's and the opponent's figures, float64 [sessions].
        lower_is_better: Measures whose smaller figure is the better one.
        resamples: How many draws.

    Returns:
        Measure → both means; without draws where fewer than `MIN_QUERIES` distinct queries have a figure, and NaN
        where none has.
    """
    row_of = {query: row for row, query in enumerate(dict.fromkeys(queries))}
    rows = np.array([row_of[query] for query in queries], dtype=np.int64)
    # Per query: sum of ours, sum of theirs, sessions with both; one block of three columns for each measure.
    blocks = [_sums(rows, len(row_of), *pair) for pair in figures.values()]
    n_with_figure = {name: int(np.count_nonzero(block[:, 2])) for name, block in zip(figures, blocks, strict=True)}
    sums = np.hstack(blocks) if blocks else np.zeros((len(row_of), 0))
    is_enough = any(n >= MIN_QUERIES for n in n_with_figure.values())
    drawn = np.concatenate([weights @ sums for weights in _weights(len(row_of), resamples)]) if is_enough else None
    pairs = {}
    for number, (name, n) in enumerate(n_with_figure.items()):
        ours, theirs = _means(blocks[number].sum(axis=0)[None, :])
        block = np.zeros((0, 3)) if drawn is None or n < MIN_QUERIES else drawn[:, 3 * number : 3 * number + 3]
        # Where few queries of many have a figure, a draw may hold none of them: it says nothing.
        all_ours, all_theirs = _means(block[block[:, 2] > 0])
        pairs[name] = Pair(
            Sample(float(ours[0]), all_ours), Sample(float(theirs[0]), all_theirs), name not in lower_is_better
        )
    return pairs


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for being several: the chance of any false alarm among them stays what one alone would have.

    Args:
        p_values: In any order; NaN for what was not tested, which stays NaN and counts for nothing.

    Returns:
        Adjusted ones, in the same order. Source: Holm 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    tested = sorted((p, place) for place, p in enumerate(p_values) if p == p)
    adjusted, highest = list(p_values), 0.0
    for number, (p, place) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - number) * p))
        adjusted[place] = highest
    return adjusted


def _sums(rows: NDArray[np.int64], n_queries: int, ours: Numbers, theirs: Numbers) -> Numbers:
    known = np.isfinite(ours) & np.isfinite(theirs)
    columns = (ours[known], theirs[known], np.ones(np.count_nonzero(known)))
    return np.stack([np.bincount(rows[known], column, minlength=n_queries) for column in columns], axis=1)


def _means(block: Numbers) -> tuple[Numbers, Numbers]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return block[:, 0] / block[:, 2], block[:, 1] / block[:, 2]


def _weights(n_queries: int, resamples: int) -> Iterator[Numbers]:
    """How often each query was drawn, float64 [some resamples, queries], until there are enough."""
    generator = np.random.default_rng(_SEED)
    at_once = max(1, _WEIGHTS_AT_ONCE // n_queries)
    for start in range(0, resamples, at_once):
        n = min(at_once, resamples - start)
        drawn = generator.integers(n_queries, size=(n, n_queries)) + n_queries * np.arange(n)[:, None]
        yield np.bincount(drawn.ravel(), minlength=n * n_queries).reshape(n, n_queries).astype(np.float64)
