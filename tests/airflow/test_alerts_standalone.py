"""What a scheduler makes of the task that tells people, and of deadlines: retries, lost workers, late nights.

The stages are played; the command that tells people is the real one, and posts to a real receiver.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.airflow.cluster import moto_s3
from tests.airflow.project import REPO, Project, make_project
from tests.airflow.standalone import Standalone, standalone, wait_until
from tests.monitoring.receivers import WebReceiver, web_receiver

pytestmark = [pytest.mark.airflow, pytest.mark.standalone]

LONG_S = 240
SECRET = "s3cret-in-a-connection"
S3_AWAY = {"exit": 75, "prints": False, "says": ["error: S3 is away"]}
NO_BASE = {"exit": 2, "prints": False, "says": ["error: no such base model"]}
WAITS = {"awaits": "go", "awaits_s": LONG_S}
REALLY = {"tells_by": sys.executable}
OVER = ("success", "failed")


@dataclass(frozen=True)
class Scene:
    """One Airflow; each model is a story of its own."""

    project: Project
    airflow: Standalone
    receiver: WebReceiver

    def arrived(self, model: str) -> list[tuple[str, str]]:
        """Incident and state of each message about a model, in order."""
        return [(it.json["incident"], it.json["state"]) for it in self.receiver.posts if it.json["model"] == model]

    def told(self, model: str, kind: str = "retrain") -> list[dict[str, Any]]:
        """What the command was told of a model's runs, in order; None of a backfill's is left out."""
        return [
            it["run"] for it in self.project.told() if it["model"] == model and (it["run"] or {}).get("kind") == kind
        ]

    def run(self, dag_id: str, kind: str = "") -> dict[str, Any]:
        found = [it for it in self.airflow.runs(dag_id) if it["run_type"].startswith(kind)]
        return found[0] if found else {}

    def waits_for_end(self, dag_id: str, kind: str = "") -> str:
        wait_until(lambda: self.run(dag_id, kind).get("state") in OVER, f"{dag_id} is over", LONG_S)
        return str(self.run(dag_id, kind)["state"])

    def state(self, dag_id: str, task: str) -> str:
        tasks = self.airflow.tasks(dag_id, self.run(dag_id)["dag_run_id"])
        return next(str(it["state"]) for it in tasks if it["task_id"] == task)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("alerts")
    project = make_project(root / "project")
    dags = root / "dags"
    shutil.copytree(REPO / "dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
    runtime = {"python": str(project.python), "retries": 0}
    # No night of its own is due.
    seldom = {"cron": "0 2 1 1 *"}
    channels = {"chat": {"type": "webhook", "connection": "chat"}, "unused": {"type": "slack", "connection": "gone"}}
    project.route(channels, to="chat")
    project.behave(
        **{"shop/fine_tune": [S3_AWAY, S3_AWAY, NO_BASE, {}], "late/fine_tune": WAITS},
        **{"lost/fine_tune": {"sleep_s": LONG_S}, "mute/tell": {"exit": 75, "says": ["error: chat is away"]}},
        tell=REALLY,
    )
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    include = {"EMBFT_INCLUDE": str(project.include)}
    with (
        moto_s3() as s3,
        web_receiver() as receiver,
        standalone(root, {**include, **keys, "FAKE_S3": s3}, dags) as airflow,
    ):
        storage = {"artifacts": "s3://bucket/models", "endpoint_url": s3}
        project.add_model(storage=storage, runtime={**runtime, "retries": 2})
        project.add_model("lost", storage=storage, runtime=runtime, schedule=seldom)
        project.add_model("late", storage=storage, runtime=runtime, alerts={"deadline_hours": 0.004})
        project.add_model("mute", storage=storage, runtime=runtime, schedule=seldom)
        for model in ("shop", "lost", "late", "mute"):
            airflow.wait_for_dag(f"retrain_{model}")
            airflow.wait_for_dag(f"monitor_{model}")
        airflow.make_connection("chat", conn_type="generic", host=receiver.url, password=SECRET)
        # While nothing runs: with SQLite, Airflow cannot make a backfill beside tasks that are at work.
        airflow.backfill("retrain_late", "2026-10-01T00:00:00Z", "2026-10-01T23:59:59Z")
        for dag_id in ("retrain_late", "retrain_lost", "retrain_shop"):
            airflow.unpause(dag_id)
        airflow.trigger("retrain_lost", "2026-11-03T02:00:00Z", day="2026-11-02")
        yield Scene(project, airflow, receiver)


def test_a_worker_that_is_killed_in_mid_stage_ends_in_one_alert(scene: Scene) -> None:
    # First, since Airflow misses it after a while.
    started = scene.project.python.parent / "started"
    wait_until(started.exists, "fine_tune is at work", LONG_S)
    scene.airflow.kill_worker("retrain_lost", "fine_tune")
    assert scene.waits_for_end("retrain_lost") == "failed"
    [facts] = scene.told("lost")
    [failed] = facts["failed"]
    # Nobody was left to say a word.
    assert (failed["task"], failed["tries"], failed["said"]) == ("fine_tune", 1, None)
    assert facts["day"] == "2026-11-02"
    assert scene.arrived("lost") == [("night", "opened")]


def test_a_failure_is_told_once_when_no_retry_is_left_and_its_recovery_when_it_is_cleared(scene: Scene) -> None:
    airflow = scene.airflow
    assert scene.waits_for_end("retrain_shop") == "failed"
    [facts] = scene.told("shop")
    [failed] = facts["failed"]
    assert (failed["task"], failed["tries"], failed["said"]) == ("fine_tune", 3, "no such base model")
    run_id = scene.run("retrain_shop")["dag_run_id"]
    assert facts["run_id"] == run_id
    assert failed["log_url"].endswith("/tasks/fine_tune?try_number=3")
    log = airflow.log("retrain_shop", run_id, "tell", 1)
    assert "Airflow has no connection gone, which include/alerts.yaml names" in log
    assert SECRET not in log
    assert scene.arrived("shop") == [("night", "opened")]
    [message] = [it.json for it in scene.receiver.posts if it.json["model"] == "shop"]
    assert "no such base model" in message["text"]
    assert "fine_tune" in message["text"]

    airflow.clear("retrain_shop", run_id, "fine_tune")
    wait_until(lambda: len(scene.told("shop")) == 2, "told once more", LONG_S)
    assert scene.told("shop")[1]["failed"] == []
    wait_until(lambda: scene.run("retrain_shop")["state"] == "success", "the night recovers", LONG_S)
    assert scene.arrived("shop") == [("night", "opened"), ("night", "recovered")]


def test_a_night_that_is_late_is_told_once_and_a_backfill_never(scene: Scene) -> None:
    wait_until(lambda: len(scene.told("late")) == 1, "the deadline is told", LONG_S)
    [late] = scene.told("late")
    night = scene.run("retrain_late", "scheduled")
    assert late["deadline"]["hours"] == 0.004
    assert late["deadline"]["queued_utc"][:19] == night["queued_at"][:19]
    assert (late["run_id"], late["day"]) == (night["dag_run_id"], night["data_interval_start"][:10])
    assert late["url"].endswith(late["run_id"].replace(":", "%3A").replace("+", "%2B"))
    assert late["failed"] == []
    # Connections reach it too.
    [telling] = [it for it in scene.project.told() if (it["run"] or {}).get("deadline")]
    assert json.loads(telling["connections"]["AIRFLOW_CONN_CHAT"])["password"] == SECRET

    wait_until(lambda: scene.arrived("late") == [("deadline", "opened")], "the deadline arrives", LONG_S)

    (scene.project.python.parent / "go").touch()
    for kind in ("scheduled", "backfill"):
        assert scene.waits_for_end("retrain_late", kind) == "success"
    tellings = [it["run"] for it in scene.project.told() if it["model"] == "late"]
    # The deadline; the end of the night; the backfill, of which nothing is told.
    assert [None if it is None else bool(it["deadline"]) for it in tellings].count(None) == 1
    assert [bool(it["deadline"]) for it in tellings if it] == [True, False]
    assert scene.arrived("late") == [("deadline", "opened"), ("deadline", "recovered")]


def test_a_model_is_monitored_whatever_became_of_its_night_and_a_channel_that_is_down_turns_no_run_red(
    scene: Scene,
) -> None:
    # Nothing was ever trained for it.
    scene.airflow.unpause("monitor_mute")
    assert scene.waits_for_end("monitor_mute") == "success"
    assert scene.state("monitor_mute", "monitor") == "success"
    assert scene.state("monitor_mute", "tell") == "failed"
    assert len(scene.told("mute", "monitor")) == 4
