"""A whole Airflow, for what only a scheduler and a triggerer show."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from demo.airflow_api import AirflowApi
from demo.services import answers, free_port, service
from tests.airflow.process import airflow_environment

PATIENCE_S = 120


class Standalone(AirflowApi):
    """An Airflow of its own; where a DAG has one task and one run, they need no names."""

    def __init__(self, url: str, home: Path, environment: Mapping[str, str]) -> None:
        super().__init__(url)
        self.home = home
        self.environment = environment

    def task(self, dag_id: str) -> dict[str, Any]:
        """The task of the DAG's run; {} before there is one."""
        runs = self.runs(dag_id)
        tasks = self.tasks(dag_id, runs[0]["dag_run_id"]) if runs else []
        return tasks[0] if tasks else {}

    def clear(self, dag_id: str, run_id: str, task: str) -> None:
        """Clear a task with all that follows it."""
        body = {"dag_run_id": run_id, "task_ids": [task], "include_downstream": True}
        self._call(
            "POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", {**body, "dry_run": False, "only_failed": False}
        )

    def trigger(self, dag_id: str, logical_date: str, **conf: Any) -> str:
        body = {"logical_date": logical_date, "conf": conf}
        return str(self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def question(self, dag_id: str, run_id: str, task: str) -> dict[str, Any]:
        return self._call("GET", _question(dag_id, run_id, task))

    def answer(self, dag_id: str, run_id: str, task: str, option: str) -> None:
        self._call("PATCH", _question(dag_id, run_id, task), {"chosen_options": [option], "params_input": {}})

    def make_pool(self, name: str, slots: int) -> None:
        self._call("POST", "/api/v2/pools", {"name": name, "slots": slots})

    def blocked_by(self, dag_id: str, run_id: str, task: str) -> str:
        run = quote(run_id, safe="")
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run}/taskInstances/{task}/dependencies"
        return " ".join(it["reason"] for it in self._call("GET", path)["dependencies"])

    def mark_failed(self, dag_id: str) -> None:
        task = self.task(dag_id)
        run = quote(task["dag_run_id"], safe="")
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run}/taskInstances/{task['task_id']}"
        self._call("PATCH", path, {"new_state": "failed"})

    def make_connection(self, name: str, **facts: Any) -> None:
        self._call("POST", "/api/v2/connections", {"connection_id": name, **facts})

    def log(self, dag_id: str, run_id: str, task: str, number: int) -> str:
        """What a try of a task wrote into its log."""
        run = quote(run_id, safe="")
        answer = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run}/taskInstances/{task}/logs/{number}")
        return "\n".join(str(it.get("event", it)) for it in answer["content"])

    def kill_worker(self, dag_id: str, task: str | None = None) -> None:
        """Kill the task's process and the executor's that watches it, as when their machine is gone."""
        run = self.runs(dag_id)[0]["dag_run_id"]
        named = [it["id"] for it in self.tasks(dag_id, run) if task in (None, it["task_id"])]
        self._kill(named[0])

    @contextmanager
    def new_triggerer(self) -> Iterator[None]:
        """Kill the triggerer, and run another until the block ends."""
        self._kill("triggerer")
        log = self.home / "triggerer.log"
        command = [str(Path(sys.executable).parent / "airflow"), "triggerer"]
        with service(command, log, lambda: log.exists() and log.stat().st_size > 0, env=self.environment):
            yield

    def _kill(self, word: str) -> None:
        mine = [pid for pid in _processes(self.home) if word in _read(pid, "cmdline")]
        assert mine, f"no process of {self.home} is called {word}"
        for pid in mine:
            os.kill(pid, signal.SIGKILL)


@contextmanager
def standalone(home: Path, environment: Mapping[str, str], dags: Path) -> Iterator[Standalone]:
    """Run `airflow standalone` until the block ends."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {
        **airflow_environment(home, dags),
        **environment,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        # Five processes write to it at once; each waits for the others' locks.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=60",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "5",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        # A dead worker is missed after minutes; a test has seconds.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "5",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
    }
    command = [str(Path(sys.executable).parent / "airflow"), "standalone"]
    ready = answers(f"{url}/api/v2/monitor/health")
    with service(command, home / "standalone.log", ready, env=settings, timeout_s=180):
        yield Standalone(url, home, settings)


def wait_until(true: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    until = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > until:
            raise AssertionError(f"not within {patience_s} s: {what}")
        time.sleep(0.5)


def _question(dag_id: str, run_id: str, task: str) -> str:
    return f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task}/-1/hitlDetails"


def _processes(home: Path) -> list[int]:
    """The processes of this Airflow: one session, of which some have written over their environment."""
    named = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    sessions = {_session(pid) for pid in named if f"AIRFLOW_HOME={home}\0" in _read(pid, "environ")} - {None}
    return [pid for pid in named if _session(pid) in sessions]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _read(pid: int, name: str) -> str:
    try:
        return (Path("/proc") / str(pid) / name).read_text(errors="replace")
    except OSError:
        return ""
