"""A process that runs nights of the real DAG files by `dag.test()`, with an Airflow home and database of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

from demo.services import stop_group
from tests.airflow.project import REPO

Night = dict[str, Any]
PATIENCE_S = 300


@contextmanager
def airflow_process(
    home: Path, environment: Mapping[str, str], *, stand_in: Path | None = None, dags: Path = REPO / "dags"
) -> Iterator[Callable[[Mapping[str, Any]], Night]]:
    """Start the process; give the call that runs one night in it, as `run_nights.py` describes."""
    script = str(Path(__file__).parent / "run_nights.py")
    command = [sys.executable, script, str(dags), *([str(stand_in)] if stand_in else [])]
    errors = home / "stderr.log"
    with errors.open("wb") as log:
        process = subprocess.Popen(
            command,
            env=airflow_environment(home, dags) | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )

    def run(scenario: Mapping[str, Any]) -> Night:
        assert process.stdin is not None
        assert process.stdout is not None
        limit = Timer(PATIENCE_S, process.kill)
        limit.start()
        try:
            process.stdin.write(json.dumps(scenario) + "\n")
            process.stdin.flush()
            said = []
            for line in process.stdout:
                if line.startswith("NIGHT "):
                    night: Night = json.loads(line.removeprefix("NIGHT "))
                    return night
                said.append(line)
        finally:
            limit.cancel()
        raise AssertionError(
            f"Airflow ended with {process.wait()}:\n{''.join(said)[-4000:]}{errors.read_text()[-4000:]}"
        )

    try:
        yield run
    finally:
        stop_group(process)


def airflow_environment(home: Path, dags: Path = REPO / "dags") -> dict[str, str]:
    """This process's environment, with nothing of another Airflow, project or cloud in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "EMBFT", "AWS"))}
    return kept | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "PYTHONPATH": str(REPO),
    }


def states(night: Night) -> dict[str, str]:
    """Each task's state; a mapped task has one where its instances agree."""
    found: dict[str, set[str]] = {}
    for task, _, state, _ in night["tasks"]:
        found.setdefault(task, set()).add(state)
    return {task: " and ".join(sorted(each)) for task, each in found.items()}
