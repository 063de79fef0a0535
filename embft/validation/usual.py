"""What is usual for a log day: the days before it, as earlier nights saw them, and how far the day lies from them.

A distance is counted in robust standard deviations, and called a deviation:

    (figure − median) / √(((1 + 4/n) · 1.4826 · MAD)² + floor² + standard error²)

over the n days before. The median and the MAD (median absolute deviation; 1.4826 of it estimate a standard deviation)
are not moved by a few strange days. Of few days the spread is known badly, so it counts for more. The floor keeps a
figure that hardly ever changes from crying wolf at its first move, the standard error a small day from being called
strange for being small.

Source: Rousseeuw and Croux 1993, Alternatives to the Median Absolute Deviation, section 1.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import median_abs_deviation, rankdata

from embft.validation.profiles import DayProfile

MIN_DAYS = 7
MIN_SAME_WEEKDAY = 4  # fewer give no spread to speak of
_MIN_OF_WEEK = 4
MIN_DAYS_FOR_SHIFT = 14
_MIN_SESSIONS_FOR_SHIFT = 100
_BUSY = 0.75  # a quarter of the hours are the busiest
_MIN_EXPECTED = 8  # an hour is silent where at least this many sessions were to be expected (e⁻⁸ by chance)


@dataclass(frozen=True)
class Scale:
    """How a figure's deviation is counted.

    Args:
        floor: What is never strange: an absolute difference, or a relative one of a logarithm.
        log: Compare ratios instead of differences.
        is_volume: It has a trend and a week: compare with the days just before, as other days of the week do.
    """

    floor: float
    log: bool = False
    is_volume: bool = False


SCALES: dict[str, Scale] = {
    "n_sessions": Scale(0.15, is_volume=True),
    "click_rate": Scale(0.03),
    "query_length_mean": Scale(0.1, log=True),
    "unseen_query_share": Scale(0.05),
    "known_click_share": Scale(0.04),
    "top_query_share": Scale(0.05),
    "top_client_share": Scale(0.015),
    "top_second_share": Scale(0.01),
    "shown_share": Scale(0.03),
    "first_position_share": Scale(0.03),
    "position_drift": Scale(0.02),
    "script_drift": Scale(0.02),
    "duplicate_share": Scale(0.02),
    "filtered_share": Scale(0.03),
    "quarantined_share": Scale(0.02),
}


@dataclass(frozen=True)
class Deviation:
    """How far a figure lies from what is usual.

    Args:
        value: In robust standard deviations, signed.
        usual: The median of the days before.
        n_days: How many days that is.
    """

    value: float
    usual: float
    n_days: int


class Usual:
    """The days before one day.

    Args:
        day: The day.
        history: Profiles of other days; those of `day` and after, and those too old, are left out.
        reference_days: How far back usual goes.
    """

    def __init__(self, day: date, history: Mapping[date, DayProfile], reference_days: int) -> None:
        first = day - timedelta(days=reference_days)
        self._pools: dict[str, Counter[str]] = {}
        self._days = [profile for before, profile in sorted(history.items()) if first <= before < day]

    def deviation(self, name: str, profile: DayProfile) -> Deviation | None:
        """Say how far one of a day's figures lies from the usual.

        Args:
            name: A figure of `SCALES`.
            profile: Of the day.

        Returns:
            None where the day lacks the figure, or fewer than `MIN_DAYS` days have it.
        """
        scale, ours = SCALES[name], self._figure(name, profile)
        told = {it.day: figure[0] for it in self._days if (figure := self._figure(name, it))}
        if ours is None or len(told) < MIN_DAYS:
            return None
        value, error = ours
        if scale.is_volume:
            return _volume_deviation(profile.day, value, told, scale.floor)
        usual = np.asarray(list(told.values()))
        if scale.log:
            error = error / value if value else 1.0
            distance = _distance(np.log(max(value, 1)), np.log(np.maximum(usual, 1)), scale.floor, error)
        else:
            distance = _distance(value, usual, scale.floor, error)
        return Deviation(distance, float(np.median(usual)), len(usual))

    def drift(self, name: str, profile: DayProfile) -> tuple[float, float] | None:
        """Measure how a day spreads over positions or scripts against all other days together.

        Args:
            name: `position_drift` or `script_drift`.
            profile: Of the day, or of one of the days before.

        Returns:
            Jensen–Shannon divergence in nats less what chance explains, and its standard error; None where either side
            is empty.

        Source: Lin 1991, Divergence Measures Based on the Shannon Entropy. Of two samples of one distribution with k
        values the divergence is about χ²(k−1) · (1/n + 1/m) / 8.
        """
        ours, pooled = _counts(name, profile), Counter(self._pooled(name))
        if any(it is profile for it in self._days):
            pooled.subtract(ours)
        keys = [key for key, count in (ours + pooled).items() if count]
        n, m = ours.total(), pooled.total()
        if not n or not m:
            return None
        distance = jensenshannon([ours[key] / n for key in keys], [pooled[key] / m for key in keys])
        by_chance = (1 / n + 1 / m) / 8
        return float(distance) ** 2 - (len(keys) - 1) * by_chance, float(np.sqrt(2 * (len(keys) - 1))) * by_chance

    def hours_shift(self, profile: DayProfile) -> int | None:
        """Say by how many hours a day's rhythm lies off the usual one: a time zone that changed on the way.

        Ranks of hours are compared, not sessions, so that a crowded hour does not look like a shift.

        Args:
            profile: Of the day.

        Returns:
            -11 … 12, positive where sessions come later than usual; None for small days, or too few before.
        """
        if len(self._days) < MIN_DAYS_FOR_SHIFT or sum(profile.hours) < _MIN_SESSIONS_FOR_SHIFT:
            return None
        ours, usual = _rhythm(np.asarray(profile.hours)), _rhythm(self._usual_hours())
        fits = {shift: _rank_correlation(ours, np.roll(usual, shift)) for shift in sorted(range(-11, 13), key=abs)}
        best = max(fits, key=lambda shift: fits[shift])
        return best if fits[best] > fits[0] + 0.1 else 0

    def silent_share(self, profile: DayProfile) -> float | None:
        """Say which share of a usual day falls into hours that have not a single session today.

        Args:
            profile: Of the day.

        Returns:
            0 … 1; None where too few days lie before, or nobody was there at any usual hour: that is volume's to say.
        """
        if len(self._days) < MIN_DAYS:
            return None
        usual = self._usual_hours()
        if not usual.sum():
            return None
        share, hours = usual / usual.sum(), np.asarray(profile.hours)
        silent, heard = hours == 0, float(share[hours > 0].sum())
        if not heard:
            return None
        # On a quiet day an empty hour means less, on a busy one no more: sessions at odd hours tell of no other.
        expected = np.minimum(usual, share * hours[usual > 0].sum() / heard)
        return float(share[silent & (expected >= _MIN_EXPECTED)].sum())

    def _pooled(self, name: str) -> Counter[str]:
        """Count over all days, once: each of them is compared with the others."""
        if name not in self._pools:
            self._pools[name] = Counter()
            for it in self._days:
                self._pools[name].update(_counts(name, it))
        return self._pools[name]

    def _usual_hours(self) -> NDArray[np.float64]:
        # Each day counts alike, so that one crowded day does not set the rhythm.
        return np.asarray(np.median([it.hours for it in self._days], axis=0))

    def _figure(self, name: str, profile: DayProfile) -> tuple[float, float] | None:
        return self.drift(name, profile) if name.endswith("_drift") else profile.figures.get(name)


def _distance(value: float, before: NDArray[np.float64], floor: float, error: float) -> float:
    """Count the distance from the median in robust standard deviations."""
    return (value - float(np.median(before))) / _scale(_spread(before), len(before), floor, error)


def _spread(values: NDArray[np.float64]) -> float:
    return float(median_abs_deviation(values, scale="normal"))


def _scale(spread: float, n_days: int, floor: float, error: float) -> float:
    return float(np.sqrt((spread * (1 + 4 / n_days)) ** 2 + floor**2 + error**2))


def _volume_deviation(day: date, n: float, before: Mapping[date, float], floor: float) -> Deviation:
    """Compare a day's sessions with those of the week before it, as earlier days compare with theirs.

    A shop grows and shrinks, and has its weekends: what is looked at is the logarithm of a day's sessions over the
    median of the week before it, and with four of the same weekday, how far it lies from theirs. Before that all days
    are usual, and their spread is the plain standard deviation, which weekends widen.
    """
    volumes = {**before, day: n}
    ratios = {it: ratio for it in volumes if (ratio := _log_ratio(it, volumes)) is not None}
    if day not in ratios or len(ratios) <= MIN_DAYS:
        base = float(np.median(list(before.values())))
        ratios = {it: _log(volume) - _log(base) for it, volume in volumes.items()}
    else:
        base = float(np.median(_week_before(day, volumes)))
    ours = ratios.pop(day)
    same = [ratio for it, ratio in ratios.items() if it.weekday() == day.weekday()]
    if len(same) >= MIN_SAME_WEEKDAY:
        centre, spread = float(np.median(same)), _spread(_beside_their_weekday(ratios))
    else:
        usual = np.asarray(list(ratios.values()))
        centre, spread = float(np.median(usual)), float(usual.std())
    expected = base * float(np.exp(centre))
    # By what was expected too: that nobody came is no small sample.
    error = float(np.sqrt(2 / max(n + expected, 1)))
    return Deviation((ours - centre) / _scale(spread, len(ratios), floor, error), expected, len(ratios))


def _beside_their_weekday(ratios: Mapping[date, float]) -> NDArray[np.float64]:
    """Take from each day's ratio the median of its weekday."""
    by_weekday: dict[int, list[float]] = {}
    for day, ratio in ratios.items():
        by_weekday.setdefault(day.weekday(), []).append(ratio)
    return np.asarray([ratio - np.median(by_weekday[day.weekday()]) for day, ratio in ratios.items()])


def _log_ratio(day: date, volumes: Mapping[date, float]) -> float | None:
    week = _week_before(day, volumes)
    return _log(volumes[day]) - _log(float(np.median(week))) if len(week) >= _MIN_OF_WEEK else None


def _week_before(day: date, volumes: Mapping[date, float]) -> list[float]:
    days = (day - timedelta(days=back) for back in range(1, 8))
    return [volumes[it] for it in days if it in volumes]


def _log(n: float) -> float:
    return float(np.log(max(n, 1)))


def _counts(name: str, profile: DayProfile) -> Counter[str]:
    if name == "script_drift":
        return Counter(profile.scripts)
    return Counter({str(position): count for position, count in enumerate(profile.positions, 1)})


def _rhythm(hours: NDArray[Any]) -> NDArray[np.float64]:
    """Average each hour with its neighbours, round the clock; the busiest hours count alike, whatever crowds them."""
    capped = np.minimum(hours, np.quantile(hours, _BUSY))
    return np.asarray((np.roll(capped, 1) + capped + np.roll(capped, -1)) / 3)


def _rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Give Spearman's coefficient; 0 where one side is constant."""
    ranks = [rankdata(it) - (len(it) + 1) / 2 for it in (first, second)]
    norms = np.linalg.norm(ranks[0]) * np.linalg.norm(ranks[1])
    return float(ranks[0] @ ranks[1] / norms) if norms else 0.0
