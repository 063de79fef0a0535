"""One model's night as Airflow sees it: the DAG's frame, and where and how each of its stages runs."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import DAG

from embft.airflow.deadline import deadline_of
from embft.airflow.docs import TASK_DOCS, night_page
from embft.airflow.forms import night_form
from embft.airflow.frame import default_arguments, runs_in_pod, tags_of, task_arguments
from embft.airflow.operators import GateOperator, RejectedOperator, StageOperator
from embft.airflow.project import timetable_of
from embft.airflow.task import APPROVE
from embft.airflow.tell import tell_task
from embft.config import ModelConfig
from embft.paths import SEARCH


class _NightDag(DAG):  # type: ignore[misc]
    def test(self, *args: Any, **kwargs: Any) -> Any:
        # Airflow 3.3 looks a deadline up under an id that only its DAG processor gives, so `airflow dags test` would
        # break off where the run succeeds. Nobody is late there.
        deadline: Any = self.deadline  # type: ignore[has-type]
        self.deadline = None
        try:
            return super().test(*args, **kwargs)
        finally:
            self.deadline = deadline


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
        return _NightDag(
            dag_id=f"retrain_{config.name}",
            description=config.description or f"Retrain {config.name} from clicks, and serve it if it is better.",
            schedule=timetable_of(config.schedule),
            start_date=pendulum.datetime(first.year, first.month, first.day, tz=config.schedule.timezone),
            # Old nights come by a backfill that somebody asks for, never by unpausing the DAG.
            catchup=False,
            max_active_runs=config.schedule.max_active_runs,
            params=night_form(config),
            tags=tags_of(config, "retrain"),
            doc_md=night_page(config),
            default_args=default_arguments(config),
            deadline=deadline_of(config, self._include),
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

    @property
    def searches_in_parallel(self) -> bool:
        """Whether several tasks train the trials of a night's search."""
        return self._searchers > 1

    def search(self) -> Any:
        """Make the mapped task that trains trials of the night's search: one instance for each of its workers.

        Returns:
            The mapped task. It runs where `fine_tune` does, with the same limits.
        """
        arguments = self._arguments("fine_tune") | {"task_id": SEARCH, "doc_md": TASK_DOCS[SEARCH]}
        del arguments["stage"]
        partial = self._search_operator().partial(**arguments, map_index_template="worker {{ task.worker }}")
        return partial.expand(worker=list(range(self._searchers)))

    def rejected(self) -> Any:
        """Make the task that says why the challenger was rejected.

        Returns:
            The task.
        """
        return RejectedOperator(**self._arguments("gate") | {"task_id": "rejected", "doc_md": TASK_DOCS["rejected"]})

    @property
    def asks_a_person(self) -> bool:
        """Whether a person has to approve what the gate lets through."""
        return self._config.gate.approval is not None

    def approve(self) -> Any:
        """Make the task that asks a person.

        Returns:
            The task.
        """
        # Only here: it brings in what projects without approval need not import.
        from embft.airflow.approve import ApproveOperator

        approval = self._config.gate.approval
        assert approval is not None, "the config asks for no approval"
        return ApproveOperator(
            timeout=timedelta(hours=approval.timeout_hours),
            **self._arguments("gate") | {"task_id": APPROVE, "doc_md": TASK_DOCS[APPROVE]},
        )

    def tell(self) -> Any:
        """Make the last task, which tells people what happened; it changes nothing of the night's state.

        Returns:
            The task.
        """
        return tell_task(self._config, self._include, "retrain")

    @property
    def _searchers(self) -> int:
        search = self._config.training.search
        return search.trials_in_parallel if search else 1

    def _arguments(self, stage: str) -> dict[str, Any]:
        return task_arguments(self._config, self._include, stage)

    def _operator(self, stage: str) -> Any:
        if runs_in_pod(self._config, stage):
            # Only here: the Kubernetes client takes two seconds to import, which most projects need not pay.
            from embft.airflow.pods import GatePodOperator, StagePodOperator

            return GatePodOperator if stage == "gate" else StagePodOperator
        return GateOperator if stage == "gate" else StageOperator

    def _search_operator(self) -> Any:
        # Only here: nights without a search in parallel need neither.
        if runs_in_pod(self._config, "fine_tune"):
            from embft.airflow.search_pod import SearchPodOperator

            return SearchPodOperator
        from embft.airflow.search import SearchOperator

        return SearchOperator
