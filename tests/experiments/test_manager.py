from __future__ import annotations

import os
import socket
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient

from embft.errors import ConfigError, TemporaryError
from embft.experiments.connection import Connection, Measure
from embft.experiments.manager import ExperimentsManager
from embft.experiments.reaching import without_credentials


def _serve(status: int) -> Iterator[str]:
    """A server that answers everything with one status."""

    class Answer(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b'{"error_code": "PERMISSION_DENIED", "message": "no"}')

        do_GET = do_POST = _answer

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_run_holds_tags_params_and_every_step_of_a_measure(tracking_uri: str) -> None:
    manager = ExperimentsManager(tracking_uri, "nights")
    with manager.run("night 1", tags={"day": "2011-10-10"}, params={"items_lr": 0.01, "loss": "listwise_softmax"}):
        for step in range(1200):
            manager.log_metric("val_loss", 1.0 / (step + 1), step)
        manager.set_tag("best_step", "1199")

    client = MlflowClient(tracking_uri=tracking_uri)
    run = client.get_run(manager.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"items_lr": "0.01", "loss": "listwise_softmax"}
    assert run.data.tags["day"] == "2011-10-10"
    assert run.data.tags["best_step"] == "1199"
    history = client.get_metric_history(manager.run_id, "val_loss")
    assert [(metric.step, metric.value) for metric in sorted(history, key=lambda metric: metric.step)] == [
        (step, 1.0 / (step + 1)) for step in range(1200)
    ]


def points(tracking_uri: str, run_id: str) -> list[tuple[int, float]]:
    history = MlflowClient(tracking_uri=tracking_uri).get_metric_history(run_id, "ndcg")
    return [(it.step, it.value) for it in history]


def test_a_series_has_one_run_also_where_two_made_one(tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = ExperimentsManager(tracking_uri, "series")
    noon = datetime(2026, 3, 10, 12, tzinfo=UTC)
    log, others = Connection.log, []

    def log_after_a_rival(self: Connection, run_id: str, measures: Sequence[Measure]) -> None:
        """Whoever's clock is behind has made a run meanwhile that counts as the older one."""
        if not others:
            client = MlflowClient(tracking_uri=tracking_uri)
            tags = {"embft.series": "daily"}
            others.append(client.create_run(str(self.experiment_id), start_time=1, tags=tags).info.run_id)
        log(self, run_id, measures)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "log", log_after_a_rival)
        kept = manager.log_series("daily", {"ndcg": 0.5}, step=1, at=noon)
    assert [kept] == others
    for step in (2, 2, 3):  # the second one twice, as after a kill
        assert manager.log_series("daily", {"ndcg": step / 10}, step=step, at=noon) == kept
    assert points(tracking_uri, kept) == [(1, 0.5), (2, 0.2), (3, 0.3)]
    left = manager._mlflow.search("tags.`embft.series` = 'daily'")
    assert [it.info.run_id for it in left] == [kept]
    with manager.iteration("2026-03-10"):
        assert manager.top_params(3) == []
        assert manager.best_run() is None
    assert manager.log_series("other", {"ndcg": 1.0}, step=1, at=noon) != kept


def test_a_run_whose_params_are_refused_ends_as_failed(tracking_uri: str) -> None:
    manager = ExperimentsManager(tracking_uri, "nights")
    with pytest.raises(ConfigError, match="log parameters"), manager.run("night 1", params={"no:such?name*": 1}):
        pytest.fail("the run must not begin")
    assert MlflowClient(tracking_uri=tracking_uri).get_run(manager.run_id).info.status == "FAILED"


def test_a_run_that_breaks_is_failed_keeps_its_measures_and_the_error_goes_on(tracking_uri: str) -> None:
    manager = ExperimentsManager(tracking_uri, "nights")

    def night() -> None:
        with manager.run("night 2"):
            manager.log_metric("val_loss", 0.5, 1)
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        night()
    run = MlflowClient(tracking_uri=tracking_uri).get_run(manager.run_id)
    assert run.info.status == "FAILED"
    assert run.data.metrics == {"val_loss": 0.5}


def test_runs_of_one_experiment_are_kept_together(tracking_uri: str) -> None:
    ids = []
    for name in ("a", "b"):
        manager = ExperimentsManager(tracking_uri, "together")
        with manager.run(name):
            ids.append(manager.run_id)
    client = MlflowClient(tracking_uri=tracking_uri)
    experiment = client.get_experiment_by_name("together")
    assert experiment is not None
    assert {run.info.run_id for run in client.search_runs([experiment.experiment_id])} == set(ids)


def test_a_run_within_a_run_is_refused(tracking_uri: str) -> None:
    manager = ExperimentsManager(tracking_uri, "nights")
    with manager.run("outer"):
        outer = manager.run_id
        with pytest.raises(ConfigError, match="'inner' cannot begin within run"), manager.run("inner"):
            pytest.fail("the run must not begin")
        assert manager.run_id == outer
    assert MlflowClient(tracking_uri=tracking_uri).get_run(outer).info.status == "FINISHED"


def test_a_file_store_has_no_url(tracking_uri: str) -> None:
    manager = ExperimentsManager(tracking_uri, "nights")
    with manager.run("night 3"):
        assert manager.run_url is None


def test_the_url_of_a_run_holds_no_credentials() -> None:
    manager = ExperimentsManager("https://user:secret@mlflow.example/base/", "nights")
    assert manager.run_url is None
    manager._run_id, manager._mlflow.experiment_id = "r1", "7"
    assert manager.run_url == "https://mlflow.example/base/#/experiments/7/runs/r1?workflowType=machine_learning"


def test_a_measure_without_a_run_is_refused() -> None:
    manager = ExperimentsManager("sqlite://", "nights")
    with pytest.raises(ConfigError, match="'val_loss' has no run"):
        manager.log_metric("val_loss", 1.0, 0)
    with pytest.raises(ConfigError, match="no MLflow run"):
        _ = manager.run_id


def test_a_measure_after_the_end_of_its_run_is_refused(tracking_uri: str) -> None:
    manager = ExperimentsManager(tracking_uri, "nights")
    with manager.run("night 1"):
        manager.log_metric("val_loss", 1.0, 0)
    with pytest.raises(ConfigError, match=rf"'late' has no run to go to, for run {manager.run_id} has ended"):
        manager.log_metric("late", 1.0, 1)
    manager.log_to(manager.run_id, {"late": 1.0})
    assert MlflowClient(tracking_uri=tracking_uri).get_run(manager.run_id).data.metrics == {
        "val_loss": 1.0,
        "late": 1.0,
    }


def test_mlflow_away_is_temporary_within_seconds_and_names_no_secret() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    manager = ExperimentsManager(f"http://user:hunter2@127.0.0.1:{port}", "nights")
    environment = dict(os.environ)
    began = time.monotonic()
    with (
        pytest.raises(TemporaryError, match=rf"MLflow at http://127.0.0.1:{port} is away.*begin a run") as caught,
        manager.run("x"),
    ):
        pytest.fail("the run must not begin")
    assert time.monotonic() - began < 20
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert dict(os.environ) == environment


@pytest.mark.parametrize("password", ["hunter2", "hun/ter2", "2hun/t@r2"])
def test_no_address_keeps_its_password(password: str) -> None:
    said = without_credentials(f"cannot reach postgresql://me:{password}@db:5432/mlflow for models:/shop@champion")
    assert said == "cannot reach postgresql://db:5432/mlflow for models:/shop@champion"
    harmless = "GET http://mlflow:5000/api/2.0?name=shop@champion"
    assert without_credentials(harmless) == harmless


def test_a_server_error_is_temporary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("embft.experiments.connection._PATIENCE_S", 0.0)
    for uri in _serve(503):
        with pytest.raises(TemporaryError, match="is away"), ExperimentsManager(uri, "nights").run("x"):
            pytest.fail("the run must not begin")


def test_missing_rights_are_for_a_person_to_change() -> None:
    for uri in _serve(403):
        with pytest.raises(ConfigError, match="refused to begin a run"), ExperimentsManager(uri, "nights").run("x"):
            pytest.fail("the run must not begin")


def test_mlflow_going_away_in_mid_run_is_not_swallowed(tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = ExperimentsManager(tracking_uri, "nights", patience_s=0)

    def away(*args: object, **kwargs: object) -> None:
        from mlflow.exceptions import MlflowException

        raise MlflowException("API request to http://x failed with exception ConnectionError")

    def night() -> None:
        with manager.run("night 4"):
            manager.log_metric("val_loss", 0.5, 1)
            monkeypatch.setattr(manager._mlflow._client, "log_batch", away)

    with pytest.raises(TemporaryError, match="log measures"):
        night()


def test_an_address_that_is_no_tracking_server_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tracking_uri"), ExperimentsManager("gopher://x", "nights").run("x"):
        pytest.fail("the run must not begin")
