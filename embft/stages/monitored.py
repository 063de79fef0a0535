"""The monitoring history in S3: one result for each day, in order."""

from datetime import date

from pydantic import ValidationError

from embft.monitoring.day import MonitoredDay
from embft.paths import Paths
from embft.results import StageResult
from embft.stages.needed import results_at
from embft.storage import Storage


def monitored_days(storage: Storage, paths: Paths, *, until: date | None = None) -> list[MonitoredDay]:
    """Read the history.

    Args:
        storage: S3.
        paths: Of the model.
        until: Newest day that is wanted; None for all.

    Returns:
        The days, the oldest first; those that another version of embft wrote in another form are left out.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    days = [it for it in committed_days(storage, paths) if until is None or it <= until]
    results = results_at(storage, [paths.monitoring(day) for day in days])
    return [it for it in map(_read, results.values()) if it is not None]


def committed_days(storage: Storage, paths: Paths) -> list[date]:
    """List the days that have a result, whatever it says.

    Args:
        storage: S3.
        paths: Of the model.

    Returns:
        The days, the oldest first.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    listed = {it.uri for it in storage.objects(paths.all_monitoring)}
    names = {uri.removeprefix(f"{paths.all_monitoring}/").partition("/")[0] for uri in listed}
    return sorted(it for it in map(_day, names) if it and Paths.result(paths.monitoring(it)) in listed)


def newest_before(storage: Storage, paths: Paths, day: date) -> StageResult | None:
    """Read the last monitored day before another.

    Args:
        storage: S3.
        paths: Of the model.
        day: The later one.

    Returns:
        Its result; None where there is none that this version of embft can read.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    for before in reversed(committed_days(storage, paths)):
        result = storage.read_result(paths.monitoring(before)) if before < day else None
        if _read(result):
            return result
    return None


def newest_measured_before(storage: Storage, paths: Paths, day: date) -> tuple[StageResult, MonitoredDay] | None:
    """Find the last day before another on which the champion was measured.

    Args:
        storage: S3.
        paths: Of the model.
        day: The later one.

    Returns:
        Its result, and what it says; None where there is none that this version of embft can read.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    for before in reversed(committed_days(storage, paths)):
        result = storage.read_result(paths.monitoring(before)) if before < day else None
        found = _read(result)
        if result and found and found.status == "measured":
            return result, found
    return None


def _day(name: str) -> date | None:
    try:
        return date.fromisoformat(name)
    except ValueError:
        return None  # somebody else's object


def _read(result: StageResult | None) -> MonitoredDay | None:
    """Read a result's figures; a rejected one, whose log was missing, has none."""
    try:
        return None if result is None else MonitoredDay.model_validate(result.figures)
    except ValidationError:
        return None
