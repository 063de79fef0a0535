"""A night with its stages in pods of an emulated cluster, real commands all, against the same night on the worker."""

import json
import shutil
import sys
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from demo.services import s3_environment
from embft.config import STAGES
from embft.results import StageResult
from tests.airflow.cluster import emulated_cluster
from tests.airflow.process import Night, airflow_process, states
from tests.airflow.project import IMAGE, REPO
from tests.buckets import new_bucket
from tests.mlflow_database import new_database
from tests.pipeline.conftest import Project
from tests.shop import NIGHT, make_shop

pytestmark = [pytest.mark.airflow, pytest.mark.faults]

# The stages that read logs, encode texts or train; the others are a matter of seconds on the worker.
IN_PODS = ("pull", "preprocess_ranks", "fine_tune", "evaluate", "publish")
# So many that the node can be taken away in their middle.
EPOCHS = 60


@dataclass(frozen=True)
class Served:
    """What a night came to."""

    results: dict[str, StageResult]
    vectors: np.ndarray
    ids: list[str]

    def weights(self) -> dict[str, str]:
        outputs = self.results["fine_tune"].outputs
        return {name: it.sha256 for name, it in outputs.items() if name.startswith("model/")}


def make_project(home: Path, endpoint: str, runtime: dict[str, Any]) -> Project:
    home.mkdir()
    bucket = new_bucket(endpoint)
    include = make_shop(home, bucket, endpoint, new_database(home))
    path = include / "models" / "tiny.yaml"
    config = yaml.safe_load(path.read_text())
    config["training"]["settings"]["num_epochs"] = EPOCHS
    config["training"]["params"] = {"items_lr": 1e-3}
    config["runtime"] |= runtime
    path.write_text(yaml.safe_dump(config))
    shutil.copytree(REPO / "include" / "kubernetes", include / "kubernetes")
    return Project(include, bucket, "tiny")


def served(project: Project) -> Served:
    pointer = json.loads(project.storage.read(project.paths.current_vectors) or b"")
    shards = [pa.BufferReader(project.storage.read(shard["uri"]) or b"") for shard in pointer["shards"]]
    table = pa.concat_tables([pq.read_table(shard) for shard in shards])
    stored = {stage: project.storage.read_result(project.paths.stage(NIGHT, stage)) for stage in STAGES}
    results = {stage: result for stage, result in stored.items() if result}
    return Served(results, np.array(table["vector"].to_pylist()), table["id"].to_pylist())


@pytest.fixture(scope="module")
def on_worker(module_environment: str, tmp_path_factory: pytest.TempPathFactory) -> Served:
    project = make_project(tmp_path_factory.mktemp("worker") / "home", module_environment, {})
    project.night(NIGHT)
    return served(project)


@pytest.fixture(scope="module")
def in_pods(module_environment: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Night, Served, Path]:
    """The same night in pods; the node of the one that trains is taken away in the middle of its work."""
    home = tmp_path_factory.mktemp("pods")
    kubernetes = {"image": IMAGE, "connection_id": "cluster", "gpus": 0, "grace_s": 600, "deferrable": False}
    runtime = {"retry_delay_s": 0, "stages": dict.fromkeys(IN_PODS, "pod"), "kubernetes": kubernetes}
    project = make_project(home / "home", module_environment, runtime)
    for log_day in project.stage("plan", NIGHT).figures["days_to_pull"][:-1]:
        project.stage("pull", NIGHT, log_day=date.fromisoformat(log_day))
    s3 = s3_environment(module_environment)
    brought = s3 | {"PYTHONPATH": str(REPO), "EMBFT_INCLUDE": str(project.include)}
    with (
        emulated_cluster(home / "cluster", sys.executable, brought) as environment,
        airflow_process(home, s3 | environment) as run,
    ):
        preempted = {"do": "preempt", "at": ".*recorder: step [1-9].*", "grace_s": 60}
        (home / "cluster" / "faults.json").write_text(json.dumps([preempted]))
        night = run(
            {
                "name": "pods",
                "dag": "retrain_tiny",
                "include": str(project.include),
                "logical_date": f"{NIGHT + timedelta(days=1)}T02:00:00+00:00",
            }
        )
    assert night["state"] == "success", night["log"][-5000:]
    return night, served(project), home / "cluster"


def test_night_in_pods_whose_node_was_taken_away_ends_as_on_the_worker(
    in_pods: tuple[Night, Served, Path], on_worker: Served
) -> None:
    night, pods, _ = in_pods
    assert states(night) == {**dict.fromkeys([*STAGES, "tell"], "success"), "rejected": "skipped"}
    decision, expected = pods.results["gate"], on_worker.results["gate"]
    assert (decision.status, decision.reason) == (expected.status, expected.reason)
    assert decision.figures == expected.figures
    assert pods.weights() == on_worker.weights()
    assert pods.ids == on_worker.ids
    assert np.array_equal(pods.vectors, on_worker.vectors)


def test_training_went_on_in_a_second_pod_where_the_first_had_stopped(in_pods: tuple[Night, Served, Path]) -> None:
    night, pods, cluster = in_pods
    tries = {task: tries for task, _, _, tries in night["tasks"]}
    assert tries["fine_tune"] == 2
    assert {tries[stage] for stage in IN_PODS if stage != "fine_tune"} == {1}
    (resumed_at,) = pods.results["fine_tune"].figures["resumed_at_steps"]
    assert 0 < resumed_at < pods.results["fine_tune"].figures["steps"]
    assert "goes on from there" in night["log"]
    events = [json.loads(line) for line in (cluster / "pods.jsonl").read_text().splitlines()]
    created = [it["body"]["metadata"]["labels"]["embft-stage"] for it in events if it["event"] == "created"]
    assert sorted(created) == sorted([*IN_PODS, "fine_tune"])
    gone = {it["name"] for it in events if it["event"] == "deleted"}
    assert gone >= {it["name"] for it in events if it["event"] == "created"}
