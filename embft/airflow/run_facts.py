"""What Airflow knows of a run that S3 does not: gathered by the run's last task, for the command that tells people."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk.configuration import conf

from embft.airflow.quote import quoted
from embft.monitoring.run_facts import Kind, RunFacts, TaskFailure

if TYPE_CHECKING:
    from airflow.sdk import Context


def facts_of(context: "Context", kind: Kind, day: date | None) -> RunFacts:
    """Gather the facts of the run that a task belongs to.

    Args:
        context: The task's context; every other task of the run is over.
        kind: What the DAG does.
        day: That the run works on; None of a rollback.

    Returns:
        The facts, with each task that failed for good.
    """
    ti, run = context["ti"], context["dag_run"]
    # Of tasks that are over, and only of those: whatever will be retried is not among them.
    over = ti.get_task_breadcrumbs(dag_id=ti.dag_id, run_id=ti.run_id)
    return RunFacts(
        kind=kind,
        run_id=ti.run_id,
        day=day,
        url=run_url(ti.dag_id, ti.run_id),
        started_utc=run.start_date,
        failed=tuple(_failure(context, it) for it in over if it["state"] == "failed"),
    )


def run_url(dag_id: str, run_id: str) -> str | None:
    """Give the address of a run's page; None where Airflow does not know its own (`[api] base_url`)."""
    base = conf.get("api", "base_url", fallback=None)
    return f"{base.rstrip('/')}/dags/{dag_id}/runs/{quote(run_id)}" if base else None


def _failure(context: "Context", ended: Mapping[str, Any]) -> TaskFailure:
    ti, task, index = context["ti"], ended["task_id"], ended["map_index"]
    said = quoted(ti, task, index)
    # Not guessed from the task's retries: somebody may have stopped it at its first try.
    tries = _tries(context, task, index) or (said[0] if said else None)
    page = run_url(ti.dag_id, ti.run_id)
    mapped = f"/mapped/{index}" if index >= 0 else ""
    return TaskFailure(
        task=task,
        tries=tries,
        # An earlier try's sentence says nothing of a later one, whose worker was lost.
        said=said[1] if said and said[0] == tries else None,
        log_url=f"{page}/tasks/{task}{mapped}{f'?try_number={tries}' if tries else ''}" if page else None,
    )


def _tries(context: "Context", task: str, index: int) -> int | None:
    # A worker may ask for a task's newest instance before a date, which is how it learns of other tasks' tries.
    from airflow.sdk.execution_time.comms import GetPreviousTI
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    ti, run = context["ti"], context["dag_run"]
    if run.logical_date is None:
        return None
    until = run.logical_date + timedelta(microseconds=1)
    newest = SUPERVISOR_COMMS.send(
        GetPreviousTI(dag_id=ti.dag_id, task_id=task, logical_date=until, map_index=index)
    ).task_instance
    return int(newest.try_number) if newest and newest.run_id == ti.run_id else None
