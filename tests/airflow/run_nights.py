"""Runs nights of a DAG by `dag.test()` in one process, and prints what came of each as a line of JSON.

Arguments: the DAG folder and, where a stand-in plays the stages, its project's root. Scenarios come on stdin, one JSON
object a line: `name`, `dag`, `logical_date` (or null), `run_after`, `conf`, `include` (the project's, where it is not
the environment's), `stages` (what the stand-in does), `faults` (what the emulated cluster does).
"""

import contextlib
import io
import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

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
            night |= {"calls": stand_in.calls(), "pods": pods(stand_in.root / "cluster")}
        print("NIGHT " + json.dumps(night), flush=True)


def run_night(folder: str, scenario: dict[str, Any]) -> dict[str, Any]:
    from airflow.dag_processing.dagbag import BundleDagBag

    if "include" in scenario:
        os.environ["EMBFT_INCLUDE"] = scenario["include"]
    # Parsed anew for each night, as the DAG processor does: configs may have changed.
    dag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder").dags[scenario["dag"]]
    log = io.StringIO()
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        run = dag.test(
            logical_date=moment(scenario["logical_date"]),
            run_after=moment(scenario.get("run_after")),
            run_conf=scenario.get("conf"),
        )
    return {"state": run.state, **facts(run), "log": log.getvalue()}


def prepare(project: Project, cluster: Path, scenario: dict[str, Any]) -> None:
    for path in [*project.python.parent.glob("times.*"), project.python.parent / "calls.jsonl", cluster / "pods.jsonl"]:
        path.unlink(missing_ok=True)
    project.behave(**scenario.get("stages", {}))
    (cluster / "faults.json").write_text(json.dumps(scenario.get("faults", {})))


def moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def pods(cluster: Path) -> list[dict[str, Any]]:
    path = cluster / "pods.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def facts(run: Any) -> dict[str, Any]:
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        rows = session.scalars(select(XComModel).where(XComModel.dag_id == run.dag_id, XComModel.run_id == run.run_id))
        xcoms = [[row.task_id, row.map_index, row.key, row.value] for row in rows]
    tasks = [[ti.task_id, ti.map_index, str(ti.state), ti.try_number] for ti in run.get_task_instances()]
    return {"tasks": tasks, "xcoms": xcoms}


if __name__ == "__main__":
    main()
