"""Trainings that are stopped, shot, doubled: the night's model is that of an undisturbed training."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from mlflow import MlflowClient
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from typer.testing import CliRunner

from embft import StaticEmbeddingsModel
from embft.cli import app
from embft.config import STAGES
from embft.errors import StorageUnavailable
from embft.results import StageResult
from tests.buckets import new_bucket
from tests.mlflow_database import new_database
from tests.pipeline.conftest import Project
from tests.shop import ITEMS, NIGHT, WORDS, make_shop

pytestmark = pytest.mark.faults

# A checkpoint at every step slows a training of milliseconds down enough to be hit in its middle.
EVERY_STEP = "  checkpoint_minutes: 0.000001\n"
SETTINGS = "num_epochs: 8, batch_size: 16}}\n  params: {{items_lr: 1.0e-3}}\n  base_model: {model}"
STEPS = 112


def small_model() -> StaticEmbeddingsModel:
    """A vector for each of the shop's words: its checkpoints are small."""
    words = sorted({word for text in [*ITEMS.values(), *WORDS.values()] for word in text.split()})
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(["?", *words])}, unk_token="?"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    chance = torch.Generator().manual_seed(0)
    return StaticEmbeddingsModel(tokenizer, torch.randn(len(words) + 1, 16, generator=chance))


@pytest.fixture(scope="module")
def shop(module_environment: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A shop whose night has come to `fine_tune`."""
    home = tmp_path_factory.mktemp("tiny")
    bucket = new_bucket(module_environment)
    include = make_shop(home, bucket, module_environment, new_database(home))
    config = include / "models" / "tiny.yaml"
    small_model().save(home / "model")
    settings = SETTINGS.format(model=home / "model")
    config.write_text(config.read_text().replace("num_epochs: 3}", settings) + EVERY_STEP)
    project = Project(include, bucket, "tiny")
    for name in STAGES[: STAGES.index("fine_tune")]:
        if name == "pull":
            for number in range(5):
                project.stage("pull", NIGHT, log_day=date(2026, 3, 1 + number))
        else:
            project.stage(name, NIGHT)
    return project


@pytest.fixture(scope="module")
def undisturbed(shop: Project) -> StageResult:
    return shop.stage("fine_tune", NIGHT)


def start(shop: Project, *options: str, command: str = "fine-tune") -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "embft", command, "--model", "tiny", "--day", NIGHT.isoformat(), "--json", *options],
        env={**os.environ, "EMBFT_INCLUDE": str(shop.include)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def checkpoints(shop: Project) -> list[str]:
    return [it.uri for it in shop.storage.objects(shop.paths.checkpoints(NIGHT, "fine_tune"))]


def start_until_checkpoint(shop: Project, after_steps: int) -> "subprocess.Popen[str]":
    """A forced training that has kept a checkpoint of so many steps or more."""
    return until_checkpoint(shop, start(shop, "--force"), after_steps)


def until_checkpoint(shop: Project, process: "subprocess.Popen[str]", after_steps: int) -> "subprocess.Popen[str]":
    deadline = time.monotonic() + 90
    while not any(steps_of(uri) >= after_steps for uri in checkpoints(shop)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def steps_of(uri: str) -> int:
    return int(uri.rpartition("/")[2].partition("-")[0])


def weights(result: StageResult) -> dict[str, str]:
    return {name: it.sha256 for name, it in result.outputs.items() if name.startswith("model/")}


def mlflow_runs(shop: Project) -> dict[str, Any]:
    client = MlflowClient(tracking_uri=f"sqlite:///{shop.include.parent}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    return {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}


def test_an_undisturbed_training_leaves_no_checkpoint(shop: Project, undisturbed: StageResult) -> None:
    assert undisturbed.figures["steps"] == STEPS
    assert undisturbed.figures["resumed_at_steps"] == []
    assert checkpoints(shop) == []


def test_told_to_stop_it_exits_75_and_the_next_process_ends_with_the_same_model(
    shop: Project, undisturbed: StageResult
) -> None:
    before = mlflow_runs(shop)
    told = start_until_checkpoint(shop, 10)
    told.send_signal(signal.SIGTERM)
    out, errors = told.communicate(timeout=60)
    assert told.returncode == 75, errors
    assert out == ""
    assert "Traceback" not in errors
    stopped_at = max(map(steps_of, checkpoints(shop)))
    assert f"error: training was told to stop (SIGTERM) after {stopped_at} steps; they are kept" in errors
    assert len(checkpoints(shop)) == 2
    (begun,) = mlflow_runs(shop).keys() - before.keys()
    assert mlflow_runs(shop)[begun].info.status == "KILLED"

    again = start(shop, "--force")
    out, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    result = StageResult.from_json(out.encode(), "printed")
    assert result.figures["resumed_at_steps"] == [stopped_at]
    assert result.figures["steps"] == STEPS
    assert weights(result) == weights(undisturbed)
    assert checkpoints(shop) == []
    # One training is one run in MLflow, however often it was interrupted.
    assert result.figures["mlflow_run_id"] == begun
    after = mlflow_runs(shop)
    assert after.keys() - before.keys() == {begun}
    assert after[begun].info.status == "FINISHED"


def test_shot_outright_with_its_newest_checkpoint_spoilt_it_goes_on_from_the_one_before(
    shop: Project, undisturbed: StageResult, caplog: pytest.LogCaptureFixture
) -> None:
    shot = start_until_checkpoint(shop, 20)
    shot.kill()
    shot.communicate(timeout=60)
    older, newest = sorted(checkpoints(shop))[-2:]
    shop.storage.write(newest, b"half a checkpoint")
    result = shop.stage("fine_tune", NIGHT, force=True)
    assert "a checkpoint cannot be used, so training goes on from the one before it" in caplog.text
    assert result.figures["resumed_at_steps"] == [steps_of(older)]
    assert weights(result) == weights(undisturbed)
    assert checkpoints(shop) == []


def test_two_pods_that_train_the_same_at_once_leave_one_whole_result(
    shop: Project, undisturbed: StageResult, tmp_path: Path
) -> None:
    first = start_until_checkpoint(shop, 5)
    second = start(shop, "--force")
    printed = [json.loads(it.communicate(timeout=200)[0]) for it in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0]
    standing = shop.stage("fine_tune", NIGHT)
    assert standing.reused
    assert standing.attempt in {it["attempt"] for it in printed}
    assert weights(standing) == weights(undisturbed)
    for number, artifact in enumerate(standing.outputs.values()):
        shop.storage.fetch(artifact, tmp_path / str(number))  # checks the digest
    assert checkpoints(shop) == []


def test_checkpoints_of_other_settings_are_not_gone_on_with(shop: Project, undisturbed: StageResult) -> None:
    shot = start_until_checkpoint(shop, 5)
    shot.kill()
    shot.communicate(timeout=60)
    config = shop.include / "models" / "tiny.yaml"
    before = config.read_text()
    config.write_text(before.replace("num_epochs: 8", "num_epochs: 2"))
    shop.stage("plan", NIGHT)
    try:
        other = shop.stage("fine_tune", NIGHT)
    finally:
        config.write_text(before)
        shop.stage("plan", NIGHT)
    assert other.figures["resumed_at_steps"] == []
    assert other.figures["steps"] == STEPS / 4
    assert checkpoints(shop) == []


def test_a_night_that_dies_after_its_training_does_not_train_all_of_it_again(
    shop: Project, undisturbed: StageResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise StorageUnavailable("S3 is away")

    before = mlflow_runs(shop)
    with monkeypatch.context() as patch:
        patch.setattr("embft.stages.fine_tune._outcome", die)
        with pytest.raises(StorageUnavailable):
            shop.stage("fine_tune", NIGHT, force=True)
    again = shop.stage("fine_tune", NIGHT, force=True)
    (resumed_at,) = again.figures["resumed_at_steps"]
    assert resumed_at >= STEPS - 2
    assert weights(again) == weights(undisturbed)
    # One training is one run, a new one or one of the same training that a kill had left under way.
    touched = {
        id_ for id_, run in mlflow_runs(shop).items() if id_ not in before or run.info.status != before[id_].info.status
    }
    assert touched == {again.figures["mlflow_run_id"]}
    assert checkpoints(shop) == []


SEARCH = "training:\n  search: {trials: 4, earlier: 0, ranges: {margin: {low: 0.0, high: 0.3}}}\n"


def test_a_search_that_is_shot_and_told_to_stop_goes_on_where_it_was_with_no_trial_lost_or_doubled(
    shop: Project,
) -> None:
    config = shop.include / "models" / "tiny.yaml"
    before = config.read_text()
    config.write_text(before.replace("training:\n", SEARCH))
    try:
        shop.stage("plan", NIGHT)
        alone = shop.stage("fine_tune", NIGHT)
        known = mlflow_runs(shop).keys()

        shot = start_until_checkpoint(shop, 20)
        shot.kill()
        shot.communicate(timeout=60)
        (first,) = mlflow_runs(shop).keys() - known
        assert mlflow_runs(shop)[first].info.status == "RUNNING"

        deadline = time.monotonic() + 90
        told = start(shop, "--force")
        while len(mlflow_runs(shop).keys() - known) < 2:  # until the second trial
            assert told.poll() is None, told.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        told.send_signal(signal.SIGTERM)
        _, errors = told.communicate(timeout=60)
        assert told.returncode == 75, errors

        result = shop.stage("fine_tune", NIGHT, force=True)
    finally:
        config.write_text(before)
    trained = trials_of(shop, result)
    assert len(mlflow_runs(shop).keys() - known) == len(trained) == 4
    assert trained[0]["mlflow_run_id"] == first
    same = ("params", "state", "quality", "curve", "from")
    assert [[it[name] for name in same] for it in trained] == [
        [it[name] for name in same] for it in trials_of(shop, alone)
    ]
    assert weights(result) == weights(alone)
    assert checkpoints(shop) == []


def trials_of(shop: Project, result: StageResult) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads(shop.storage.read(result.outputs["trials.json"].uri) or b"")
    return content


SHARED_TRIALS = 3
SHARED_SEARCH = f"""\
  search:
    trials: {SHARED_TRIALS}
    trials_in_parallel: 2
    pruner: none
    ranges: {{items_lr: {{low: 0.0005, high: 0.005, log: true}}}}
"""


@pytest.fixture
def searching(shop: Project, undisturbed: StageResult) -> Iterator[None]:
    """The night has come to its search, which several workers share."""
    config = shop.include / "models" / "tiny.yaml"
    before = config.read_text()
    config.write_text(before.replace("  base_model:", f"{SHARED_SEARCH}  base_model:"))
    shop.stage("plan", NIGHT)
    yield
    config.write_text(before)
    shop.stage("plan", NIGHT)


def search(shop: Project, *options: str) -> Result:
    """The command in this process: a new one would first import for many seconds."""
    command = ["search", "--model", "tiny", "--day", NIGHT.isoformat(), *options]
    return CliRunner(env={"EMBFT_INCLUDE": str(shop.include)}).invoke(app, command)


def work(shop: Project, worker: int, *options: str) -> dict[str, Any]:
    done = search(shop, "--worker", str(worker), "--json", *options)
    assert done.exit_code == 0, done.output
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def test_fine_tune_goes_on_with_the_trial_of_a_worker_that_died_and_no_trial_is_doubled(
    shop: Project, searching: None
) -> None:
    before = mlflow_runs(shop)

    def trials() -> dict[str, Any]:
        return {id_: run for id_, run in mlflow_runs(shop).items() if id_ not in before}

    shot = until_checkpoint(shop, start(shop, "--worker", "1", command="search"), 20)
    shot.kill()
    shot.communicate(timeout=60)
    config = shop.include / "models" / "tiny.yaml"
    config.write_text(config.read_text().replace(EVERY_STEP, ""))  # the others are not hit
    shop.stage("plan", NIGHT)
    ((left, run),) = trials().items()
    assert (run.data.tags["embft.trial"], run.info.status) == ("claimed", "RUNNING")

    first = work(shop, 0)
    assert len(first["trained"]) == SHARED_TRIALS - 1, (
        "the trial of the dead worker is of the budget, and is left to it"
    )
    assert left not in {it["mlflow_run_id"] for it in first["trained"]}
    assert (first["worker"], first["is_over"], first["search"]["trials"]) == (0, False, SHARED_TRIALS)
    assert work(shop, 2)["trained"] == [], "who comes late finds nothing to do"

    result, found = shop.stage("fine_tune", NIGHT), trials()
    assert len(found) == len({it.data.tags["embft.params_id"] for it in found.values()}) == SHARED_TRIALS
    assert {(it.data.tags["embft.trial"], it.info.status) for it in found.values()} == {("finished", "FINISHED")}
    assert result.figures["search"]["trials"] == SHARED_TRIALS
    # It trained what was left, and nothing else.
    workers = {id_: it.data.tags["embft.worker"] for id_, it in found.items()}
    assert workers == {id_: "fine_tune" if id_ == left else "search 0" for id_ in found}
    assert checkpoints(shop) == []

    cleared = work(shop, 0)
    assert (cleared["is_over"], cleared["trained"], cleared["search"]) == (True, [], None)
    assert "fine-tune has its result: nothing was left to train." in search(shop, "--worker", "0").stdout
    assert trials().keys() == found.keys()

    # Forced, as the whole run is then: new trials, of which the forced fine_tune takes the best.
    forced = {it["mlflow_run_id"] for it in work(shop, 0, "--force")["trained"]}
    assert len(forced) == SHARED_TRIALS
    assert shop.stage("fine_tune", NIGHT, force=True).figures["mlflow_run_id"] in forced
    assert trials().keys() == found.keys() | forced


def test_a_night_without_a_search_has_no_workers(shop: Project) -> None:
    done = search(shop, "--worker", "0")
    assert done.exit_code == 2
    assert "has no training.search; `embft fine-tune` alone trains it" in done.stderr
