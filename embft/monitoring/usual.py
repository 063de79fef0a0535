"""What is usual, and by how much chance moves it: median and MAD of some days, and a CUSUM over them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from math import pi

import numpy as np

_TO_DEVIATION = 1.4826  # of a normal distribution: 1 / Φ⁻¹(¾)
_CAP = 2.0
_RECENT = 3


@dataclass(frozen=True)
class Reading:
    """A measure on one day that could be judged.

    Args:
        day: The day.
        figure: Finite.
        error: Its standard error over queries; 0 where that is not known.
        n_queries: Distinct ones.
        is_broken: Whether the rule was broken on it.
    """

    day: date
    figure: float
    error: float
    n_queries: int
    is_broken: bool = False


@dataclass(frozen=True)
class Decline:
    """What small drops add up to.

    Args:
        usual: Median of the first days.
        noise: One usual deviation of a day, in the measure's unit.
        recent: Median of the newest three days.
        added_up: The CUSUM of the newest day, in usual deviations.
        is_still_worse: Whether the newest three days' median is worse than usual by more than a deviation.
    """

    usual: float
    noise: float
    recent: float
    added_up: float
    is_still_worse: bool


def usual_of(said: Sequence[Reading], reading: Reading) -> tuple[float, float]:
    """Give the usual level, and one deviation of a day from it.

    The level is the median. A day moves about it by s = √(max(1.4826 MAD, e)² + π/2 max(1.4826 MAD, e)² / n): the
    days' own scatter, or the standard error e that the day's own queries give it, where that is greater (few queries,
    or one of them with most of the clicks), and the error of a median of n days.

    Levels 0.70, 0.72, 0.74 (MAD 0.02) and a day with e = 0.01: level 0.72, s = √(0.02965² (1 + π/6)) = 0.0366.

    Args:
        said: Days that say what is usual, at least one.
        reading: The day that is held against it.

    Returns:
        Level and deviation, in the measure's unit.

    Source: Leys et al. 2013, Detecting outliers: do not use standard deviation around the mean, use absolute deviation
    around the median, J. Exp. Soc. Psych. 49(4). The median's error: π/2 σ² / n (Kendall and Stuart, vol. 1).
    """
    usual, scatter = _level(said)
    return usual, max(scatter, reading.error) * (1 + pi / 2 / len(said)) ** 0.5


def decline_of(window: Sequence[Reading], *, n_usual: int, slack: float, is_worse_up: bool) -> Decline:
    """Add up what days are worse than the first ones.

    With m the median and s the deviation (1.4826 MAD, at least the median standard error) of the first n_usual days,
    each later day adds z - slack, z = (m - x) / s capped at ±2, and the sum never falls below 0: S = max(0, S + z -
    slack). The cap lets no single day, however bad, count as a decline.

    Usual 0.70 ± 0.02, slack 0.5, days of 0.68, 0.67, 0.66: z = 1, 1.5, 2; S = 0.5, 1.5, 3.0.

    Args:
        window: Days in order; more than n_usual.
        n_usual: How many of the first say what is usual.
        slack: Deviations that a day may be worse without adding up.
        is_worse_up: Whether more is worse, as of a loss.

    Returns:
        The sum, and what it is about.

    Source: Page 1954, Continuous inspection schemes, Biometrika 41; Montgomery, Introduction to Statistical Quality
    Control, 9.1 (the tabular CUSUM with K = slack, H = threshold).
    """
    first, later = window[:n_usual], window[n_usual:]
    usual, scatter = _level(first)
    noise = max(scatter, float(np.median([it.error for it in first])))
    sign = 1 if is_worse_up else -1
    added_up = 0.0
    for it in later:
        added_up = max(0.0, added_up + _deviations(sign * (it.figure - usual), noise) - slack)
    recent = float(np.median([it.figure for it in later[-_RECENT:]]))
    return Decline(usual, noise, recent, added_up, sign * (recent - usual) > noise)


def _deviations(worse: float, noise: float) -> float:
    if worse == 0:
        return 0.0
    return max(-_CAP, min(_CAP, worse / noise)) if noise else (_CAP if worse > 0 else -_CAP)


def _level(said: Sequence[Reading]) -> tuple[float, float]:
    figures = np.array([it.figure for it in said])
    usual = float(np.median(figures))
    return usual, _TO_DEVIATION * float(np.median(np.abs(figures - usual)))
