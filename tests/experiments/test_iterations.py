from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from embft.errors import ConfigError, DataRejected
from embft.experiments.iterations import order
from embft.experiments.manager import ExperimentsManager
from embft.finetuning.params import FineTuningParams
from tests.experiments.trainings import ALL_FILES, TextModel, Training, kept_files, params, runs_of, train_all


@pytest.fixture
def manager(tracking_uri: str, files: str, request: pytest.FixtureRequest) -> ExperimentsManager:
    """A manager of an experiment that only this test has."""
    return ExperimentsManager(tracking_uri, request.node.name, artifact_location=files)


def test_the_same_params_are_trained_once_by_any_manager(
    manager: ExperimentsManager, tracking_uri: str, request: pytest.FixtureRequest
) -> None:
    training = Training(0.5)
    with manager.iteration("2026-11-24"):
        first = manager.run_once(params(0.01), training)
        assert manager.run_once(params(0.01), training) == first
    other = ExperimentsManager(tracking_uri, request.node.name)
    with other.iteration("2026-11-24"):
        assert other.run_once(params(0.01), training) == first
    assert training.count == 1


def test_a_run_holds_its_iteration_params_measures_and_quality(
    manager: ExperimentsManager, tracking_uri: str, request: pytest.FixtureRequest
) -> None:
    def train() -> tuple[TextModel, float]:
        for step, loss in enumerate([0.9, 0.4, 0.6]):
            manager.log_metric("val_loss", loss, step)
        return TextModel("weights"), 0.4

    with manager.iteration("2026-11-24"):
        done = manager.run_once(params(0.01), train, name="my run", tags={"day": "2026-11-24"})
    assert (done.quality, done.has_model, done.params_id) == (0.4, True, params(0.01).id)
    assert FineTuningParams(**done.params) == params(0.01)
    [run] = runs_of(tracking_uri, request.node.name)
    assert (run.info.run_id, run.info.run_name, run.info.status) == (done.run_id, "my run", "FINISHED")
    assert run.data.tags["day"] == run.data.tags["embft.iteration"] == "2026-11-24"
    assert run.data.params["items_lr"] == "0.01"
    assert run.data.params["params_id"] == params(0.01).id
    # The last value of the measure is not the quality: that has a name of its own.
    assert run.data.metrics == {"val_loss": 0.6, "best_val_loss": 0.4}


def test_another_iteration_trains_the_same_params_again(manager: ExperimentsManager) -> None:
    training = Training(0.5)
    for iteration in ("2026-11-23", "2026-11-24", "2026-11-23"):
        with manager.iteration(iteration):
            manager.run_once(params(0.01), training)
    assert training.count == 2


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("no"), "FAILED"), (MemoryError(), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_a_training_that_breaks_is_raised_and_trained_again(
    error: BaseException,
    status: str,
    manager: ExperimentsManager,
    tracking_uri: str,
    request: pytest.FixtureRequest,
) -> None:
    with manager.iteration("2026-11-24"):
        with pytest.raises(type(error)):
            manager.run_once(params(0.01), Training(error))
        assert manager.best_run() is None
        again = Training(0.5)
        assert manager.run_once(params(0.01), again).quality == 0.5
    assert again.count == 1
    assert [run.info.status for run in runs_of(tracking_uri, request.node.name)] == [status, "FINISHED"]


@pytest.mark.parametrize("quality", [math.nan, math.inf, -math.inf])
def test_a_quality_that_is_no_number_fails_the_run_and_is_written_nowhere(
    quality: float, manager: ExperimentsManager, tracking_uri: str, request: pytest.FixtureRequest
) -> None:
    with manager.iteration("2026-11-24"):
        with pytest.raises(DataRejected, match=f"best_val_loss of run .* is {quality}"):
            manager.run_once(params(0.01), Training(quality))
        assert manager.best_run() is None
    [run] = runs_of(tracking_uri, request.node.name)
    assert run.info.status == "FAILED"
    assert run.data.metrics == {}
    assert kept_files(tracking_uri, run) == set()


@pytest.mark.parametrize(
    ("status", "quality"), [("RUNNING", 0.1), ("FAILED", 0.1), ("KILLED", 0.1), ("FINISHED", None)]
)
def test_a_run_that_is_not_finished_or_has_no_quality_does_not_count(
    status: str, quality: float | None, manager: ExperimentsManager, tracking_uri: str
) -> None:
    content = {"embft.params_id": params(0.01).id, "embft.params": json.dumps(params(0.01).model_dump(mode="json"))}
    with manager.iteration("2026-11-24"), manager.run("left over", tags=content):
        pass
    client = MlflowClient(tracking_uri=tracking_uri)
    if quality is not None:
        client.log_metric(manager.run_id, "best_val_loss", quality)
    client.update_run(manager.run_id, status=status)
    with manager.iteration("2026-11-24"):
        assert manager.best_run() is None
        assert manager.run_once(params(0.01), Training(0.5)).quality == 0.5


@pytest.mark.parametrize("store", ["folder", "S3", "server"])
def test_only_the_model_of_the_best_run_is_kept(
    store: str,
    tracking_uri: str,
    files: str,
    server_uri: str,
    s3: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    uri = server_uri if store == "server" else tracking_uri
    location = {"folder": files, "S3": "s3://shop/mlflow", "server": None}[store]
    manager = ExperimentsManager(uri, request.node.name, artifact_location=location)
    with manager.iteration("2026-11-24"):
        for items_lr, quality in {0.01: 0.5, 0.02: 0.3, 0.03: 0.4}.items():
            manager.run_once(params(items_lr), Training(quality, f"weights {quality}"))
        best = manager.best_run()
    assert best is not None
    assert (best.params["items_lr"], best.quality, best.has_model) == (0.02, 0.3, True)
    runs = {run.data.params["items_lr"]: run for run in runs_of(uri, request.node.name)}
    kept = {items_lr: kept_files(uri, run) for items_lr, run in runs.items()}
    assert kept == {"0.01": set(), "0.02": ALL_FILES, "0.03": set()}
    assert "embft.weights" not in runs["0.03"].data.tags  # a worse one is not uploaded at all
    folder = manager.download_model(best.run_id, tmp_path / "model")
    assert (folder / "weights.txt").read_text() == "weights 0.3"
    assert (folder / "1_Normalize" / "config.json").read_text() == "{}"


def test_a_higher_quality_can_be_the_better_one(tracking_uri: str, files: str) -> None:
    manager = ExperimentsManager(
        tracking_uri, "higher", artifact_location=files, quality="ndcg at 10", lower_is_better=False
    )
    train_all(manager, "1", {0.01: 0.5, 0.02: 0.7, 0.03: 0.6})
    with manager.iteration("1"):
        best = manager.best_run()
    assert best is not None
    assert (best.quality, best.has_model) == (0.7, True)
    with manager.iteration("2"):
        assert [it["items_lr"] for it in manager.top_params(2)] == [0.02, 0.03]


def test_of_equals_the_first_stays_the_best(manager: ExperimentsManager) -> None:
    with manager.iteration("2026-11-24"):
        first = manager.run_once(params(0.02), Training(0.5, "first"))
        second = manager.run_once(params(0.01), Training(0.5, "second"))
        assert manager.best_run() == first
    assert (first.has_model, second.has_model) == (True, False)


def test_a_better_model_that_cannot_be_saved_leaves_the_earlier_best(
    manager: ExperimentsManager, tmp_path: Path
) -> None:
    class Unsavable(TextModel):
        def save(self, folder: str | Path) -> None:
            raise RuntimeError("disk full")

    with manager.iteration("2026-11-24"):
        first = manager.run_once(params(0.01), Training(0.5, "first"))
        with pytest.raises(RuntimeError, match="disk full"):
            manager.run_once(params(0.02), lambda: (Unsavable("x"), 0.1))
        assert manager.best_run() == first
    assert (manager.download_model(first.run_id, tmp_path) / "weights.txt").read_text() == "first"


@pytest.mark.parametrize("state", ["uploading", "removing", "kept"])
def test_files_that_a_broken_run_left_go_with_the_next_training(
    state: str, manager: ExperimentsManager, tracking_uri: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    client = MlflowClient(tracking_uri=tracking_uri)
    (tmp_path / "half").write_text("half")

    def broken_night() -> None:
        with manager.run("broken"):
            manager.set_tag("embft.weights", state)
            client.log_artifact(manager.run_id, str(tmp_path / "half"), "weights")
            raise ValueError

    with manager.iteration("2026-11-24"):
        with pytest.raises(ValueError):  # noqa: PT011
            broken_night()
        manager.run_once(params(0.01), Training(0.5))
    kept = [kept_files(tracking_uri, run) for run in runs_of(tracking_uri, request.node.name)]
    assert kept == [set(), ALL_FILES]


def test_top_params_are_those_of_the_best_runs_of_the_previous_iteration(manager: ExperimentsManager) -> None:
    train_all(manager, "2026-11-22", {0.09: 0.01})
    train_all(manager, "2026-11-23", {0.01: 0.5, 0.02: 0.3, 0.03: 0.4})
    with manager.iteration("2026-11-24"):
        manager.run_once(params(0.08), Training(0.02))
        assert [it["items_lr"] for it in manager.top_params(2)] == [0.02, 0.03]
        assert [it["items_lr"] for it in manager.top_params(10)] == [0.02, 0.03, 0.01]
        assert manager.top_params(0) == []
        assert [FineTuningParams(**it) for it in manager.top_params(1)] == [params(0.02)]


def test_there_are_no_top_params_before_the_second_iteration(manager: ExperimentsManager) -> None:
    with manager.iteration("2026-11-24"):
        assert manager.top_params(3) == []
        manager.run_once(params(0.01), Training(0.5))
        assert manager.top_params(3) == []


def test_top_params_name_the_same_params_once(manager: ExperimentsManager, tracking_uri: str) -> None:
    train_all(manager, "2026-11-23", {0.01: 0.5, 0.02: 0.4})
    # Two machines at once may train the same parameters: both have found no finished run.
    content = {"embft.params_id": params(0.01).id, "embft.params": json.dumps(params(0.01).model_dump(mode="json"))}
    with manager.iteration("2026-11-23"), manager.run("twin", tags=content):
        pass
    MlflowClient(tracking_uri=tracking_uri).log_metric(manager.run_id, "best_val_loss", 0.3)
    with manager.iteration("2026-11-24"):
        assert [it["items_lr"] for it in manager.top_params(2)] == [0.01, 0.02]


def test_a_backfill_of_an_old_day_is_not_the_previous_iteration(manager: ExperimentsManager) -> None:
    train_all(manager, "2026-11-22", {0.01: 0.5})
    train_all(manager, "2026-11-23", {0.02: 0.5})
    train_all(manager, "2026-10-01", {0.03: 0.1})
    with manager.iteration("2026-11-24"):
        assert [it["items_lr"] for it in manager.top_params(3)] == [0.02]
    with manager.iteration("2026-11-22"):
        assert [it["items_lr"] for it in manager.top_params(3)] == [0.03]


def test_an_iteration_in_which_all_failed_is_passed_over(manager: ExperimentsManager) -> None:
    train_all(manager, "2026-11-22", {0.01: 0.5})
    with manager.iteration("2026-11-23"), pytest.raises(ValueError, match="no"):
        manager.run_once(params(0.02), Training(ValueError("no")))
    with manager.iteration("2026-11-24"):
        assert [it["items_lr"] for it in manager.top_params(3)] == [0.01]


def test_iterations_are_in_the_order_of_their_names_with_digits_as_numbers() -> None:
    names = ["2025-12-31", "2026-01-01", "2026-01-10", "search 9", "search 9b", "search 10"]
    assert sorted(reversed(names), key=order) == names


@pytest.mark.parametrize("name", ["", " x", "it's", 'a"b', "a`b", "%", "é", "x" * 251])
def test_a_name_that_mlflow_cannot_search_for_is_refused(name: str) -> None:
    with (
        pytest.raises(ConfigError, match=r"iteration .* must be 1 to 250"),
        ExperimentsManager("sqlite://", "none").iteration(name),
    ):
        pytest.fail("the iteration must not begin")


@pytest.mark.parametrize(
    "ask",
    [
        lambda manager: manager.best_run(),
        lambda manager: manager.top_params(1),
        lambda manager: manager.run_once(params(0.01), Training(0.5)),
    ],
)
def test_without_an_iteration_nothing_is_asked(ask: Any) -> None:
    with pytest.raises(ConfigError, match="no iteration is open"):
        ask(ExperimentsManager("sqlite://", "none"))


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ConfigError, match="count is -1"):
        ExperimentsManager("sqlite://", "none").top_params(-1)


def test_only_runs_begun_within_an_iteration_belong_to_it(
    manager: ExperimentsManager, tracking_uri: str, request: pytest.FixtureRequest
) -> None:
    with manager.iteration("outer"):
        with manager.iteration("inner"), manager.run("a"):
            pass
        with manager.run("b"):
            pass
    with manager.run("c"):
        pass
    found = {
        run.info.run_name: run.data.tags.get("embft.iteration") for run in runs_of(tracking_uri, request.node.name)
    }
    assert found == {"a": "inner", "b": "outer", "c": None}


def test_a_quality_that_mlflow_cannot_name_is_refused_before_any_training() -> None:
    with pytest.raises(ConfigError, match="would be called 'best_ndcg@10' in MLflow"):
        ExperimentsManager("sqlite://", "none", quality="ndcg@10")


def test_no_measure_takes_the_name_of_the_quality(manager: ExperimentsManager) -> None:
    def train() -> tuple[TextModel, float]:
        manager.log_metric("best_val_loss", 0.0, 1)
        return TextModel("x"), 0.5

    with manager.iteration("2026-11-24"):
        with pytest.raises(ConfigError, match="'best_val_loss' is what a run is judged by"):
            manager.run_once(params(0.01), train)
        assert manager.best_run() is None
    with pytest.raises(ConfigError, match="'best_val_loss' is what a run is judged by"):
        manager.log_to(manager.run_id, {"best_val_loss": 0.0})


class LongParams:
    id = "long"

    def __init__(self, length: int) -> None:
        self.length = length

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        return {"layers": "x" * self.length}


def test_params_that_mlflow_cuts_come_back_whole(manager: ExperimentsManager, tracking_uri: str) -> None:
    with manager.iteration("2026-11-24"):
        done = manager.run_once(LongParams(7000), Training(0.5))
    assert done.params == {"layers": "x" * 7000}
    assert len(MlflowClient(tracking_uri=tracking_uri).get_run(done.run_id).data.params["layers"]) == 6000


def test_params_too_long_to_be_read_back_are_refused_before_training(manager: ExperimentsManager) -> None:
    training = Training(0.5)
    with manager.iteration("2026-11-24"), pytest.raises(ConfigError, match=r"8014 characters .* MLflow keeps 8000"):
        manager.run_once(LongParams(8000), training)
    assert training.count == 0
