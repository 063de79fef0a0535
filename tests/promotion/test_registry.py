"""What registering leaves in MLflow: a version that serves, and a training run as it was."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from sentence_transformers import SentenceTransformer

from embft import ExperimentsManager, SentenceTransformerModel, load_model
from embft.errors import ConfigError
from embft.promotion.registry import Registry, _taking_queries
from tests.finetuning.tiny_models import tiny_bert

DAY = date(2026, 11, 24)
TAGS = {"embft.digest": "digest", "embft.day": "2026-11-24"}


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all: MLflow takes seconds to make a new one."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def registry(uri: str, request: pytest.FixtureRequest) -> Registry:
    """A registered model that only this test has."""
    return Registry(uri, request.node.name)


@pytest.fixture
def run_id(uri: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A training that has ended."""
    manager = ExperimentsManager(uri, request.node.name, artifact_location=str(tmp_path / "files"))
    with manager.run("night", params={"items_lr": 0.01}):
        pass
    return manager.run_id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = SentenceTransformerModel(tiny_bert(tmp_path / "bert", prompts={"query": "query: "}))
    model.save(tmp_path / "model")
    return tmp_path / "model"


def test_a_version_serves_queries_and_leaves_the_run_as_it_was(
    registry: Registry, uri: str, run_id: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "sqlite:////nowhere/other.db")
    client = MlflowClient(uri, uri)
    before = client.get_run(run_id).info
    made_of = registry.log(folder, run_id)
    version = registry.make(made_of, run_id, TAGS).number
    assert registry.make(made_of, run_id, {}).number == "2"
    assert [it.number for it in registry.find("digest", DAY)] == [version] == ["1"]
    after = client.get_run(run_id).info
    assert (after.status, after.end_time) == ("FINISHED", before.end_time)
    made = client.get_model_version(registry.model, version)
    assert (made.run_id, made.tags) == (run_id, TAGS)
    logged = client.get_logged_model(made.source.removeprefix("models:/"))
    assert (logged.source_run_id, logged.experiment_id, logged.status) == (run_id, after.experiment_id, "READY")
    assert logged.params == {"items_lr": "0.01"}
    assert logged.artifact_location.startswith(str(folder.parent / "files"))
    monkeypatch.delenv("MLFLOW_REGISTRY_URI")
    served = mlflow.pyfunc.load_model(f"models:/{made.name}/{version}").predict(["red hat"])
    np.testing.assert_allclose(served, load_model(folder).encode_queries(["red hat"]), atol=1e-5)


def test_a_store_of_files_that_fails_leaves_the_run_finished(
    registry: Registry, uri: str, run_id: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("the store of files is away")

    monkeypatch.setattr("mlflow.sentence_transformers.save_model", away)
    with pytest.raises(ConnectionError, match="is away"):
        registry.log(folder, run_id)
    assert MlflowClient(uri).get_run(run_id).info.status == "FINISHED"
    assert registry.find("digest", DAY) == []
    assert mlflow.active_run() is None


def test_a_static_model_is_registered(registry: Registry, uri: str, run_id: str, tmp_path: Path) -> None:
    load_model("wordllama").save(tmp_path / "static")
    version = registry.make(registry.log(tmp_path / "static", run_id), run_id, TAGS).number
    assert MlflowClient(uri, uri).get_model_version(registry.model, version).status == "READY"


def test_a_folder_of_pickles_is_not_registered(registry: Registry, folder: Path, run_id: str) -> None:
    weights = folder / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        registry.log(folder, run_id)


@pytest.mark.parametrize(("prompts", "served"), [({"passage": "passage: "}, None), ({"query": "q: "}, "query")])
def test_a_plain_encode_takes_the_prompt_of_queries_or_none(
    prompts: dict[str, str], served: str | None, tmp_path: Path
) -> None:
    theirs = tiny_bert(tmp_path / "bert", prompts=prompts)
    theirs.default_prompt_name = next(iter(prompts))
    SentenceTransformerModel(theirs).save(tmp_path / "model")
    model = _taking_queries(SentenceTransformer(str(tmp_path / "model"), device="cpu"))
    assert model.default_prompt_name == served
    expected = load_model(tmp_path / "model").encode_queries(["red"])
    np.testing.assert_allclose(model.encode(["red"], show_progress_bar=False), expected, atol=1e-5)


def test_a_file_that_the_store_has_no_more_is_told(
    registry: Registry, run_id: str, folder: Path, tmp_path: Path
) -> None:
    version = registry.make(registry.log(folder, run_id), run_id, TAGS)
    (requirements,) = (tmp_path / "files").rglob("requirements.txt")
    requirements.unlink()
    (tmp_path / "fetched").mkdir()
    with pytest.raises(ConfigError, match=r"the files of version 1 of .* are gone; delete that version in MLflow"):
        registry.fetch(version, "requirements.txt", tmp_path / "fetched")
