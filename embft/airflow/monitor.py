"""The DAG that looks at the champion every day, whether or not a night's training succeeded."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.sdk import DAG

from embft.airflow.day import monitor_schedule, night_day
from embft.airflow.docs import monitor_page
from embft.airflow.forms import monitor_form
from embft.airflow.frame import default_arguments, runs_in_pod, tags_of, task_arguments
from embft.airflow.operators import StageOperator
from embft.airflow.project import timetable_of
from embft.airflow.task import StageTask
from embft.airflow.tell import tell_task
from embft.config import MONITOR, ModelConfig

if TYPE_CHECKING:
    from airflow.sdk import Context


class MonitorTask(StageTask):
    """Mixed into an operator in place of `StageTask`: the day is that of a DAG with a cron of its own."""

    def day_of(self, context: "Context", config: ModelConfig) -> date:
        """Find the log day that is looked at.

        Args:
            context: The task's context.
            config: The model's config.

        Returns:
            The day.
        """
        return night_day(context, monitor_schedule(config))


class MonitorOperator(MonitorTask, StageOperator):
    """Runs `python -m embft monitor …` on the worker."""


def monitor_dag(config: ModelConfig, include: Path) -> DAG:
    """Make the DAG of a model's monitoring.

    Args:
        config: The model's config.
        include: The project's `include` folder.

    Returns:
        `monitor_<model>`.
    """
    first = config.schedule.start_date
    with DAG(
        dag_id=f"monitor_{config.name}",
        description=f"Look at the champion of {config.name} on yesterday's clicks, and tell when it gets worse.",
        schedule=timetable_of(monitor_schedule(config)),
        start_date=pendulum.datetime(first.year, first.month, first.day, tz=config.schedule.timezone),
        # Days that are missing come by a backfill that somebody asks for, never by unpausing the DAG.
        catchup=False,
        # One day after the other: each is held against those before it.
        max_active_runs=1,
        params=monitor_form(),
        tags=tags_of(config, MONITOR),
        doc_md=monitor_page(config),
        default_args=default_arguments(config),
    ) as dag:
        monitor = _operator(config)(**task_arguments(config, include, MONITOR))
        monitor >> tell_task(config, include, "monitor")
    return dag


def _operator(config: ModelConfig) -> Any:
    if runs_in_pod(config, MONITOR):
        # Only here: the Kubernetes client takes two seconds to import, which most projects need not pay.
        from embft.airflow.monitor_pod import MonitorPodOperator

        return MonitorPodOperator
    return MonitorOperator
