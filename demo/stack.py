"""The demo's stack on this machine: S3, MLflow and Airflow, all under one folder that `make clean-demo` removes."""

import os
import shlex
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from demo import services

REPOSITORY = Path(__file__).resolve().parent.parent
HOME = REPOSITORY / ".demo"
BUCKET = "embft"


@dataclass(frozen=True)
class Stack:
    """Addresses of what runs."""

    s3: str
    browse: str
    mlflow: str
    airflow: str


@contextmanager
def stack(*, keep_airflow: bool) -> Iterator[Stack]:
    """Start everything, in the order of need; stop it when the block ends.

    `keep_airflow` False forgets Airflow's earlier runs: after a killed demo they would stand in the way. What the
    stages wrote to S3 and MLflow stays.
    """
    # By hand, as a background job starts with Ctrl-C ignored; and so that a kill, too, ends the services.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    ports = {
        name: _port(usual) for name, usual in {"s3": 9000, "browse": 9001, "mlflow": 5000, "airflow": 8080}.items()
    }
    settings = _settings(ports)
    os.environ.update(settings)
    if not keep_airflow:
        shutil.rmtree(settings["AIRFLOW_HOME"], ignore_errors=True)
    (HOME / "s3" / BUCKET).mkdir(parents=True, exist_ok=True)
    # For a person beside `make ui`: `source .demo/env`, and embft finds the demo's services.
    (HOME / "env").write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()))
    logs = HOME / "logs"
    with ExitStack() as running:
        s3 = running.enter_context(services.s3_server(HOME / "s3", ports["s3"], logs / "s3.log"))
        browse = running.enter_context(services.file_server(HOME / "s3", ports["browse"], logs / "browse.log"))
        mlflow = f"http://127.0.0.1:{ports['mlflow']}"
        airflow = f"http://127.0.0.1:{ports['airflow']}"
        running.enter_context(
            services.service(
                _mlflow_command(ports["mlflow"]),
                logs / "mlflow.log",
                services.answers(f"{mlflow}/health"),
            )
        )
        running.enter_context(
            services.service(
                [_beside("airflow"), "standalone"],
                logs / "airflow.log",
                services.answers(f"{airflow}/api/v2/monitor/health"),
                timeout_s=300,
            )
        )
        yield Stack(s3, browse, mlflow, airflow)


def _settings(ports: dict[str, int]) -> dict[str, str]:
    airflow = f"http://127.0.0.1:{ports['airflow']}"
    today = datetime.now(UTC).date()
    return {
        **services.s3_environment(f"http://127.0.0.1:{ports['s3']}"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "EMBFT_INCLUDE": str(REPOSITORY / "include"),
        "EMBFT_BUCKET": BUCKET,
        "EMBFT_BROWSE_URL": f"http://127.0.0.1:{ports['browse']}",
        "EMBFT_MLFLOW_UI": f"http://127.0.0.1:{ports['mlflow']}",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{ports['mlflow']}",
        # The demo's nights lie in the past and are backfilled; nothing else is due before tomorrow. No later than
        # today: a run that a person triggers before a DAG's start has no task, and is a success.
        "EMBFT_DEMO_START_DATE": today.isoformat(),
        "AIRFLOW_HOME": str(HOME / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "3",
        # No login: it listens on this machine alone.
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(ports["airflow"]),
        "AIRFLOW__API__BASE_URL": airflow,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{airflow}/execution/",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # six processes that a tracking server needs not
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
    }


def _mlflow_command(port: int) -> list[str]:
    return [
        _beside("mlflow"),
        "server",
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{HOME / 'mlflow.db'}"),
        *("--default-artifact-root", f"s3://{BUCKET}/mlflow", "--no-serve-artifacts"),
    ]


def _beside(program: str) -> str:
    return str(Path(sys.executable).parent / program)


def _port(usual: int) -> int:
    """The usual port if it is free, else any."""
    with socket.socket() as sock:
        # As servers do: a port whose last connections have just closed is free.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", usual))
        except OSError:
            return services.free_port()
    return usual
