"""`fine_tune` in several processes: one result, one MLflow run, whoever helped. On the CPU, for want of two GPUs."""

import os
import subprocess
import sys
from datetime import timedelta

import pytest
from mlflow import MlflowClient

from embft.config import STAGES
from embft.errors import TemporaryError
from embft.finetuning import devices, processes, sharing
from embft.paths import Paths
from tests.buckets import new_bucket
from tests.mlflow_database import new_database
from tests.pipeline.conftest import Project
from tests.shop import NIGHT, make_shop


@pytest.fixture(scope="module")
def shop(module_environment: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A shop whose night has come to the training, which was done once, by one process."""
    home = tmp_path_factory.mktemp("tiny")
    bucket = new_bucket(module_environment)
    project = Project(make_shop(home, bucket, module_environment, new_database(home)), bucket, "tiny")
    for name in STAGES[: STAGES.index("fine_tune")]:
        for back in range(5) if name == "pull" else [None]:
            options = {} if back is None else {"log_day": NIGHT - timedelta(days=back)}
            project.stage(name, NIGHT, **options)
    project.stage("fine_tune", NIGHT)
    return project


@pytest.fixture
def two_devices(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two devices, as far as the stage can tell; they are CPUs to the training."""
    layout = devices.Layout("cpu", 2, processes.Place())
    monkeypatch.setattr(devices, "check_devices", lambda settings: layout)
    monkeypatch.setattr(processes, "_GRACE_S", 1e6)  # else a follower that fails would end pytest itself
    monkeypatch.setattr(sharing, "_TIMEOUT", timedelta(minutes=2))
    monkeypatch.setenv("EMBFT_INCLUDE", str(shop.include))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def attempts(shop: Project) -> set[str]:
    prefix = Paths.attempt(shop.paths.stage(NIGHT, "fine_tune"), "")
    return {it.uri.removeprefix(prefix).split("/")[0] for it in shop.storage.objects(prefix)}


def runs(shop: Project) -> list[str]:
    client = MlflowClient(tracking_uri=f"sqlite:///{shop.include.parent}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    return [it.info.status for it in client.search_runs([experiment.experiment_id])]


@pytest.mark.usefixtures("two_devices")
def test_two_processes_come_to_one_result_which_is_that_of_one(shop: Project) -> None:
    alone = shop.stage("fine_tune", NIGHT)
    assert alone.reused
    together = shop.stage("fine_tune", NIGHT, force=True)
    assert not together.reused
    for name in ("start_val_loss", "best_val_loss", "best_step", "steps", "train_sessions"):
        assert together.figures[name] == pytest.approx(alone.figures[name], rel=1e-5)
    assert attempts(shop) == {alone.attempt, together.attempt}
    assert runs(shop) == ["FINISHED", "FINISHED"]
    assert shop.stage("fine_tune", NIGHT).attempt == together.attempt


@pytest.mark.usefixtures("two_devices")
def test_a_follower_that_reads_other_data_ends_the_night_before_it_learns_from_both(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = attempts(shop)
    # In this process alone, as if the follower read the results of a `preprocess_ranks` that ran in between.
    setup = sharing.SameEverywhere.setup
    monkeypatch.setattr(sharing.SameEverywhere, "setup", lambda self, *rest, stage: setup(_other(self), *rest, stage))
    with pytest.raises(TemporaryError, match=r"process 1 of 2 .* ended with exit code 75"):
        shop.stage("fine_tune", NIGHT, force=True)
    assert attempts(shop) == before
    assert runs(shop).count("KILLED") == 1  # a retry may go on with it


@pytest.mark.faults
@pytest.mark.usefixtures("two_devices")
def test_each_trial_of_a_search_has_followers_and_goes_as_on_one_device(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = shop.include / "models" / "tiny.yaml"
    before = config.read_text()
    search = "training:\n  search: {trials: 2, ranges: {margin: {choices: [0.0, 0.2]}}}\n"
    config.write_text(before.replace("training:\n", search))
    try:
        shop.stage("plan", NIGHT)
        together = shop.stage("fine_tune", NIGHT)
        with monkeypatch.context() as patch:
            patch.setattr(devices, "check_devices", lambda settings: devices.Layout("cpu", 1, processes.Place()))
            alone = shop.stage("fine_tune", NIGHT, force=True)
    finally:
        config.write_text(before)
        shop.stage("plan", NIGHT)
    for name in ("start_val_loss", "best_val_loss", "best_step", "steps"):
        assert together.figures[name] == pytest.approx(alone.figures[name], rel=1e-5)
    assert together.figures["search"]["trials"] == alone.figures["search"]["trials"] == 2
    assert together.figures["search"]["best"] == alone.figures["search"]["best"]


def _other(callback: sharing.SameEverywhere) -> sharing.SameEverywhere:
    callback._digest = "of other data"
    return callback


def test_a_follower_that_finds_the_work_done_says_nothing(shop: Project) -> None:
    shop.stage("fine_tune", NIGHT)
    started = {"TORCHELASTIC_RUN_ID": "1", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    command = ["-m", "embft", "fine-tune", "--model", "tiny", "--day", NIGHT.isoformat(), "--json"]
    environment = os.environ | {"EMBFT_INCLUDE": str(shop.include)} | started
    ended = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
