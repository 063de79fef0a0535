"""New databases of MLflow for tests: it takes seconds to make one, and none to copy one that it has made."""

import tempfile
from functools import cache
from pathlib import Path


def new_database(folder: Path) -> str:
    """Put MLflow's empty database into a folder; give its address."""
    path = folder / "mlflow.db"
    path.write_bytes(_empty())
    return f"sqlite:///{path}"


@cache
def _empty() -> bytes:
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory(prefix="embft-mlflow-") as folder:
        path = Path(folder) / "mlflow.db"
        MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
        return path.read_bytes()
