"""Real parts for every test: an S3 server, a project folder of its own, no environment left over."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from demo import services

# Set before anything imports MLflow, Great Expectations or a model hub: tests reach nothing but this machine.
os.environ.update(
    {"GX_ANALYTICS_ENABLED": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
)
# Tests that run side by side have a core each: threads that wait for each other would take many times as long.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Shared machines are slow at times: no example has a deadline. In CI the same examples come each time, so that a change
# is judged by what it changed; at a desk new ones are tried, and those that fail become tests of their own.
# A function's fixture serves all its examples: each writes its own file anew.
_EVERYWHERE = {
    "deadline": None,
    "max_examples": 60,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}
settings.register_profile("desk", **_EVERYWHERE)
settings.register_profile("ci", derandomize=True, **_EVERYWHERE)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Endpoint of a real S3 server, and the folder it keeps its buckets in."""
    folder = tmp_path_factory.mktemp("s3")
    (folder / "shop").mkdir()
    with services.s3_server(folder, services.free_port(), folder.parent / "s3.log") as endpoint:
        yield endpoint, folder


@pytest.fixture
def s3(s3_endpoint: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> str:
    """Endpoint of the S3 server, with the environment that reaches it."""
    endpoint, _ = s3_endpoint
    for name, value in services.s3_environment(endpoint).items():
        monkeypatch.setenv(name, value)
    return endpoint
