"""What earlier nights left for a night to compare with. Nights of the same day or after are never asked.

So a backfill compares with the days before its own day, as the night itself did.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

from embft.paths import Paths
from embft.results import StageResult
from embft.storage import Storage

_PARALLEL = 8


def accepted_before(storage: Storage, paths: Paths, day: date, stage: str, n_days: int) -> list[StageResult]:
    """Read what a stage of earlier nights came to.

    Args:
        storage: S3.
        paths: Of the model.
        day: The night's day.
        stage: The stage.
        n_days: How far back to look.

    Returns:
        Results that are no rejections, the newest night first; those that are gone or of another version are left out.
    """
    days = [day - timedelta(days=back) for back in range(1, min(n_days, day.toordinal() - 1) + 1)]
    with ThreadPoolExecutor(_PARALLEL) as pool:
        results = list(pool.map(lambda before: storage.read_result(paths.stage(before, stage)), days))
    return [it for it in results if it is not None and it.status == "done"]


def newest_night(storage: Storage, paths: Paths, stage: str) -> date | None:
    """Find the newest night in which a stage came to a result.

    Args:
        storage: S3.
        paths: Of the model.
        stage: The stage.

    Returns:
        The night's day; None where there is none.
    """
    listed = {it.uri for it in storage.objects(paths.runs)}
    days = {_day(uri.removeprefix(f"{paths.runs}/").partition("/")[0]) for uri in listed}
    return max((it for it in days if it and Paths.result(paths.stage(it, stage)) in listed), default=None)


def _day(name: str) -> date | None:
    try:
        return date.fromisoformat(name)
    except ValueError:
        return None  # somebody else's object


def profiles_of(nights: Sequence[StageResult]) -> dict[str, Any]:
    """Collect log days as those nights saw them.

    Args:
        nights: Results of `validate_sessions`, the newest first.

    Returns:
        Day → profile, as JSON. A day is taken from its own night, else from the newest night that learned from it; one
        that a night left out is none to compare with.
    """
    # An older version of embft left no profiles.
    told = [
        (it.day.isoformat(), it.figures["profiles"], it.figures.get("days_left_out", {}))
        for it in nights
        if "profiles" in it.figures
    ]
    profiles = {own: days[own] for own, days, left_out in told if own in days and own not in left_out}
    for _, days, left_out in told:
        for day, profile in days.items():
            if day not in left_out:
                profiles.setdefault(day, profile)
    return profiles
