"""A night that is not over in time: Airflow's deadline, and the callback that tells people.

The callback runs in the triggerer. On a worker it would have no connections: Airflow 3.3 gives a worker's callback a
token that may not ask for any. So the triggerer needs what a worker needs: the project, its interpreter, S3's keys.
"""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from embft.airflow.day import night_day
from embft.airflow.outcome import explained
from embft.airflow.process import Child, Ended
from embft.airflow.run_facts import run_url
from embft.airflow.tell import tell
from embft.config import ModelConfig, config_path, load_config
from embft.monitoring.run_facts import Deadline, RunFacts

log = logging.getLogger(__name__)

# Airflow runs a callback once.
_TRIES = 3
_PAUSE_S = 60.0


def deadline_of(config: ModelConfig, include: Path) -> DeadlineAlert | None:
    """Give the deadline of a model's nights.

    Args:
        config: The model's config.
        include: The project's `include` folder.

    Returns:
        Counted from when a night is queued, so that one that never starts is missed too; None where there is none.
    """
    hours = config.alerts.deadline_hours
    if hours is None:
        return None
    told = {"model": config.name, "include": str(include), "hours": hours}
    callback = AsyncCallback("embft.airflow.deadline.missed", kwargs=told)
    # In seconds, which Airflow takes too: with a timedelta, Airflow 3.3 answers 500 to whoever clears a task of a run
    # whose deadline has not passed, since it counts the deadline anew from what it stored.
    interval: Any = hours * 3600
    return DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, interval, callback)


async def missed(model: str, include: str, hours: float, context: dict[str, Any]) -> None:
    """Tell people that a night is late. Airflow calls this in the triggerer.

    Args:
        model: The model's name.
        include: The project's `include` folder.
        hours: The limit.
        context: The run, as Airflow's REST API describes it, and the deadline.

    Raises:
        AirflowException: Something was kept that may be sent later; the run's last task sends it.
        AirflowFailException: A channel is misconfigured.
    """
    # Beside the triggerer's loop, in which all other triggers run.
    await asyncio.to_thread(_tell, model, include, hours, context)


def _tell(model: str, include: str, hours: float, context: Mapping[str, Any]) -> None:
    run = context["dag_run"]
    if run["run_type"] == "backfill":
        log.info("nobody waits for a backfill")
        return
    # Where the project lies may differ between the machine that read the DAG and this one.
    folder = Path(os.environ.get("EMBFT_INCLUDE") or include)
    with explained():
        config = load_config(config_path(folder, model))
    facts = None
    if _was_over(run, context["deadline"]):
        log.info("the run had failed before its deadline, which was told then; what was kept is sent")
    else:
        facts = _facts(config, run, hours)
    for left in reversed(range(_TRIES)):
        try:
            tell(lambda arguments, environment: _run(config, folder, arguments, environment), config, folder, facts)
        except AirflowFailException:
            raise
        except AirflowException as error:
            if not left:
                raise
            log.warning("%s; trying again in %g s", error, _PAUSE_S)
            time.sleep(_PAUSE_S)
        else:
            return


def _was_over(run: Mapping[str, Any], deadline: Mapping[str, Any]) -> bool:
    """Say whether the run had ended in time: Airflow takes back the deadline of one that succeeded, no other's."""
    ended, until = _moment(run["end_date"]), _moment(deadline["deadline_time"])
    return ended is not None and until is not None and ended <= until


def _facts(config: ModelConfig, run: Mapping[str, Any], hours: float) -> RunFacts:
    queued = _moment(run["queued_at"])
    assert queued is not None, "a deadline is counted from when its run was queued"
    return RunFacts(
        kind="retrain",
        run_id=run["dag_run_id"],
        day=_day(config, run),
        url=run_url(run["dag_id"], run["dag_run_id"]),
        started_utc=_moment(run["start_date"]),
        deadline=Deadline(hours=hours, queued_utc=queued),
    )


def _day(config: ModelConfig, run: Mapping[str, Any]) -> date:
    moments = ("data_interval_start", "data_interval_end", "run_after")
    dag_run = SimpleNamespace(run_type=run["run_type"], **{name: _moment(run[name]) for name in moments})
    # The form as it was filled in; what was left as it stands names no day.
    context: Any = {"dag_run": dag_run, "params": run["conf"] or {}}
    return night_day(context, config.schedule)


def _moment(said: str | datetime | None) -> datetime | None:
    return datetime.fromisoformat(said) if isinstance(said, str) else said


def _run(config: ModelConfig, include: Path, arguments: list[str], environment: Mapping[str, str]) -> Ended:
    command = [config.runtime.python or sys.executable, *arguments]
    env = {**os.environ, "EMBFT_INCLUDE": str(include), **environment}
    return Child(command, env=env, folder=include.parent).run(lambda line: log.info("%s", line))
