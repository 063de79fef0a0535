"""The DAG that brings a former champion back, for a person who has no shell at hand."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowSkipException

from embft.airflow.command import rollback_arguments
from embft.airflow.docs import TASK_DOCS, rollback_page
from embft.airflow.forms import rollback_form
from embft.airflow.frame import default_arguments, runs_in_pod, tags_of, task_arguments
from embft.airflow.printing import PrintingOperator, PrintingTask
from embft.airflow.tell import tell_task
from embft.config import ModelConfig

if TYPE_CHECKING:
    from airflow.sdk import Context

ROLLBACK = "rollback"


class RollbackTask(PrintingTask):
    """Mixed into an operator in place of `StageTask`: a rollback is of no night, and leaves no result but its print."""

    printed_keys = frozenset({"number", "said", "pointer"})

    @property
    def kept_in(self) -> str:
        """Where the work is to be seen, for the log."""
        return f"the history of {self.model}"

    def arguments_for(self, context: "Context", config: ModelConfig) -> list[str]:
        """Spell the command; the run's name makes a retry, or a cleared task, the same rollback.

        Args:
            context: The task's context.
            config: The model's config.

        Returns:
            Arguments of a Python interpreter.
        """
        request = f"{context['ti'].dag_id} {context['run_id']}"
        return rollback_arguments(self.model, context["params"], request)

    def conclude_printed(self, context: "Context", config: ModelConfig, printed: dict[str, Any]) -> None:
        """Say which version serves, to the log and to downstream DAGs.

        Args:
            context: The task's context.
            config: The model's config.
            printed: The record; empty where a pod's log could not be read.

        Raises:
            AirflowSkipException: Nothing had to change, so there is nothing to tell.
        """
        if printed and printed["number"] is None:
            raise AirflowSkipException(printed["said"])
        if printed:
            self.log.warning("%s", printed["said"])
        for asset in self.outlets:
            version = {"version": printed["pointer"]} if printed else {}
            context["outlet_events"][asset].extra = {**version, "rollback": True}


class RollbackOperator(RollbackTask, PrintingOperator):
    """Runs `python -m embft rollback …` on the worker."""


def rollback_dag(config: ModelConfig, include: Path) -> DAG:
    """Make the DAG of a model's rollbacks: one task that works, where `publish` runs, too.

    Args:
        config: The model's config.
        include: The project's `include` folder.

    Returns:
        `rollback_<model>`.
    """
    first = config.schedule.start_date
    with DAG(
        dag_id=f"rollback_{config.name}",
        description=f"Bring a former champion of {config.name} back.",
        schedule=None,
        start_date=pendulum.datetime(first.year, first.month, first.day, tz=config.schedule.timezone),
        catchup=False,
        max_active_runs=1,
        # Nobody who needs it at night should first have to find the switch; it never starts by itself.
        is_paused_upon_creation=False,
        params=rollback_form(),
        tags=tags_of(config, ROLLBACK),
        doc_md=rollback_page(config),
        default_args=default_arguments(config),
    ) as dag:
        arguments = task_arguments(config, include, "publish")
        # Whoever rolls back does not wait for a training to end: no pool, and as a stage of its own no GPU either.
        arguments.pop("pool", None)
        arguments |= {"task_id": ROLLBACK, "stage": ROLLBACK, "doc_md": TASK_DOCS[ROLLBACK]}
        _operator(config)(**arguments) >> tell_task(config, include, "rollback")
    return dag


def _operator(config: ModelConfig) -> Any:
    if runs_in_pod(config, "publish"):
        # Only here: the Kubernetes client takes two seconds to import, which most projects need not pay.
        from embft.airflow.rollback_pod import RollbackPodOperator

        return RollbackPodOperator
    return RollbackOperator
