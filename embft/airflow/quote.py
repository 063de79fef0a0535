"""The sentence that a task failed with, kept so that the run's last task can quote it to people."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException, AirflowTaskTimeout, DownstreamTasksSkipped

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

ERROR_KEY = "error"
_LONGEST = 2000
_NO_FAILURES = (AirflowSkipException, DownstreamTasksSkipped)


@contextmanager
def quotable(context: "Context") -> Iterator[None]:
    """Keep what the task fails with as an XCom, with the try that it belongs to.

    Airflow clears a task's XComs when its next try starts, but a try that is lost before its start clears nothing.

    Args:
        context: The task's context.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, AirflowTaskTimeout):
            _keep(context, "the task came to its time limit, which is runtime.timeout_s of the model's config")
        elif isinstance(error, Exception) and not isinstance(error, _NO_FAILURES):
            _keep(context, str(error))
        raise


def quoted(ti: Any, task_id: str, map_index: int) -> tuple[int, str] | None:
    """Read what another task of the run failed with.

    Args:
        ti: The task instance that asks.
        task_id: The other task.
        map_index: Which of its instances; -1 where it is not mapped.

    Returns:
        Number of the try, and its sentence; None where the task said nothing.
    """
    kept = ti.xcom_pull(task_ids=task_id, key=ERROR_KEY, map_indexes=map_index)
    return (int(kept["try"]), str(kept["said"])) if kept else None


def _keep(context: "Context", sentence: str) -> None:
    ti = context["ti"]
    try:
        ti.xcom_push(key=ERROR_KEY, value={"try": ti.try_number, "said": sentence[:_LONGEST]})
    except Exception as error:
        # The failure itself is what Airflow has to hear of; the sentence stands in the log too.
        log.warning("the sentence that this task fails with could not be kept for the alert: %s", error)
