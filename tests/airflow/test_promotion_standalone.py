"""What a scheduler makes of promotion: a backfill beside a night, a person who is asked, and DAGs that are told."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.airflow.cluster import moto_s3
from tests.airflow.project import REPO, Project, make_project
from tests.airflow.standalone import Standalone, standalone, wait_until

pytestmark = [pytest.mark.airflow, pytest.mark.standalone]

LONG_S = 420
ASKING = "retrain_asking"
BACKFILLED = [f"2026-10-0{number}" for number in range(1, 6)]
FOLLOWER = """
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset

with DAG("follower", schedule=[Asset("asking_vectors", "s3://bucket/models/asking/vectors/current.json")]):
    EmptyOperator(task_id="reload")
"""


@dataclass(frozen=True)
class Scene:
    """One Airflow with two models: one that trains in a pool, one whose nights a person approves."""

    project: Project
    airflow: Standalone

    def state(self, run_id: str, task: str) -> str:
        tasks = self.airflow.tasks(run_id.split(" ")[0], run_id.split(" ")[1])
        return str(next((it["state"] for it in tasks if it["task_id"] == task), None))

    def waits(self, run_id: str, task: str, state: str) -> None:
        wait_until(lambda: self.state(run_id, task) == state, f"{task} of {run_id} is {state}", LONG_S)

    def is_asked(self, run_id: str) -> None:
        self.waits(f"{ASKING} {run_id}", "approve", "awaiting_input")
        # Airflow 3.3 takes a task for killed that is answered before the scheduler has heard of its worker's end.
        time.sleep(4)

    def kept(self, model: str, name: str) -> str:
        path = self.project.python.parent / f"registry.{model}" / name
        return path.read_text() if path.exists() else ""

    def champions(self, model: str) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.kept(model, "history.jsonl").splitlines()]


def newest_night() -> str:
    """Day of the newest night that is over, at 02:00 UTC."""
    return ((datetime.now(UTC) - timedelta(hours=2)).date() - timedelta(days=1)).isoformat()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("promotion")
    project = make_project(root / "project")
    dags = root / "dags"
    shutil.copytree(REPO / "dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
    (dags / "follower.py").write_text(FOLLOWER)
    project.behave(**{f"shop/validate_ranks/{newest_night()}": {"awaits": "go", "awaits_s": LONG_S}, "keeps": True})
    with moto_s3() as s3:
        storage = {"artifacts": "s3://bucket/models", "endpoint_url": s3}
        runtime = {"python": str(project.python), "retries": 0}
        project.add_model(storage=storage, runtime={**runtime, "pool": "gpus"}, schedule={"max_active_runs": 4})
        project.add_model(
            "asking",
            storage=storage,
            runtime=runtime,
            # No night of its own is due.
            schedule={"cron": "0 2 1 1 *", "max_active_runs": 4},
            gate={"max_val_loss": 1.0, "approval": {"timeout_hours": 0.01}},
        )
        keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        with standalone(root, {"EMBFT_INCLUDE": str(project.include), "FAKE_S3": s3, **keys}, dags) as airflow:
            for dag_id in ("retrain_shop", ASKING, "follower"):
                airflow.wait_for_dag(dag_id)
            # While nothing runs: with SQLite, Airflow cannot make a backfill beside tasks that are at work.
            first, last = f"{BACKFILLED[0]}T00:00:00Z", f"{BACKFILLED[-1]}T23:59:59Z"
            airflow.backfill("retrain_shop", first, last, max_active_runs=2)
            for dag_id in ("retrain_shop", ASKING, "follower"):
                airflow.unpause(dag_id)
            yield Scene(project, airflow)


def test_a_task_whose_pool_does_not_exist_says_so(scene: Scene) -> None:
    airflow = scene.airflow
    wait_until(lambda: len(airflow.runs("retrain_shop")) == 6, "the night begins", LONG_S)
    [night] = [it["dag_run_id"] for it in airflow.runs("retrain_shop") if it["run_type"] == "scheduled"]
    scene.waits(f"retrain_shop {night}", "preprocess_ranks", "scheduled")
    reasons = airflow.blocked_by("retrain_shop", night, "preprocess_ranks")
    assert "Tasks using non-existent pool 'gpus' will not be scheduled" in reasons
    airflow.make_pool("gpus", 1)


def test_a_backfill_beside_a_night_leaves_the_champion_to_the_night(scene: Scene) -> None:
    airflow, night = scene.airflow, newest_night()
    wait_until(lambda: sum("version" in scene.kept("shop", day) for day in BACKFILLED) >= 2, "two days", LONG_S)
    (scene.project.python.parent / "go").touch()

    def all_over() -> bool:
        return [it["state"] for it in airflow.runs("retrain_shop")] == ["success"] * 6

    wait_until(all_over, "the night and five backfilled days are over", LONG_S)
    assert [it["day"] for it in scene.champions("shop")] == [night]
    nights: dict[str, Any] = {day: json.loads(scene.kept("shop", day)) for day in [*BACKFILLED, night]}
    assert {it["decision"] for it in nights.values()} == {"promote"}
    assert sorted(it["version"] for it in nights.values()) == [1, 2, 3, 4, 5, 6]
    assert {day: it["promote"] for day, it in nights.items()} == dict.fromkeys(BACKFILLED, "never") | {night: "auto"}
    # In the middle of it: days were backfilled before and after.
    assert 3 <= nights[night]["version"] <= 5
    # One slot, one training.
    assert not (scene.project.python.parent / "two_at_once").exists()


def test_a_person_approves_rejects_or_is_silent(scene: Scene) -> None:
    airflow = scene.airflow
    approved, rejected, silent = (
        airflow.trigger(ASKING, f"{day}T02:00:00Z", day=day) for day in ("2026-11-03", "2026-11-05", "2026-11-07")
    )
    for run_id, option in ((approved, "Approve"), (rejected, "Reject")):
        scene.is_asked(run_id)
        question = airflow.question(ASKING, run_id, "approve")
        assert question["subject"].startswith("Shall the model asking of 2026-11-0")
        assert question["body"] == "**Better** on {{ ti }}."
        airflow.answer(ASKING, run_id, "approve", option)
    for run_id, registered in ((approved, "success"), (rejected, "skipped"), (silent, "skipped")):
        scene.waits(f"{ASKING} {run_id}", "publish", "success")
        assert scene.state(f"{ASKING} {run_id}", "approve") == "success"
        assert scene.state(f"{ASKING} {run_id}", "register") == registered
    [champion] = scene.champions("asking")
    assert champion["day"] == "2026-11-03"
    assert f"{ASKING} manual__" in champion["who"]
    assert ", approved by " in champion["who"]
    wait_until(lambda: len(airflow.runs("follower")) >= 1, "a DAG that follows the vectors runs", 60)

    # Who was late is asked once more; but nobody is asked about a model with the figures of another.
    airflow.clear(ASKING, silent, "approve")
    scene.is_asked(silent)
    airflow.answer(ASKING, silent, "approve", "Approve")
    scene.waits(f"{ASKING} {silent}", "register", "success")
    scene.project.behave(summary="**Worse**", keeps=True)
    airflow.clear(ASKING, rejected, "approve")
    scene.waits(f"{ASKING} {rejected}", "approve", "failed")
