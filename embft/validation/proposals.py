"""Limits for the rules on a day's figures, proposed from what good days looked like.

A limit of a deviation lies half as far again from nothing as the good day that went farthest, between 2.5 and 12 robust
standard deviations. A limit of a raw figure lies as far outside of the good days as they are apart. A limit that lies
near enough to that is left alone: a config should say only what is special about a model.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from embft.validation.day_figures import COLUMNS, day_figures
from embft.validation.profiles import DayProfile
from embft.validation.usual import MIN_DAYS
from embft.validation.wording import columns_of
from embft.validation_config import Expectation

_DEVIATION = "_deviation"
_TIGHTEST, _LOOSEST = 2.5, 12.0
_HOURS = 2.0  # a rhythm is told to the hour
_SHARE = 0.05
_REST = 0.5  # of the figure


@dataclass(frozen=True)
class Proposal:
    """New limits for one rule.

    Args:
        rule: Its name.
        limits: `min_value`, `max_value` or both; a limit that is left out fits as it is.
        evidence: What the good days showed.
    """

    rule: str
    limits: dict[str, float]
    evidence: str


@dataclass(frozen=True)
class _Room:
    """Distances of a limit from the middle, in the direction of the limit: too near, as proposed, too far."""

    near: float
    proposed: float
    far: float


def propose(
    rules: Sequence[Expectation], days: Sequence[date], history: Mapping[date, DayProfile], *, reference_days: int
) -> list[Proposal]:
    """Propose limits for those rules on a day's figures whose limits do not fit the days.

    Args:
        rules: The suite `sessions`, as the model keeps it.
        days: Good days, each in `history`.
        history: Profiles of these days and of the days before them.
        reference_days: How far back usual goes.

    Returns:
        In the order of the rules. A rule whose figure is known on fewer than `MIN_DAYS` of the days is left alone.
    """
    frame = day_figures([history[day] for day in sorted(days)], history, reference_days=reference_days).frame
    proposals = []
    for rule in rules:
        column = next(iter(columns_of(rule)), "")
        if rule.type != "expect_column_values_to_be_between" or column not in COLUMNS:
            continue
        seen = frame[column].dropna().to_numpy()
        if len(seen) >= MIN_DAYS and (limits := _limits(rule, column, float(seen.min()), float(seen.max()))):
            evidence = f"{len(seen)} days: {_brief(seen.min())} … {_brief(seen.max())}"
            proposals.append(Proposal(rule.name, limits, evidence))
    return proposals


def _limits(rule: Expectation, column: str, low: float, high: float) -> dict[str, float]:
    limits = {}
    # A lower limit is an upper one in the mirror.
    for key, sign, extreme in (("min_value", -1, -low), ("max_value", 1, high)):
        limit = rule.kwargs.get(key)
        if isinstance(limit, bool) or not isinstance(limit, int | float):
            continue
        room = _of_deviation(rule, extreme) if column.endswith(_DEVIATION) else _of_raw(column, extreme, high - low)
        if not room.near <= sign * limit <= room.far:
            limits[key] = _within(column, sign * room.proposed)
    return {key: limit for key, limit in limits.items() if limit != rule.kwargs[key]}


def _of_deviation(rule: Expectation, extreme: float) -> _Room:
    # A false warning costs less than a false stop, so that a warning may lie nearer.
    near = 1.0 if rule.severity == "warning" else 1.25
    farthest = max(extreme, 0.0)
    proposed = math.ceil(2 * (near + 0.25) * farthest) / 2
    return _Room(min(near * farthest, _LOOSEST), min(max(proposed, _TIGHTEST), _LOOSEST), max(2 * farthest, _TIGHTEST))


def _of_raw(column: str, extreme: float, spread: float) -> _Room:
    margin = max(spread, _least_margin(column, extreme))
    return _Room(extreme + spread / 2, _outward(extreme + margin), extreme + 2 * margin)


def _least_margin(column: str, extreme: float) -> float:
    if column == "hours_shift":
        return _HOURS
    return _SHARE if column.endswith(("_share", "_rate")) else _REST * abs(extreme)


def _outward(limit: float) -> float:
    """Round up to two digits."""
    if not limit:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(limit))) - 1)
    return float(np.round(math.ceil(round(limit / unit, 6)) * unit, 12))


def _within(column: str, limit: float) -> float:
    """Keep a share between 0 and 1, and a whole number whole."""
    if column.endswith(("_share", "_rate")):
        limit = min(max(limit, 0.0), 1.0)
    return int(limit) if float(limit).is_integer() else limit


def _brief(value: float) -> str:
    return f"{value:.2g}" if abs(value) < 10 else f"{value:,.0f}"
