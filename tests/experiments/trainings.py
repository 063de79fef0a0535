"""Trainings that take no time, and a look into what MLflow keeps of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from embft.experiments.manager import ExperimentsManager
from embft.finetuning.params import FineTuningParams


class TextModel:
    """A model of two files."""

    def __init__(self, text: str) -> None:
        self.text = text

    def save(self, folder: str | Path) -> None:
        inner = Path(folder) / "1_Normalize"
        inner.mkdir(parents=True, exist_ok=True)
        (Path(folder) / "weights.txt").write_text(self.text)
        (inner / "config.json").write_text("{}")


class Training:
    """Gives a model and a quality, or raises; counts how often it ran."""

    def __init__(self, quality: float | BaseException, text: str = "weights") -> None:
        self.quality = quality
        self.text = text
        self.count = 0

    def __call__(self) -> tuple[TextModel, float]:
        self.count += 1
        if isinstance(self.quality, BaseException):
            raise self.quality
        return TextModel(self.text), self.quality


def params(items_lr: float) -> FineTuningParams:
    return FineTuningParams(items_lr=items_lr)


def train_all(manager: ExperimentsManager, iteration: str, qualities: dict[float, float]) -> None:
    """Run a training for each learning rate → quality."""
    with manager.iteration(iteration):
        for items_lr, quality in qualities.items():
            manager.run_once(params(items_lr), Training(quality))


def runs_of(uri: str, experiment: str) -> list[Run]:
    """All runs of an experiment, the earliest begun first."""
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id], order_by=["attributes.start_time ASC"]))


def kept_files(uri: str, run: Any) -> set[str]:
    """Names of the files that a run has in MLflow's store."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    files = get_artifact_repository(run.info.artifact_uri, tracking_uri=uri)
    waiting, found = [""], set()
    while waiting:
        for entry in files.list_artifacts(waiting.pop() or None):
            waiting.append(entry.path) if entry.is_dir else found.add(entry.path)
    return found


ALL_FILES = {"weights/weights.txt", "weights/1_Normalize/config.json"}
