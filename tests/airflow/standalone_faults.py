"""Runs the faults that need a whole Airflow, all at once, each as the one run of a DAG of its own."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.airflow.cluster import cluster_with_stand_in, moto_s3
from tests.airflow.fault_runs import DAGS, add_model
from tests.airflow.faults import AT, PAUSES
from tests.airflow.project import Project, make_project
from tests.airflow.run_nights import pods
from tests.airflow.standalone import PATIENCE_S, Standalone, standalone, wait_until

# What happens → mode → name of the model that it happens to.
FAULTS = {
    "worker killed (SIGKILL) while the pod runs, task retried": {"sync": "worker-gone"},
    "the same, and the pod has finished when the retry comes": {"sync": "worker-gone-pod-done"},
    "triggerer killed and started again": {"deferrable": "new-triggerer"},
    "task marked failed by hand": {"sync": "marked", "deferrable": "marked-deferred"},
    "DAG run's time limit": {"sync": "limit", "deferrable": "limit-deferred"},
}
RUN_LIMIT_S = 60
_DONE = ("success", "failed", "skipped", "upstream_failed", "removed")


class Scene:
    """One Airflow, one cluster, and the stages in it that stand still at step 7."""

    def __init__(self, project: Project, airflow: Standalone) -> None:
        self.project = project
        self.airflow = airflow

    def state(self, model: str) -> str:
        return str(self.airflow.task(f"retrain_{model}").get("state"))

    def tries(self, model: str) -> int:
        return int(self.airflow.task(f"retrain_{model}").get("try_number", 0))

    def trains(self, model: str) -> None:
        """Wait until the stage stands still in the middle of its training."""
        wait_until(lambda: 7 in self.project.steps(model), f"{model} comes to {AT}")

    def let_go(self, model: str) -> None:
        (self.project.python.parent / f"go.{model}").touch()

    def ends(self, model: str) -> None:
        wait_until(lambda: self.state(model) in _DONE, f"the task of {model} ends")

    def facts(self, model: str) -> dict[str, Any]:
        mine = [it for it in self.events() if it["body"]["metadata"]["labels"]["embft-model"] == model]
        steps = self.project.steps(model)
        return {
            "outcome": self.state(model),
            "tries": self.tries(model),
            "pods": sum(it["event"] == "created" for it in mine),
            "left": sum(1 if it["event"] == "created" else -1 for it in mine),
            "lost": len(steps) - len(set(steps)),
        }

    def events(self) -> list[dict[str, Any]]:
        return pods(self.project.root / "cluster")


def worker_gone(scene: Scene, model: str) -> None:
    scene.trains(model)
    scene.airflow.kill_worker(f"retrain_{model}")
    wait_until(lambda: scene.tries(model) == 2 and scene.state(model) == "running", f"{model} is retried")
    scene.let_go(model)


def worker_gone_pod_done(scene: Scene, model: str) -> None:
    scene.trains(model)
    scene.airflow.kill_worker(f"retrain_{model}")
    scene.let_go(model)


def new_triggerer(scene: Scene, model: str) -> None:
    scene.trains(model)
    wait_until(lambda: scene.state(model) == "deferred", f"{model} is deferred")
    with scene.airflow.new_triggerer():
        scene.let_go(model)
        scene.ends(model)


def marked(scene: Scene, model: str) -> None:
    scene.trains(model)
    scene.airflow.mark_failed(f"retrain_{model}")


def limit(scene: Scene, model: str) -> None:
    scene.trains(model)


ACTS: dict[str, Callable[[Scene, str], None]] = {
    "worker-gone": worker_gone,
    "worker-gone-pod-done": worker_gone_pod_done,
    "marked": marked,
    "marked-deferred": marked,
    "limit": limit,
    "limit-deferred": limit,
}


def play(act: Callable[[Scene, str], None], scene: Scene, model: str) -> None:
    act(scene, model)
    scene.ends(model)
    wait_until(lambda: scene.facts(model)["left"] == 0, f"no pod of {model} is left", 30)


def run_standalone_faults(root: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Run them all; give mode → what happens → what it came to."""
    project = make_project(root / "project")
    names = {model: mode for each in FAULTS.values() for mode, model in each.items()}
    waiting = {**PAUSES, "pause_s": PATIENCE_S}
    project.behave(**{f"{model}/fine_tune": waiting for model in names})
    limits = {f"RUN_LIMIT_{model}": str(RUN_LIMIT_S) for model in names if model.startswith("limit")}
    with moto_s3() as s3:
        for model, mode in names.items():
            add_model(project, model, s3, deferrable=mode == "deferrable")
        with (
            cluster_with_stand_in(project, s3) as environment,
            standalone(root, environment | limits, DAGS) as airflow,
        ):
            scene = Scene(project, airflow)
            for model in names:
                airflow.wait_for_dag(f"retrain_{model}")
                airflow.unpause(f"retrain_{model}")
            with ThreadPoolExecutor(len(ACTS)) as pool:
                list(pool.map(lambda act: play(act[1], scene, act[0]), ACTS.items()))
            # Alone, since it stops every trigger of this Airflow.
            play(new_triggerer, scene, "new-triggerer")
            facts = {model: scene.facts(model) for model in names}
    (root / "facts.json").write_text(json.dumps(facts))
    return {
        mode: {name: facts[each[mode]] for name, each in FAULTS.items() if mode in each}
        for mode in ("sync", "deferrable")
    }
