"""MLflow's server in a process of its own, quick to start again.

`mlflow server` spends up to 20 s of two cores on imports. Here a process that has them forks for each server.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo import services

_FORKS = multiprocessing.get_context("forkserver")


def serve(port: int, store_uri: str, files: str) -> None:
    """Serve until killed; runs in the new process."""
    os.environ |= {
        "_MLFLOW_SERVER_FILE_STORE": store_uri,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": files,
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    }
    from mlflow.server import app
    from werkzeug.serving import run_simple

    run_simple("127.0.0.1", port, app, threaded=True)


@contextmanager
def running_server(port: int, store_uri: str, files: Path) -> Iterator[None]:
    _FORKS.set_forkserver_preload(["mlflow.server", "mlflow.store.tracking.sqlalchemy_store"])
    process = _FORKS.Process(target=serve, args=(port, store_uri, str(files)), daemon=True)
    process.start()
    try:
        deadline = time.monotonic() + 120
        while not services.answers(f"http://127.0.0.1:{port}/health")():
            assert process.is_alive(), f"MLflow's server ended with {process.exitcode}"
            assert time.monotonic() < deadline, "MLflow's server was not ready within 120 s"
            time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.join()
