"""MLflow goes away: for a moment, for good, before a run and in the middle of one."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from demo import services
from embft.errors import ConfigError, TemporaryError
from embft.experiments.manager import ExperimentsManager
from tests.experiments.server import running_server
from tests.experiments.trainings import ALL_FILES, TextModel, Training, kept_files, params, runs_of


def test_a_training_survives_a_short_outage_and_one_for_good_is_told_soon(tracking_uri: str, tmp_path: Path) -> None:
    port = services.free_port()
    uri = f"http://127.0.0.1:{port}"
    manager = ExperimentsManager(uri, "outage")
    server, later = ExitStack(), ExitStack()

    def start(stack: ExitStack) -> None:
        stack.enter_context(running_server(port, tracking_uri, tmp_path / "served"))

    def train_through_an_outage() -> tuple[TextModel, float]:
        manager.log_metric("val_loss", 0.5, 1)
        manager.flush()
        server.close()
        threading.Timer(5, start, [later]).start()
        for step in range(2, 1002):  # enough to be sent while the server is away
            manager.log_metric("val_loss", 1 / step, step)
        return TextModel("survivor"), 0.3

    def train_into_the_void() -> tuple[TextModel, float]:
        later.close()
        return TextModel("void"), 0.1

    with server, later, manager.iteration("2026-11-24"):
        start(server)
        began = time.monotonic()
        done = manager.run_once(params(0.01), train_through_an_outage)
        assert time.monotonic() - began > 5
        assert (done.quality, done.has_model) == (0.3, True)
        history = MlflowClient(tracking_uri=tracking_uri).get_metric_history(done.run_id, "val_loss")
        assert sorted(it.step for it in history) == list(range(1, 1002))
        [run] = runs_of(uri, "outage")
        assert kept_files(uri, run) == ALL_FILES

        manager.patience_s = 2
        began = time.monotonic()
        with pytest.raises(TemporaryError, match="is away") as caught:
            manager.run_once(params(0.02), train_into_the_void)
        assert caught.value.exit_code == 75
        assert time.monotonic() - began < 20

    # Its quality is nowhere, and it was not finished: it is trained again.
    lost = runs_of(tracking_uri, "outage")[1]
    assert lost.info.status == "RUNNING"
    assert lost.data.metrics == {}
    with running_server(port, tracking_uri, tmp_path / "served"), manager.iteration("2026-11-24"):
        best = manager.best_run()
        assert best is not None
        assert best.quality == 0.3
        again = Training(0.2)
        assert manager.run_once(params(0.02), again).has_model
        assert again.count == 1


@pytest.mark.parametrize("ask", ["best_run", "top_params", "run_once", "upload", "download"])
def test_mlflow_away_is_never_nothing_found(ask: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("embft.experiments.connection._PATIENCE_S", 0.0)
    manager = ExperimentsManager(f"http://127.0.0.1:{services.free_port()}", "away")
    training = Training(0.5)
    calls = {
        "best_run": lambda: manager.best_run(),
        "top_params": lambda: manager.top_params(1),
        "run_once": lambda: manager.run_once(params(0.01), training),
        "upload": lambda: manager.upload_initial_model(TextModel("base")),
        "download": lambda: manager.download_initial_model(tmp_path),
    }
    with manager.iteration("2026-11-24"), pytest.raises(TemporaryError, match="is away"):
        calls[ask]()
    assert training.count == 0


def test_a_database_that_is_locked_for_a_moment_is_waited_for(tracking_uri: str) -> None:
    manager = ExperimentsManager(tracking_uri, "locked")
    with manager.run("night"):
        rival = sqlite3.connect(tracking_uri.removeprefix("sqlite:///"), check_same_thread=False)
        rival.execute("BEGIN EXCLUSIVE")
        threading.Timer(2, rival.rollback).start()
        manager.log_metric("val_loss", 0.5, 1)
        manager.flush()
    rival.close()
    assert MlflowClient(tracking_uri=tracking_uri).get_run(manager.run_id).data.metrics == {"val_loss": 0.5}


def test_a_lock_that_the_database_does_not_wait_for_is_tried_again(
    tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two writers that both read first: SQLite gives one of them "database is locked" at once, whatever its timeout."""
    manager = ExperimentsManager(tracking_uri, "locked")
    failures = 2

    with manager.run("night"):
        manager.log_metric("val_loss", 0.5, 1)
        send = manager._mlflow._client.log_batch  # type: ignore[union-attr]

        def locked(*args: object, **kwargs: object) -> None:
            nonlocal failures
            if failures:
                failures -= 1
                raise MlflowException("database is locked", error_code=TEMPORARILY_UNAVAILABLE)
            send(*args, **kwargs)

        monkeypatch.setattr(manager._mlflow._client, "log_batch", locked)
    assert failures == 0
    assert MlflowClient(tracking_uri=tracking_uri).get_run(manager.run_id).data.metrics == {"val_loss": 0.5}


def test_measures_that_mlflow_refuses_do_not_leave_the_run_running(tracking_uri: str) -> None:
    manager = ExperimentsManager(tracking_uri, "refused")
    with pytest.raises(ConfigError, match="log measures"), manager.run("night"):
        manager.log_metric("no:such?name*", 0.5, 1)
    assert MlflowClient(tracking_uri=tracking_uri).get_run(manager.run_id).info.status == "FAILED"


def test_a_store_of_files_that_is_away_is_temporary_and_leaves_no_quality(
    tracking_uri: str, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_S3_ENDPOINT_URL")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    manager = ExperimentsManager(
        tracking_uri,
        "files away",
        artifact_location="s3://shop/away",
        s3_endpoint=f"http://127.0.0.1:{services.free_port()}",
        patience_s=0,
    )
    with manager.iteration("2026-11-24"):
        with pytest.raises(TemporaryError, match=r"files of MLflow at s3://shop/away.* are away, cannot keep"):
            manager.run_once(params(0.01), Training(0.5))
        assert manager.best_run() is None
    [run] = runs_of(tracking_uri, "files away")
    # Not failed: the same training may be done later.
    assert (run.info.status, run.data.metrics) == ("KILLED", {})


def test_a_store_of_files_that_refuses_is_for_a_person_to_change(tracking_uri: str, s3: str) -> None:
    manager = ExperimentsManager(tracking_uri, "no bucket", artifact_location="s3://no-such-bucket/x")
    with manager.iteration("2026-11-24"), pytest.raises(ConfigError, match=r"no-such-bucket.* refused to keep"):
        manager.run_once(params(0.01), Training(0.5))
