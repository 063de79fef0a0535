"""Runs every fault by `dag.test()`, the task on a worker and deferred side by side, and counts what it cost."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.airflow.cluster import cluster_with_stand_in, moto_s3
from tests.airflow.faults import FAULTS, OUTAGES
from tests.airflow.process import Night, airflow_process
from tests.airflow.project import IMAGE, Project, make_project

MODES = {"sync": False, "deferrable": True}
DAGS = Path(__file__).parent / "fault_dags"
RETRIES = 2
DAY = "2026-{:02d}-{:02d}T02:00:00+00:00"


def add_model(project: Project, name: str, s3: str, *, deferrable: bool, **runtime: Any) -> None:
    """Add a model that trains in a pod; limits are those of a test."""
    kubernetes = {
        "image": IMAGE,
        "connection_id": "cluster",
        "deferrable": deferrable,
        "schedule_timeout_s": 3,
        "startup_timeout_s": 30,
    }
    project.add_model(
        name,
        storage={"artifacts": "s3://bucket/models", "endpoint_url": s3},
        runtime={"retries": RETRIES, "stages": {"fine_tune": "pod"}, "kubernetes": kubernetes, **runtime},
    )


def run_faults(root: Path) -> dict[str, dict[str, Night]]:
    """Run the faults in both modes; give mode → name → night."""
    # The outages on the worker alone: a deferred task is looked after by the worker, too, when it wakes up into one.
    faults = {"sync": [*FAULTS, *OUTAGES], "deferrable": FAULTS}
    with moto_s3() as s3, ThreadPoolExecutor(len(MODES)) as pool:
        started = {mode: pool.submit(_run_mode, root / mode, mode, s3, faults[mode]) for mode in MODES}
        return {mode: each.result() for mode, each in started.items()}


def _run_mode(root: Path, mode: str, s3: str, faults: list[dict[str, Any]]) -> dict[str, Night]:
    root.mkdir()
    project = make_project(root / "project")
    add_model(project, mode, s3, deferrable=MODES[mode])
    with (
        cluster_with_stand_in(project, s3) as environment,
        airflow_process(root, environment, stand_in=project.root, dags=DAGS) as run,
    ):
        dated = [
            {"dag": f"retrain_{mode}", "logical_date": DAY.format(5 + number // 28, number % 28 + 1), **it}
            for number, it in enumerate(faults)
        ]
        return {it["name"]: run(it) for it in dated}


def counted(night: Night) -> dict[str, Any]:
    """What a night came to: outcome, tries, pods created, pods left, steps done twice."""
    [[_, _, state, tries]] = night["tasks"]
    return {
        "outcome": state,
        "tries": tries,
        "pods": sum(it["event"] == "created" for it in night["pods"]),
        "left": len(night["left"]),
        "lost": len(night["steps"]) - len(set(night["steps"])),
    }
