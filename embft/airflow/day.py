"""Which day D a run retrains or monitors: the start of its data interval, never "now"."""

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from airflow.sdk.exceptions import AirflowFailException

from embft.config import ModelConfig, Schedule

if TYPE_CHECKING:
    from airflow.sdk import Context


def night_day(context: "Context", schedule: Schedule) -> date:
    """Find the day of a run.

    Scheduled and backfilled: the date on which the data interval starts, in the schedule's time zone. Triggered by
    hand: the day named in the form; else the newest night that is over at the run's logical date, which is what the
    interval says that Airflow infers. A run without a logical date (the API allows it) gets the same from the
    moment it was asked to run.

    Args:
        context: The task's context.
        schedule: The model's schedule.

    Returns:
        The day D.

    Raises:
        AirflowFailException: The form's day is no date, or a backfill was given a day.
    """
    run = context["dag_run"]
    named = context["params"].get("day")
    if named:
        return _named_day(named, run.run_type)
    if run.data_interval_start is None:
        start, end = _last_interval(schedule, run.run_after)
    else:
        start, end = run.data_interval_start, run.data_interval_end
    if start == end:
        # Airflow infers an empty interval where clocks went forward over the cron's tick; the night before is over.
        start -= timedelta(days=1)
    return start.astimezone(ZoneInfo(schedule.timezone)).date()


def monitor_schedule(config: ModelConfig) -> Schedule:
    """Give the schedule of a model's monitoring: a cron of its own, in the time zone of the nights.

    Args:
        config: The model's config.

    Returns:
        As `night_day` wants it.
    """
    return config.schedule.model_copy(update={"cron": config.monitoring.cron})


def _named_day(named: str, run_type: str) -> date:
    if run_type == "backfill":
        raise AirflowFailException(
            f"the backfill was given day={named!r}, so each of its runs would work on that same day; "
            "leave `day` empty: a backfill's dates name its days"
        )
    try:
        return date.fromisoformat(named)
    except ValueError:
        raise AirflowFailException(f"day is {named!r}; expected a date such as 2011-10-20") from None


def _last_interval(schedule: Schedule, moment: datetime) -> tuple[datetime, datetime]:
    # Airflow's core does this for a run with a logical date; the task SDK's timetable only describes itself.
    import pendulum
    from airflow.timetables.interval import CronDataIntervalTimetable

    timetable = CronDataIntervalTimetable(schedule.cron, timezone=pendulum.timezone(schedule.timezone))
    interval = timetable.infer_manual_data_interval(run_after=pendulum.instance(moment))
    return interval.start, interval.end
