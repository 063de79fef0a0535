"""`RunTracker`: one run at a time, with its parameters and measures, in MLflow."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from embft.errors import ConfigError, EmbftError
from embft.experiments.connection import Connection, Measure
from embft.experiments.reaching import without_credentials
from embft.experiments.series import Series

_FLUSH_AT_METRICS = 500  # MLflow takes up to 1,000 in one call; one call each would cost 5 to 10 ms per training step
_FLUSH_AFTER_S = 10.0
_MAX_PARAM_CHARS = 6000


class RunTracker:
    """Tracks runs, one after the other; `ExperimentsManager` is the public one.

    Args:
        mlflow: The experiment.
        ui_url: Web address of MLflow for people, or whatever its tracking address is.
        patience_s: How long each call of a run waits for an MLflow that is away.
        judged_by: Name of the metric that holds a run's quality; no measure may take it.
    """

    def __init__(self, mlflow: Connection, ui_url: str, patience_s: float, judged_by: str) -> None:
        self.ui_url = ui_url
        self.patience_s = patience_s
        self.judged_by = judged_by
        self._mlflow = mlflow
        self._run_tags: dict[str, str] = {}
        self._run_id: str | None = None
        self._running = False
        self._waiting: list[Measure] = []
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
        return self._run_id and self.url_of(self._run_id)

    def url_of(self, run_id: str) -> str | None:
        """Where a person looks at a run of the experiment, which was asked before; see `run_url`."""
        parts = urlsplit(self.ui_url)
        if parts.scheme not in ("http", "https"):
            return None
        base = without_credentials(urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", "")))
        # Without this, MLflow opens the run in its pages for language models, which are empty for a training.
        view = "?workflowType=machine_learning"
        return f"{base}/#/experiments/{self._mlflow.experiment_id}/runs/{run_id}{view}"

    @contextmanager
    def run(
        self,
        name: str,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        resumed: str | None = None,
    ) -> Iterator[Self]:
        """A run from begin to end: finished when the block ends well, failed when it raises (which goes on).

        Args:
            name: Of the run.
            tags: Lineage and the like; no secret.
            params: Hyper-parameters; values are written as text, cut at MLflow's limit of 6,000 characters.
            resumed: Id of an interrupted run to go on with; where MLflow has it no more, a new one begins.

        Yields:
            This object.

        Raises:
            ConfigError: A run is under way, or MLflow refuses: the address is no tracking server, or rights are
                missing.
            TemporaryError: MLflow stays away, or answers with server errors.
        """
        if self._running:
            raise ConfigError(f"run {name!r} cannot begin within run {self._run_id}; end that one first")
        labels = dict(tags or {}) | self._run_tags
        with self._mlflow.run(name, labels, self.patience_s, resumed) as self._run_id:
            self._running = True
            self._waiting.clear()
            self._sent_at = time.monotonic()
            try:
                self.log_params(params or {})
                yield self
                self.flush()
            except BaseException:
                # What waits is sent if it can be; the error that broke the run is the one to see.
                with suppress(EmbftError), self._mlflow.patient(0):
                    self.flush()
                raise
            finally:
                self._waiting.clear()
                self._running = False

    def log_metric(self, name: str, value: float, step: int) -> None:
        """Note a measure of the run.

        Args:
            name: Such as `val_loss`.
            value: A number.
            step: Optimiser steps done.

        Raises:
            ConfigError: No run is under way, or the name is that of the quality.
            TemporaryError: MLflow stays away.
        """
        if not self._running:
            ended = f", for run {self._run_id} has ended" if self._run_id else ""
            raise ConfigError(
                f"measure {name!r} has no run to go to{ended}; train within `with manager.run(name):`, and give what "
                "is found out later to `log_to`"
            )
        self._waiting.append(self._measure(name, value, step))
        if len(self._waiting) >= _FLUSH_AT_METRICS or time.monotonic() - self._sent_at > _FLUSH_AFTER_S:
            self.flush()

    def log_to(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Add measures to a run that has ended: what was found out about its model later.

        Args:
            run_id: Of the run.
            metrics: Name → value.

        Raises:
            ConfigError: MLflow has no such run, or a name is that of the quality.
            TemporaryError: MLflow stays away.
        """
        self._mlflow.log(run_id, [self._measure(name, value, 0) for name, value in metrics.items()])

    def log_series(self, name: str, metrics: Mapping[str, float], *, step: int, at: datetime) -> str:
        """Add a point to measures that go on for ever, in the one run of the experiment that keeps them.

        The run is no training: it counts to no iteration.

        Args:
            name: Of the series, and of its run, which is made where there is none.
            metrics: Name → value. What MLflow has already is not doubled.
            step: Place on the chart's axis.
            at: The time that the values are of, with its zone.

        Returns:
            The run's id.

        Raises:
            ConfigError: MLflow refuses, or a name is that of the quality.
            TemporaryError: MLflow stays away.
        """
        at_ms = int(at.timestamp() * 1000)
        points = [self._measure(key, value, step)._replace(at_ms=at_ms) for key, value in metrics.items()]
        with self._mlflow.patient(self.patience_s):
            return Series(self._mlflow, name).log(points)

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Wait for an MLflow that is away, in each call of the block, as long as within a run.

        Yields:
            Nothing.
        """
        with self._mlflow.patient(self.patience_s):
            yield

    def flush(self) -> None:
        """Send the measures that wait.

        Raises:
            TemporaryError: MLflow stays away; they go on waiting.
        """
        while self._waiting:
            self._mlflow.log(self.run_id, self._waiting[:_FLUSH_AT_METRICS])
            del self._waiting[:_FLUSH_AT_METRICS]
        self._sent_at = time.monotonic()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Add parameters to the run; see `run`.

        Args:
            params: Name → value.

        Raises:
            ConfigError: No run has begun, or a parameter has another value already.
            TemporaryError: MLflow stays away.
        """
        as_text = {name: str(value)[:_MAX_PARAM_CHARS] for name, value in params.items()}
        self._mlflow.log_params(self.run_id, as_text)

    def set_tag(self, name: str, value: str) -> None:
        """Tag the run; `TemporaryError` where MLflow stays away."""
        self._mlflow.set_tag(self.run_id, name, value)

    def _measure(self, name: str, value: float, step: int) -> Measure:
        if name == self.judged_by:
            raise ConfigError(
                f"measure {name!r} is what a run is judged by, and only `run_once` writes it; "
                "give the measure another name, or the ExperimentsManager another `quality`"
            )
        return Measure(name, value, time.time_ns() // 1_000_000, step)
