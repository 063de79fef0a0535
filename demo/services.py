"""The services that the demo, the tests and the benchmarks run against: real ones, on this machine, without a cloud."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

ACCESS_KEY, SECRET_KEY = "embft-demo", "embft-demo-secret"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def s3_environment(endpoint: str) -> dict[str, str]:
    """Give the environment in which boto3 and MLflow reach `s3_server`, and logs are read."""
    return {
        "EMBFT_CLIENT_KEY": "of made-up clients, and so no secret",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        # What MLflow calls the same endpoint.
        "MLFLOW_S3_ENDPOINT_URL": endpoint,
    }


@contextmanager
def s3_server(folder: Path, port: int, log: Path) -> Iterator[str]:
    """Serve a folder as S3; its sub-folders are the buckets."""
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"]
    with service([_rclone(), "serve", "s3", *options, str(folder)], log, port_open(port)):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def file_server(folder: Path, port: int, log: Path) -> Iterator[str]:
    """Serve the same folder to a browser: reports and Data Docs open from here."""
    with service([_rclone(), "serve", "http", "--addr", f"127.0.0.1:{port}", str(folder)], log, port_open(port)):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def service(
    command: Sequence[str],
    log: Path,
    ready: Callable[[], bool],
    *,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 180,
) -> Iterator[None]:
    """Run a command in a process group of its own until the block ends; then stop the whole group."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True, env=env
        )
    try:
        deadline = time.monotonic() + timeout_s
        while not ready():
            if process.poll() is not None:
                raise RuntimeError(f"`{' '.join(command[:3])} …` ended with {process.returncode}; see {log}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"`{' '.join(command[:3])} …` was not ready within {timeout_s:.0f} s; see {log}")
            time.sleep(0.2)
        yield
    finally:
        stop_group(process)


def stop_group(process: "subprocess.Popen[bytes]", patience_s: float = 20) -> None:
    # airflow standalone leaves its children running on SIGTERM; SIGINT to the group ends them all.
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue


def port_open(port: int) -> Callable[[], bool]:
    def is_open() -> bool:
        with socket.socket() as sock:
            sock.settimeout(1)
            return sock.connect_ex(("127.0.0.1", port)) == 0

    return is_open


def answers(url: str) -> Callable[[], bool]:
    def is_up() -> bool:
        try:
            with urlopen(url, timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    return is_up


def _rclone() -> str:
    beside = Path(sys.executable).parent / "rclone"
    return str(beside) if beside.exists() else shutil.which("rclone") or "rclone"
