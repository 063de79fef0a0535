"""The trials of a search in MLflow: shared without a lock, gone on with after a kill, and none of them twice."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from embft.errors import DataRejected, TemporaryError
from embft.experiments.connection import Connection
from embft.experiments.manager import ExperimentsManager
from embft.experiments.trials import TrialRun, Trials, best_of, close, remove_old_weights
from tests.experiments.trainings import ALL_FILES, TextModel, kept_files, params, runs_of

SEARCH = "2026-11-24 abc"


class Killed(BaseException):
    """Stands for SIGKILL: the block's own ends are not reached."""


@pytest.fixture
def manager(tracking_uri: str, files: str, request: pytest.FixtureRequest) -> Iterator[ExperimentsManager]:
    manager = ExperimentsManager(tracking_uri, request.node.name, artifact_location=files)
    with manager.iteration(SEARCH):
        yield manager


def as_worker(manager: ExperimentsManager, name: str, *, takes_over: bool = False) -> Trials:
    return Trials(manager, SEARCH, name, takes_over=takes_over)


def claimed(trials: Trials, items_lr: float, limit: int = 9) -> TrialRun:
    found = trials.claim(params(items_lr), "config", limit)
    assert found is not None
    return found


def train(trials: Trials, trial: TrialRun, quality: float, folder: Path) -> str:
    TextModel(f"weights {quality}").save(folder)
    with trials.training(trial, "a trial", {}, {"items_lr": trial.params["items_lr"]}) as run_id:
        trials.finish(quality, 2.0, folder, keep=True)
    trials.tidy()
    return run_id


def kill_while_training(trials: Trials, trial: TrialRun, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("embft.experiments.connection.Connection._end_broken", lambda *_: None)
        with pytest.raises(Killed), trials.training(trial, "a trial", {}, {}):
            raise Killed


def test_workers_that_propose_the_same_at_once_train_each_trial_once_and_keep_the_budget(
    tracking_uri: str, files: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    budget, start = 5, threading.Barrier(2)

    def work(name: str) -> int:
        manager, trained = ExperimentsManager(tracking_uri, request.node.name, artifact_location=files), 0
        with manager.iteration(SEARCH), manager.patient():
            trials = as_worker(manager, name)
            trials.runs()
            start.wait(30)
            while len(trials.runs()) < budget:
                taken = {it.params["items_lr"] for it in trials.runs()}
                proposed = next(it for it in (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07) if it not in taken)
                if trial := trials.claim(params(proposed), "sampler", budget):
                    train(trials, trial, proposed, tmp_path / name / str(trained))
                    trained += 1
        return trained

    with ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(work, ("one", "two")))
    manager = ExperimentsManager(tracking_uri, request.node.name)
    runs = as_worker(manager, "look").runs()
    assert sum(counts) == len(runs) == len({it.params_id for it in runs}) == budget
    assert {it.state for it in runs} == {"finished"}
    assert [it.quality for it in runs if it.has_model] == [0.01]
    kept = [kept_files(tracking_uri, it) for it in runs_of(tracking_uri, request.node.name)]
    assert sorted(kept, key=len) == [set()] * (budget - 1) + [ALL_FILES]


def test_a_killed_trial_is_gone_on_with_by_its_worker_and_by_who_takes_over_in_the_same_run(
    manager: ExperimentsManager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = as_worker(manager, "one")
    trial = claimed(one, 0.01)
    kill_while_training(one, trial, monkeypatch)
    assert as_worker(manager, "two").unfinished() is None
    assert as_worker(manager, "two").claim(params(0.01), "config", 9) is None  # not doubled
    for again in (as_worker(manager, "one"), as_worker(manager, "fine_tune", takes_over=True)):
        found = again.unfinished()
        assert found is not None
        assert (found.run_id, found.params, found.came_from) == (trial.run_id, trial.params, "config")
    assert train(again, found, 0.3, tmp_path / "m") == trial.run_id
    (ended,) = again.runs()
    assert (ended.state, ended.quality, ended.seconds, ended.worker) == ("finished", 0.3, 2.0, "fine_tune")


@pytest.mark.parametrize("dies_after", ["proposal", "weights", "quality", "tag"])
def test_wherever_it_is_killed_the_trial_ends_once(
    dies_after: str,
    manager: ExperimentsManager,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tracking_uri: str,
    request: pytest.FixtureRequest,
) -> None:
    trials = as_worker(manager, "one")
    where = {
        "proposal": "embft.experiments.trials.Trials.runs",
        "weights": "embft.experiments.trials.Trials._conclude",
        "quality": "embft.experiments.connection.Connection.log",
        "tag": "embft.experiments.connection.Connection.end",
    }[dies_after]

    def die(*_: object, **__: object) -> None:
        raise Killed

    def live_and_die(patch: pytest.MonkeyPatch) -> None:
        if dies_after == "proposal":
            patch.setattr(where, die)
        trial = claimed(trials, 0.01)
        patch.setattr(where, die)
        train(trials, trial, 0.3, tmp_path / "first")

    with monkeypatch.context() as patch:
        patch.setattr("embft.experiments.connection.Connection._end_broken", lambda *_: None)
        with pytest.raises(Killed):
            live_and_die(patch)
    again = as_worker(manager, "one")
    again.tidy()
    found = again.unfinished()
    if dies_after == "tag":
        assert found is None
    else:
        train(again, found or claimed(again, 0.01), 0.3, tmp_path / "second")
    (ended,) = again.runs()
    assert (ended.state, ended.quality, ended.has_model) == ("finished", 0.3, True)
    (run,) = runs_of(tracking_uri, request.node.name)
    assert run.info.status == "FINISHED"
    assert kept_files(tracking_uri, run) == ALL_FILES


def test_a_run_that_mlflow_made_though_its_answer_was_lost_costs_no_trial_of_the_budget(
    manager: ExperimentsManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, answers = MlflowClient.create_run, [MlflowException("away", TEMPORARILY_UNAVAILABLE), None]

    def create_and_answer(self: MlflowClient, *args: Any, **kwargs: Any) -> Any:
        made = create(self, *args, **kwargs)
        if lost := answers.pop(0):
            raise lost
        return made

    monkeypatch.setattr(MlflowClient, "create_run", create_and_answer)
    trials = as_worker(manager, "one")
    trial = claimed(trials, 0.01, limit=1)
    assert (answers, [it.run_id for it in trials.runs()]) == ([], [trial.run_id])


def test_workers_that_step_back_again_and_again_wait_longer_each_time(
    manager: ExperimentsManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("embft.experiments.trials.random.uniform", lambda least, most: most)
    monkeypatch.setattr("embft.experiments.trials.time.sleep", waits.append)
    claimed(as_worker(manager, "one"), 0.01)
    two = as_worker(manager, "two")
    assert [two.claim(params(0.01), "config", 9) for _ in range(3)] == [None] * 3
    claimed(two, 0.02)
    assert two.claim(params(0.03), "config", 2) is None
    assert waits == [0.5, 1, 2, 0.5]


def test_a_trial_that_is_over_though_its_run_could_not_be_ended_is_one_of_the_best_settings_of_the_night(
    manager: ExperimentsManager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    end, trials = Connection.end, as_worker(manager, "one")

    def end_later(self: Connection, run_id: str, status: str) -> None:
        if status == "FINISHED":
            raise TemporaryError("away")
        end(self, run_id, status)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "end", end_later)
        with pytest.raises(TemporaryError):
            train(trials, claimed(trials, 0.01), 0.5, tmp_path / "m")
    assert trials.unfinished() is None
    trials.tidy()
    with manager.iteration("2026-11-25 def"):
        assert [it["items_lr"] for it in manager.top_params(5)] == [0.01]


def test_failed_and_pruned_trials_count_are_never_best_and_never_tried_again(
    manager: ExperimentsManager, tmp_path: Path
) -> None:
    trials = as_worker(manager, "one")
    train(trials, claimed(trials, 0.01), 0.5, tmp_path / "1")
    failing, hopeless = claimed(trials, 0.02), claimed(trials, 0.03)
    with pytest.raises(DataRejected), trials.training(failing, "x", {}, {}):
        raise DataRejected("the training loss became nan")
    with trials.training(hopeless, "x", {}, {}):
        manager.log_metric("val_loss", 0.1, 7)
        manager.log_metric("val_loss", 0.2, 3)
        trials.prune(1.5)
    with pytest.raises(DataRejected, match="no finite number"), trials.training(claimed(trials, 0.04), "x", {}, {}):
        trials.finish(float("nan"), 1.0, tmp_path, keep=True)
    runs = trials.runs()
    assert [it.state for it in runs] == ["finished", "failed", "pruned", "failed"]
    assert runs[1].why == "the training loss became nan"
    assert trials.curve(runs[2]) == ((3, 0.2), (7, 0.1))
    assert best_of(runs) == runs[0]
    assert trials.unfinished() is None
    assert all(trials.claim(params(it), "sampler", 9) is None for it in (0.02, 0.03))
    assert trials.claim(params(0.05), "sampler", 4) is None  # the budget counts them all

    with manager.iteration("2026-11-25 def"):
        assert [it["items_lr"] for it in manager.top_params(5, before="2026-11-25")] == [0.01]
        assert manager.top_params(5, before="2026-11-24") == []

    remove_old_weights(manager, datetime.now(UTC) - timedelta(hours=1))
    assert best_of(trials.runs()) == runs[0]
    assert runs[0].has_model
    close(manager, runs[0].run_id, "s3://the/result.json")
    closed = trials.runs()[0]
    assert (closed.result, closed.has_model, closed.quality) == ("s3://the/result.json", False, 0.5)


def test_weights_of_a_search_that_was_given_up_go_at_last(
    manager: ExperimentsManager, tmp_path: Path, tracking_uri: str, request: pytest.FixtureRequest
) -> None:
    trials = as_worker(manager, "one")
    train(trials, claimed(trials, 0.01), 0.5, tmp_path / "1")
    remove_old_weights(manager, datetime.now(UTC) + timedelta(hours=1))
    (run,) = runs_of(tracking_uri, request.node.name)
    assert kept_files(tracking_uri, run) == set()


def test_a_database_that_is_locked_in_the_middle_is_waited_for(
    manager: ExperimentsManager, tracking_uri: str, tmp_path: Path
) -> None:
    trials = as_worker(manager, "one")
    trials.runs()
    rival = sqlite3.connect(tracking_uri.removeprefix("sqlite:///"), check_same_thread=False)
    rival.execute("BEGIN EXCLUSIVE")
    threading.Timer(2, rival.rollback).start()
    with manager.patient():
        train(trials, claimed(trials, 0.01), 0.5, tmp_path / "m")
    rival.close()
    assert [it.state for it in trials.runs()] == ["finished"]


def test_a_run_that_somebody_deleted_is_replaced(
    manager: ExperimentsManager, tracking_uri: str, tmp_path: Path
) -> None:
    trials = as_worker(manager, "one")
    trial = claimed(trials, 0.01)
    MlflowClient(tracking_uri=tracking_uri).delete_run(trial.run_id)
    run_id = train(trials, trial, 0.5, tmp_path / "m")
    assert run_id != trial.run_id
    assert [(it.run_id, it.params, it.state) for it in trials.runs()] == [(run_id, trial.params, "finished")]
