"""Day D of a run: scheduled, backfilled, triggered by hand."""

from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from embft.airflow.day import night_day
from embft.config import Schedule

UTC_NIGHT = Schedule(cron="0 2 * * *", timezone="UTC", start_date=date(2026, 1, 1))
BERLIN = Schedule(cron="0 2 * * *", timezone="Europe/Berlin", start_date=date(2026, 1, 1))


def day(schedule: Schedule, *, named: str | None = None, **run: Any) -> date:
    facts: dict[str, Any] = {"run_type": "scheduled", "data_interval_start": None, "data_interval_end": None}
    return night_day({"dag_run": SimpleNamespace(**{**facts, **run}), "params": {"day": named}}, schedule)


def test_scheduled_run_has_the_day_its_interval_starts() -> None:
    assert day(UTC_NIGHT, data_interval_start=datetime(2026, 11, 10, 2, tzinfo=UTC)) == date(2026, 11, 10)


def test_the_date_is_the_schedules_not_utcs() -> None:
    # 00:00 in Berlin on the 11th is still the 10th in UTC.
    midnight = Schedule(cron="0 0 * * *", timezone="Europe/Berlin", start_date=date(2026, 1, 1))
    assert day(midnight, data_interval_start=datetime(2026, 11, 10, 23, tzinfo=UTC)) == date(2026, 11, 11)


def test_backfill_has_its_intervals_day() -> None:
    start = datetime(2026, 3, 1, 2, tzinfo=UTC)
    assert day(UTC_NIGHT, run_type="backfill", data_interval_start=start) == date(2026, 3, 1)


def test_run_without_an_interval_takes_the_newest_night_that_is_over() -> None:
    # Noon on the 11th: the night of the 10th began at 02:00 that morning.
    asked = datetime(2026, 11, 11, 12, tzinfo=UTC)
    assert day(UTC_NIGHT, run_type="manual", run_after=asked) == date(2026, 11, 10)
    # 01:00 on the 11th: the 10th is not yet due.
    early = datetime(2026, 11, 11, 1, tzinfo=UTC)
    assert day(UTC_NIGHT, run_type="manual", run_after=early) == date(2026, 11, 9)


def test_run_without_an_interval_across_the_change_of_clocks() -> None:
    # Clocks go forward on 2026-03-29 at 02:00 in Berlin: that night's tick does not exist.
    asked = datetime(2026, 3, 29, 12, tzinfo=UTC)
    assert day(BERLIN, run_type="manual", run_after=asked) == date(2026, 3, 28)


def test_manual_run_with_an_empty_interval_takes_the_night_before() -> None:
    # What Airflow infers for a logical date on the 29th.
    tick = datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert day(BERLIN, run_type="manual", data_interval_start=tick, data_interval_end=tick) == date(2026, 3, 28)


def test_named_day_wins() -> None:
    start = datetime(2026, 11, 10, 2, tzinfo=UTC)
    assert day(UTC_NIGHT, named="2026-05-01", run_type="manual", data_interval_start=start) == date(2026, 5, 1)


def test_backfill_refuses_a_named_day() -> None:
    with pytest.raises(AirflowFailException, match="a backfill's dates name its days"):
        day(UTC_NIGHT, named="2026-05-01", run_type="backfill")


def test_named_day_must_be_a_date() -> None:
    with pytest.raises(AirflowFailException, match="day is 'yesterday'; expected a date"):
        day(UTC_NIGHT, named="yesterday", run_type="manual")
