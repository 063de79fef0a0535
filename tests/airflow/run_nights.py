"""Runs nights of a DAG by `dag.test()` in one process, and prints what came of each as a line of JSON.

Arguments: the DAG folder, the project's root, and a JSON list of scenarios: `stages` (what the stand-in does),
`faults` (what the emulated cluster does), `logical_date` (or null), `run_after`, `conf`, `dag`.
"""

import contextlib
import io
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.airflow.project import Project


def main() -> None:
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.utils.db import initdb

    initdb()
    folder, root, scenarios = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
    for scenario in scenarios:
        dag = bag.dags[scenario.get("dag", "retrain_shop")]
        prepare(Project(root), root / "cluster", scenario)
        log = io.StringIO()
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            run = dag.test(
                logical_date=moment(scenario["logical_date"]),
                run_after=moment(scenario.get("run_after")),
                run_conf=scenario.get("conf"),
            )
        found = {"name": scenario["name"], "state": run.state, **facts(run), "calls": Project(root).calls()}
        print("NIGHT " + json.dumps({**found, "log": log.getvalue(), "pods": pods(root / "cluster")}), flush=True)


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
