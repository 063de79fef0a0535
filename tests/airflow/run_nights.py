"""Runs nights of a DAG by `dag.test()` in one process, and prints what came of each as a line of JSON.

Arguments: the DAG folder and, where a stand-in plays the stages, its project's root. Scenarios come on stdin, one JSON
object a line: `name`, `dag`, `logical_date` (or null), `run_after`, `conf`, `include` (the project's, where it is not
the environment's), `stages` (what the stand-in does), `faults` (what the emulated cluster does), `patience_s`,
`answer` (what a person says who is asked), `connections` (made before the night).
"""

import contextlib
import io
import json
import os
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.airflow.project import Project


def main() -> None:
    from airflow.utils.db import initdb

    initdb()
    stand_in = Project(Path(sys.argv[2])) if len(sys.argv) > 2 else None
    for line in sys.stdin:
        scenario = json.loads(line)
        night = {"name": scenario["name"]}
        if stand_in:
            prepare(stand_in, stand_in.root / "cluster", scenario)
        night |= run_night(sys.argv[1], scenario)
        if stand_in:
            cluster = stand_in.root / "cluster"
            night |= {"calls": stand_in.calls(), "pods": pods(cluster), "left": pods_left(cluster)}
            night |= {"steps": stand_in.steps(scenario["dag"].removeprefix("retrain_")), "tellings": stand_in.told()}
        print("NIGHT " + json.dumps(night), flush=True)


def run_night(folder: str, scenario: dict[str, Any]) -> dict[str, Any]:
    from airflow.dag_processing.dagbag import BundleDagBag

    if "include" in scenario:
        os.environ["EMBFT_INCLUDE"] = scenario["include"]
    # Parsed anew for each night, as the DAG processor does: configs may have changed.
    dag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder").dags[scenario["dag"]]
    if "patience_s" in scenario:
        from embft.airflow import cluster

        cluster.PATIENCE_S = scenario["patience_s"]
    log = io.StringIO()
    with answering(scenario.get("answer")), contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        run = dag.test(
            logical_date=moment(scenario["logical_date"]),
            run_after=moment(scenario.get("run_after")),
            run_conf=scenario.get("conf"),
        )
    return {"state": run.state, **facts(run), "log": log.getvalue()}


def prepare(project: Project, cluster: Path, scenario: dict[str, Any]) -> None:
    project.forget()
    (cluster / "pods.jsonl").unlink(missing_ok=True)
    project.behave(**scenario.get("stages", {}))
    if cluster.exists():
        (cluster / "faults.json").write_text(json.dumps(scenario.get("faults", [])))
    for connection in scenario.get("connections", []):
        add_connection(connection)


def add_connection(facts: dict[str, Any]) -> None:
    """Make a connection as the interface does: it lies in Airflow's database."""
    from airflow.models import Connection
    from airflow.utils.session import create_session

    with create_session() as session:
        session.add(Connection(**facts))


def moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def pods(cluster: Path) -> list[dict[str, Any]]:
    path = cluster / "pods.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def pods_left(cluster: Path, patience_s: float = 20) -> list[str]:
    """Names of the pods that are in the cluster when the grace periods are over."""
    if not cluster.exists():
        return []
    until = time.monotonic() + patience_s
    while True:
        with urllib.request.urlopen((cluster / "url").read_text() + "/api/v1/namespaces/embft/pods") as answer:
            names = [it["metadata"]["name"] for it in json.load(answer)["items"]]
        if not names or time.monotonic() > until:
            return names
        time.sleep(0.2)


@contextlib.contextmanager
def answering(option: str | None) -> Iterator[None]:
    """Answer what a night asks, as the interface does: `dag.test()` sleeps while a person is awaited."""
    sleep = time.sleep

    def awaited(seconds: float) -> None:
        answer(str(option))
        sleep(min(seconds, 0.1))

    with patch("time.sleep", awaited if option else sleep):
        yield


def answer(option: str) -> None:
    from airflow._shared.timezones.timezone import utcnow
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import handle_event_submit
    from airflow.triggers.base import TriggerEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.orm import joinedload

    parked = select(TaskInstance).where(TaskInstance.state == "awaiting_input")
    with create_session() as session:
        for task in session.scalars(parked.options(joinedload(TaskInstance.hitl_detail))).all():
            task.hitl_detail.responded_by = {"id": "7", "name": "Kim"}
            task.hitl_detail.responded_at = utcnow()
            task.hitl_detail.chosen_options = [option]
            event = TriggerEvent(task.hitl_detail.as_resume_event_payload())
            handle_event_submit(event, task_instance=task, session=session)


def facts(run: Any) -> dict[str, Any]:
    from airflow.models.asset import AssetEvent
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        rows = session.scalars(select(XComModel).where(XComModel.dag_id == run.dag_id, XComModel.run_id == run.run_id))
        xcoms = [[row.task_id, row.map_index, row.key, row.value] for row in rows]
        events = session.scalars(
            select(AssetEvent).where(AssetEvent.source_dag_id == run.dag_id, AssetEvent.source_run_id == run.run_id)
        )
        told = [event.extra for event in events]
    tasks = [[ti.task_id, ti.map_index, str(ti.state), ti.try_number] for ti in run.get_task_instances()]
    return {"tasks": tasks, "xcoms": xcoms, "told": told}


if __name__ == "__main__":
    main()
