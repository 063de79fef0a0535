from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import services
from tests.experiments.server import running_server


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all: MLflow takes seconds to make a new one."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(scope="session")
def server_uri(tracking_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server over the same database, which passes files on to a folder of its own."""
    port = services.free_port()
    with running_server(port, tracking_uri, tmp_path_factory.mktemp("served")):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def files(tmp_path: Path) -> str:
    """Where an experiment keeps its files."""
    return str(tmp_path / "files")
