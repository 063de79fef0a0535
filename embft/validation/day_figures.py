"""The figures of log days that rules of the suite `sessions` may name, each beside what is usual."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import pandas as pd

from embft.validation.profiles import DayProfile
from embft.validation.suites import Figures
from embft.validation.usual import MIN_DAYS, MIN_DAYS_FOR_SHIFT, SCALES, Deviation, Usual
from embft.validation.wording import figure

_RAW = (
    "n_sessions",
    "click_rate",
    "query_length_mean",
    "unseen_query_share",
    "known_click_share",
    "repeated_share",
    "twin_share",
    "top_query_share",
    "top_client_share",
    "top_second_share",
    "shown_share",
    "unknown_shown_share",
    "first_position_share",
    "duplicate_share",
    "filtered_share",
    "quarantined_share",
)
_AGAINST_USUAL = ("hours_shift", "silent_share")
_DEVIATION = "_deviation"
COLUMNS = (*_RAW, *_AGAINST_USUAL, *(f"{name}{_DEVIATION}" for name in SCALES))
_NOT_TOLD = "the log does not tell"


def day_figures(profiles: Sequence[DayProfile], history: Mapping[date, DayProfile], *, reference_days: int) -> Figures:
    """Lay out the figures of a window's days.

    Args:
        profiles: Of the days, in the order of time.
        history: Profiles of days as earlier nights saw them.
        reference_days: How far back usual goes.

    Returns:
        One row a day, its columns `COLUMNS`.
    """
    rows: list[dict[str, Any]] = []
    context: dict[str, dict[str, str]] = {}
    for profile in profiles:
        usual = Usual(profile.day, history, reference_days)
        deviations = {name: usual.deviation(name, profile) for name in SCALES}
        for name, deviation in deviations.items():
            if deviation:
                context.setdefault(f"{name}{_DEVIATION}", {})[profile.day.isoformat()] = _in_words(
                    name, profile, deviation
                )
        rows.append(
            {
                **{name: profile.figures[name][0] for name in _RAW if name in profile.figures},
                **{f"{name}{_DEVIATION}": it.value for name, it in deviations.items() if it},
                "hours_shift": usual.hours_shift(profile),
                "silent_share": usual.silent_share(profile),
            }
        )
    days = pd.Index([it.day.isoformat() for it in profiles], name="day")
    frame = pd.DataFrame(rows, index=days, columns=list(COLUMNS), dtype="float64")
    return Figures(frame, _unknown(profiles, history), context)


def usual_sessions(
    profiles: Sequence[DayProfile], history: Mapping[date, DayProfile], *, reference_days: int
) -> dict[str, float]:
    """Say how many sessions are usual for the days of a window.

    Args:
        profiles: Of the days.
        history: Profiles of days as earlier nights saw them.
        reference_days: How far back usual goes.

    Returns:
        Day → sessions; without the days that have too few before them.
    """
    deviations = {it.day: Usual(it.day, history, reference_days).deviation("n_sessions", it) for it in profiles}
    return {day.isoformat(): it.usual for day, it in deviations.items() if it}


def _in_words(name: str, profile: DayProfile, deviation: Deviation) -> str:
    usually = f"usually {figure(deviation.usual)} (median of {deviation.n_days} earlier days)"
    return (
        f"{name} is {figure(profile.figures[name][0])}, {usually}"
        if name in profile.figures
        else f"{name} is {usually}"
    )


def _unknown(profiles: Sequence[DayProfile], history: Mapping[date, DayProfile]) -> dict[str, str]:
    """Say why a figure that no day has is unknown."""
    reasons = {name: _NOT_TOLD for name in _RAW if not _n_known(name, profiles)}
    for name in (*_AGAINST_USUAL, *(f"{name}{_DEVIATION}" for name in SCALES)):
        plain = name.removesuffix(_DEVIATION)
        reasons[name] = _too_few(plain, history.values()) if _n_known(plain, profiles) else _NOT_TOLD
    return reasons


def _too_few(name: str, history: Collection[DayProfile]) -> str:
    if not history:
        return "no earlier night to compare with"
    needed = MIN_DAYS_FOR_SHIFT if name == "hours_shift" else MIN_DAYS
    return f"known of {_n_known(name, history)} earlier days; it takes {needed}"


def _n_known(name: str, profiles: Iterable[DayProfile]) -> int:
    """Count the days that a figure is known of, or what it is made of."""
    if name == "position_drift":
        return sum(any(it.positions) for it in profiles)
    if name in (*_AGAINST_USUAL, "script_drift"):
        return sum(any(it.hours) for it in profiles)
    return sum(name in it.figures for it in profiles)
