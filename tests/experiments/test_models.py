from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import tensor

from embft import StaticEmbeddingsModel, load_model
from embft.errors import ConfigError, DataRejected
from embft.experiments.manager import ExperimentsManager
from embft.experiments.weights import saved
from tests.experiments.trainings import ALL_FILES, TextModel, kept_files, params, runs_of


@pytest.fixture
def manager(tracking_uri: str, files: str, request: pytest.FixtureRequest) -> ExperimentsManager:
    return ExperimentsManager(tracking_uri, request.node.name, artifact_location=files)


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def digest(model: TextModel) -> str:
    with saved(model) as files:
        return files.digest


def test_the_initial_model_is_uploaded_once_by_any_manager(
    manager: ExperimentsManager, tracking_uri: str, experiment: str, tmp_path: Path
) -> None:
    run_id = manager.upload_initial_model(TextModel("base"))
    assert manager.upload_initial_model(TextModel("base")) == run_id
    assert ExperimentsManager(tracking_uri, experiment).upload_initial_model(TextModel("base")) == run_id
    [run] = runs_of(tracking_uri, experiment)
    assert run.info.status == "FINISHED"
    assert kept_files(tracking_uri, run) == ALL_FILES
    assert (manager.download_initial_model(tmp_path) / "weights.txt").read_text() == "base"


def test_other_weights_are_another_initial_model_and_the_last_one_is_fetched(
    manager: ExperimentsManager, tmp_path: Path
) -> None:
    first, second = (manager.upload_initial_model(TextModel(text)) for text in ("base", "newer base"))
    assert first != second
    assert (manager.download_initial_model(tmp_path) / "weights.txt").read_text() == "newer base"
    assert (manager.download_model(first, tmp_path) / "weights.txt").read_text() == "base"


@pytest.mark.parametrize("status", ["KILLED", "RUNNING"])
def test_an_upload_that_was_killed_half_way_is_not_taken_for_done(
    status: str,
    manager: ExperimentsManager,
    tracking_uri: str,
    experiment: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    opened = manager._mlflow.files

    class Killed:
        def __init__(self, location: str) -> None:
            self.location = location

        def log_artifacts(self, folder: str, path: str) -> None:
            opened(self.location).log_artifact(f"{folder}/weights.txt", path)
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(manager._mlflow, "files", Killed)
        with pytest.raises(KeyboardInterrupt):
            manager.upload_initial_model(TextModel("base"))
    [half] = runs_of(tracking_uri, experiment)
    assert half.info.status == "KILLED"
    # SIGKILL leaves no time to say so.
    MlflowClient(tracking_uri=tracking_uri).update_run(half.info.run_id, status=status)

    with pytest.raises(ConfigError, match="has no initial model; call `upload_initial_model"):
        manager.download_initial_model(tmp_path)
    with pytest.raises(ConfigError, match=r"keeps no weights .embft.weights is uploading"):
        manager.download_model(half.info.run_id, tmp_path)
    done = manager.upload_initial_model(TextModel("base"))
    assert done != half.info.run_id
    assert (manager.download_initial_model(tmp_path) / "weights.txt").read_text() == "base"


def test_an_initial_model_is_part_of_no_iteration_and_leaves_the_present_run_alone(
    manager: ExperimentsManager, tracking_uri: str, experiment: str
) -> None:
    with manager.iteration("2026-11-24"), manager.run("night"):
        present = manager.run_id
        initial = manager.upload_initial_model(TextModel("base"))
        assert manager.run_id == present
        manager.log_metric("val_loss", 0.5, 1)
    runs = {run.info.run_id: run for run in runs_of(tracking_uri, experiment)}
    assert runs[present].data.metrics == {"val_loss": 0.5}
    assert "embft.iteration" not in runs[initial].data.tags
    assert runs[initial].data.tags["embft.initial_model"] == digest(TextModel("base"))


def test_changed_files_are_not_handed_out(
    manager: ExperimentsManager, tracking_uri: str, experiment: str, tmp_path: Path
) -> None:
    run_id = manager.upload_initial_model(TextModel("base"))
    [run] = runs_of(tracking_uri, experiment)
    kept = Path(urlsplit(run.info.artifact_uri).path) / "weights" / "weights.txt"
    kept.write_text("tampered")
    with pytest.raises(DataRejected, match="was uploaded"):
        manager.download_model(run_id, tmp_path)
    kept.unlink()
    with pytest.raises(DataRejected, match="was uploaded"):
        manager.download_model(run_id, tmp_path)
    shutil.rmtree(kept.parent)
    with pytest.raises(DataRejected, match="was uploaded"):
        manager.download_model(run_id, tmp_path)


def test_a_run_without_a_model_or_that_is_none_is_refused(manager: ExperimentsManager, tmp_path: Path) -> None:
    with manager.run("plain"):
        pass
    with pytest.raises(ConfigError, match=r"keeps no weights .embft.weights is not set"):
        manager.download_model(manager.run_id, tmp_path)
    with pytest.raises(ConfigError, match="cannot find the run"):
        manager.download_model("0" * 32, tmp_path)


def test_fetched_twice_into_one_folder_are_two_models(manager: ExperimentsManager, tmp_path: Path) -> None:
    run_id = manager.upload_initial_model(TextModel("base"))
    assert manager.download_model(run_id, tmp_path) != manager.download_model(run_id, tmp_path)


def test_the_digest_is_of_names_and_contents() -> None:
    class Renamed(TextModel):
        def save(self, folder: str | Path) -> None:
            super().save(folder)
            (Path(folder) / "weights.txt").rename(Path(folder) / "other.txt")

    assert digest(TextModel("base")) == digest(TextModel("base"))
    assert len({digest(TextModel("base")), digest(TextModel("base2")), digest(Renamed("base"))}) == 3


def test_a_fetched_model_gives_the_vectors_of_the_trained_one(manager: ExperimentsManager, tmp_path: Path) -> None:
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "red": 1, "shoe": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    model = StaticEmbeddingsModel(tokenizer, tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]))
    with manager.iteration("2026-11-24"):
        done = manager.run_once(params(0.01), lambda: (model, 0.5))
    again = load_model(manager.download_model(done.run_id, tmp_path))
    assert isinstance(again, StaticEmbeddingsModel)
    assert again.embedding.weight.equal(model.embedding.weight)
    assert json.loads(again.tokenizer.to_str()) == json.loads(tokenizer.to_str())
