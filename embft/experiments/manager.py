"""`ExperimentsManager`: runs, parameters and measures in MLflow. The only module here that imports it, when used."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from embft.errors import ConfigError, EmbftError, TemporaryError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

# MLflow's own defaults (7 retries with growing waits, 120 s each) add up to many minutes before it says that the
# server is away. These add up to about 18 s at worst. A value that the user has set in the environment stands.
_HTTP_BOUNDS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
_FLUSH_AT_METRICS = 500  # MLflow takes up to 1,000 in one call; one call each would cost 5 to 10 ms per training step
_FLUSH_AFTER_S = 10.0
_MAX_PARAM_CHARS = 6000


class ExperimentsManager:
    """Tracks runs of one MLflow experiment.

    Measures are sent in groups: when 500 are waiting, 10 s after the last sending, and at the run's end.

    Args:
        tracking_uri: MLflow's: `http(s)://…`, `sqlite:///…` or a folder.
        experiment: Name of the experiment; made where it does not exist.
        artifact_location: Where a new experiment keeps its files, such as s3://bucket/prefix; MLflow's own choice
            when left out, which without a server is a folder below the working folder.
        ui_url: Web address of MLflow for people; `tracking_uri` when left out and it is one.
    """

    def __init__(
        self, tracking_uri: str, experiment: str, *, artifact_location: str | None = None, ui_url: str | None = None
    ) -> None:
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self.artifact_location = artifact_location
        self.ui_url = ui_url or tracking_uri
        self._client_: MlflowClient | None = None
        self._experiment_id: str | None = None
        self._run_id: str | None = None
        self._waiting: list[Metric] = []
        self._sent_at = 0.0

    @property
    def run_id(self) -> str:
        """Id of the run: of the present one, or the last.

        Raises:
            ConfigError: No run has begun.
        """
        if self._run_id is None:
            raise ConfigError("no MLflow run has begun; call this within `with manager.run(name):`")
        return self._run_id

    @property
    def run_url(self) -> str | None:
        """Where a person looks at the run, without credentials; None where MLflow is a file, without a web page."""
        parts = urlsplit(self.ui_url)
        if parts.scheme not in ("http", "https") or self._run_id is None:
            return None
        base = _without_credentials(urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", "")))
        # Without this, MLflow opens the run in its pages for language models, which are empty for a training.
        view = "?workflowType=machine_learning"
        return f"{base}/#/experiments/{self._experiment_id}/runs/{self._run_id}{view}"

    @contextmanager
    def run(
        self, name: str, tags: Mapping[str, str] | None = None, params: Mapping[str, Any] | None = None
    ) -> Iterator[ExperimentsManager]:
        """A run from begin to end: finished when the block ends well, failed when it raises (which goes on).

        Args:
            name: Of the run.
            tags: Lineage and the like; no secret.
            params: Hyper-parameters; values are written as text, cut at MLflow's limit of 6,000 characters.

        Yields:
            This manager.

        Raises:
            ConfigError: MLflow refuses: the address is no tracking server, or rights are missing.
            TemporaryError: MLflow is away or answers with a server error.
        """
        self._begin(name, tags or {})
        try:
            if params:
                self.log_params(params)
            yield self
            self.flush()
        except BaseException as error:
            self._end_broken("FAILED" if isinstance(error, Exception) else "KILLED")
            raise
        with self._reaching_mlflow("end the run"):
            self._client().set_terminated(self.run_id, status="FINISHED")

    def log_metric(self, name: str, value: float, step: int) -> None:
        """Note a measure of the run.

        Args:
            name: Such as `val_loss`.
            value: A number.
            step: Optimiser steps done.

        Raises:
            ConfigError: No run has begun.
            TemporaryError: MLflow is away.
        """
        if self._run_id is None:
            raise ConfigError(f"measure {name!r} has no run to go to; train within `with manager.run(name):`")
        from mlflow.entities import Metric

        self._waiting.append(Metric(name, value, time.time_ns() // 1_000_000, step))
        if len(self._waiting) >= _FLUSH_AT_METRICS or time.monotonic() - self._sent_at > _FLUSH_AFTER_S:
            self.flush()

    def log_to(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Add measures to a run that has ended: what was found out about its model later.

        Args:
            run_id: Of the run.
            metrics: Name → value.

        Raises:
            ConfigError: MLflow has no such run.
            TemporaryError: MLflow is away.
        """
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        with self._reaching_mlflow("log measures"):
            entities = [Metric(name, value, now, 0) for name, value in metrics.items()]
            self._client().log_batch(run_id, metrics=entities)

    def flush(self) -> None:
        """Send the measures that wait.

        Raises:
            TemporaryError: MLflow is away; they go on waiting.
        """
        with self._reaching_mlflow("log measures"):
            while self._waiting:
                self._client().log_batch(self.run_id, metrics=self._waiting[:_FLUSH_AT_METRICS])
                del self._waiting[:_FLUSH_AT_METRICS]
        self._sent_at = time.monotonic()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Add parameters to the run; see `run`.

        Args:
            params: Name → value.

        Raises:
            ConfigError: No run has begun, or a parameter has another value already.
            TemporaryError: MLflow is away.
        """
        from mlflow.entities import Param

        entities = [Param(name, str(value)[:_MAX_PARAM_CHARS]) for name, value in params.items()]
        with self._reaching_mlflow("log parameters"):
            for start in range(0, len(entities), 100):  # MLflow's limit per call
                self._client().log_batch(self.run_id, params=entities[start : start + 100])

    def set_tag(self, name: str, value: str) -> None:
        """Tag the run; `TemporaryError` where MLflow is away."""
        with self._reaching_mlflow("tag the run"):
            self._client().set_tag(self.run_id, name, value)

    def _begin(self, name: str, tags: Mapping[str, str]) -> None:
        with self._reaching_mlflow("begin a run"):
            client = self._client()
            if self._experiment_id is None:
                self._experiment_id = _experiment_id(client, self.experiment, self.artifact_location)
            run = client.create_run(self._experiment_id, tags=dict(tags), run_name=name)
        self._run_id = run.info.run_id
        self._waiting.clear()
        self._sent_at = time.monotonic()

    def _end_broken(self, status: str) -> None:
        """Send what waits and end the run; where that fails, the error that broke it is the one to see."""
        try:
            self.flush()
            with self._reaching_mlflow("end the run"):
                self._client().set_terminated(self.run_id, status=status)
        except EmbftError:
            self._waiting.clear()

    def _client(self) -> MlflowClient:
        if self._client_ is None:
            from mlflow import MlflowClient

            self._client_ = MlflowClient(tracking_uri=self.tracking_uri)
        return self._client_

    @contextmanager
    def _reaching_mlflow(self, doing: str) -> Iterator[None]:
        with reaching_mlflow(self.tracking_uri, doing):
            yield


@contextmanager
def reaching_mlflow(tracking_uri: str, doing: str) -> Iterator[None]:
    """Bound MLflow's retries, and turn its errors into ours.

    Args:
        tracking_uri: Of the MLflow that the block talks to.
        doing: What the block does, for the message: "begin a run".

    Yields:
        Nothing.

    Raises:
        ConfigError: MLflow refuses, or its address cannot be used.
        TemporaryError: MLflow, or the database behind it, is away.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError, SQLAlchemyError

    with environment_defaults(_HTTP_BOUNDS):
        try:
            yield
        except MlflowException as error:
            ours: EmbftError = _as_ours(error, _without_credentials(tracking_uri), doing)
            # Not "from error": MLflow's own message repeats the address with its password.
            raise ours from None
        except OperationalError as error:
            problem = _without_credentials(str(error.orig))[:300]
            raise TemporaryError(
                f"the database of MLflow at {_without_credentials(tracking_uri)} is away, cannot {doing}: {problem}; "
                "try again later, and if it stays away, check `mlflow.tracking_uri`"
            ) from None
        except (ImportError, SQLAlchemyError, FileNotFoundError, PermissionError) as error:
            problem = _without_credentials((str(error).splitlines() or [""])[0])[:300]
            raise ConfigError(
                f"MLflow at {_without_credentials(tracking_uri)} cannot {doing}: {problem}; check "
                "`mlflow.tracking_uri`, and that its folder exists or its database's driver is installed"
            ) from None


def _as_ours(error: Any, address: str, doing: str) -> EmbftError:
    """Server error or no answer: temporary. An answer that says no: for a person to change."""
    from mlflow.exceptions import RestException

    first_line = _without_credentials((str(error).splitlines() or [""])[0])[:300]
    status = error.get_http_status_code() if hasattr(error, "get_http_status_code") else 500
    foreign = re.search(r"failed with error code 4(?!29)\d\d", first_line)  # a web server, but no MLflow
    if foreign or (isinstance(error, RestException) and status < 500 and status != 429):
        return ConfigError(f"MLflow at {address} refused to {doing}: {first_line}; check the address and the rights")
    if "API request to" in first_line or status >= 500 or status == 429:
        return TemporaryError(f"MLflow at {address} is away, cannot {doing}: {first_line}; try again later")
    return ConfigError(f"MLflow at {address} cannot {doing}: {first_line}; check `mlflow.tracking_uri`")


def _without_credentials(text: str) -> str:
    """The text with `user:password@` taken out of every address in it."""
    return re.sub(r"://[^/\s]*@", "://", text)


def _experiment_id(client: MlflowClient, name: str, artifact_location: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name, artifact_location))
    except MlflowException:
        # Another night's run may have made it in between.
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)


@contextmanager
def environment_defaults(defaults: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the block, those that are not set already.

    Args:
        defaults: Name → value.

    Yields:
        Nothing.
    """
    added = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
