"""One model's night as Airflow sees it: the DAG's frame, and where and how each of its stages runs."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import DAG

from embft.airflow.docs import TASK_DOCS, dag_page
from embft.airflow.forms import night_form
from embft.airflow.operators import GateOperator, RejectedOperator, StageOperator
from embft.airflow.project import timetable_of
from embft.config import ModelConfig

# A team's own checks often ask for at least two; every task states its real number itself.
_LEAST_DEFAULT_RETRIES = 2
_LONGEST_WAIT = timedelta(hours=1)


class Night:
    """Builds the DAG of a model and its tasks.

    Args:
        config: The model's config.
        include: The project's `include` folder.
    """

    def __init__(self, config: ModelConfig, include: Path) -> None:
        self._config = config
        self._include = include

    def dag(self) -> DAG:
        """Make the empty DAG: when it runs, for whom, what a person may choose.

        Returns:
            `retrain_<model>`.
        """
        config = self._config
        first = config.schedule.start_date
        return DAG(
            dag_id=f"retrain_{config.name}",
            description=config.description or f"Retrain {config.name} from clicks, and serve it if it is better.",
            schedule=timetable_of(config),
            start_date=pendulum.datetime(first.year, first.month, first.day, tz=config.schedule.timezone),
            # Old nights come by a backfill that somebody asks for, never by unpausing the DAG.
            catchup=False,
            max_active_runs=config.schedule.max_active_runs,
            params=night_form(config),
            tags=["embft", "retrain", config.name, *(["synthetic"] if config.synthetic else [])],
            doc_md=dag_page(config),
            default_args={
                "owner": config.owner,
                "retries": max(_LEAST_DEFAULT_RETRIES, config.runtime.retries),
                "retry_delay": timedelta(seconds=config.runtime.retry_delay_s),
                "retry_exponential_backoff": 2.0,
                "max_retry_delay": _LONGEST_WAIT,
            },
        )

    def stage(self, name: str, **options: Any) -> Any:
        """Make the task of a stage, on the worker or in a pod as the config says.

        Args:
            name: The stage; also the task's id.
            options: Of any Airflow operator.

        Returns:
            The task.
        """
        return self._operator(name)(**self._arguments(name), **options)

    def stage_for_each(self, name: str, log_days: Any) -> Any:
        """Make the mapped task of a stage that runs once for each log day.

        Args:
            name: The stage; also the task's id.
            log_days: The output of the task that lists the days. An empty list skips the stage.

        Returns:
            The mapped task; its instances are called by their day.
        """
        partial = self._operator(name).partial(**self._arguments(name), map_index_template="{{ task.log_day }}")
        return partial.expand(log_day=log_days)

    def rejected(self) -> Any:
        """Make the task that says why the challenger was rejected.

        Returns:
            The task.
        """
        return RejectedOperator(**self._arguments("gate") | {"task_id": "rejected", "doc_md": TASK_DOCS["rejected"]})

    def _operator(self, stage: str) -> Any:
        if self._config.runtime.stages.get(stage) == "pod":
            # Only here: the Kubernetes client takes two seconds to import, which most projects need not pay.
            from embft.airflow.pods import GatePodOperator, StagePodOperator

            return GatePodOperator if stage == "gate" else StagePodOperator
        return GateOperator if stage == "gate" else StageOperator

    def _arguments(self, stage: str) -> dict[str, Any]:
        runtime = self._config.runtime
        limit_s = runtime.timeout_s
        if runtime.stages.get(stage) == "pod" and runtime.kubernetes:
            # The stage's own time begins when its pod has started. A deferred task is looked at anew when it wakes, so
            # it may take twice this to stop; what frees the GPU in time is the pod's own active deadline.
            limit_s += runtime.kubernetes.schedule_timeout_s + runtime.kubernetes.startup_timeout_s
        return {
            "task_id": stage,
            "stage": stage,
            "model": self._config.name,
            "include": str(self._include),
            "retries": runtime.retries,
            "execution_timeout": timedelta(seconds=limit_s),
            "doc_md": TASK_DOCS[stage],
        }
