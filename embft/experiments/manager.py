"""`ExperimentsManager`: runs, iterations and their best models, in MLflow."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from embft.errors import ConfigError, DataRejected, TemporaryError
from embft.experiments.connection import Connection, Measure
from embft.experiments.iterations import (
    ITERATION_TAG,
    FinishedRun,
    Iterations,
    Params,
    check_name,
    tags_of,
)
from embft.experiments.tracker import RunTracker
from embft.experiments.weights import Savable, Weights, saved

_INITIAL_TAG = "embft.initial_model"


class ExperimentsManager(RunTracker):
    """Tracks runs of one MLflow experiment.

    Measures are sent in groups: when 500 are waiting, 10 s after the last sending, and at the run's end.

    An iteration is one round of training: a night, a search. Its runs are found again by the id of their parameters,
    and only its best model is kept. Iterations of an experiment are ordered by their names, digits as numbers.

    Args:
        tracking_uri: MLflow's: `http(s)://…`, or `sqlite:///…` or another database.
        experiment: Name of the experiment; made where it does not exist.
        artifact_location: Where a new experiment keeps its files, such as s3://bucket/prefix; MLflow's own choice
            when left out, which without a server is a folder below the working folder.
        ui_url: Web address of MLflow for people; `tracking_uri` when left out and it is one.
        quality: Name of the measure that a run is judged by; `run_once` writes its value as `best_<quality>`.
        lower_is_better: Of the quality: True of a loss.
        s3_endpoint: Where MLflow's client reaches S3, unless $MLFLOW_S3_ENDPOINT_URL says otherwise; None for AWS.
        patience_s: How long each call of a run that has begun waits for an MLflow that is away. Before a run, when
            nothing is lost by giving up, it is 5 s.

    Raises:
        ConfigError: MLflow takes no metric of the name that `quality` makes.
    """

    def __init__(
        self,
        tracking_uri: str,
        experiment: str,
        *,
        artifact_location: str | None = None,
        ui_url: str | None = None,
        quality: str = "val_loss",
        lower_is_better: bool = True,
        s3_endpoint: str | None = None,
        patience_s: float = 60.0,
    ) -> None:
        mlflow = Connection(tracking_uri, experiment, artifact_location)
        super().__init__(mlflow, ui_url or tracking_uri, patience_s, judged_by=f"best_{quality}")
        self._iterations = Iterations(mlflow, self.judged_by, lower_is_better)
        self._weights = Weights(mlflow, s3_endpoint)

    @contextmanager
    def iteration(self, name: str) -> Iterator[ExperimentsManager]:
        """Count the runs that begin in the block to an iteration; a second block of the same name goes on with it.

        Args:
            name: Such as "2026-11-24" or "search 7".

        Yields:
            This manager.

        Raises:
            ConfigError: The name is empty, too long, or has characters that MLflow cannot search for.
        """
        check_name(name)
        outer, self._run_tags = self._run_tags, {ITERATION_TAG: name}
        try:
            yield self
        finally:
            self._run_tags = outer

    def run_once(
        self,
        params: Params,
        train: Callable[[], tuple[Savable, float]],
        *,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> FinishedRun:
        """Train with these parameters, unless this iteration has a finished run of them: then that one is given.

        A run that failed, was killed or has no quality does not count. All else that bears on the quality (data,
        settings, the model started from) has to be the same over an iteration. The model is kept if it is the best
        of the iteration; that of the earlier best is deleted afterwards.

        Args:
            params: Of the training.
            train: Trains, and gives the model and its quality; may log measures to this manager.
            name: Of the run; made of the iteration and the parameters' id when left out.
            tags: Of the run.

        Returns:
            The run, as MLflow has it.

        Raises:
            ConfigError: No iteration is open, the parameters are over 8,000 characters as JSON, or MLflow refuses.
            DataRejected: The quality is not a finite number; the run has failed.
            TemporaryError: MLflow or its store of files stays away. The run counts if it was finished before.
        """
        iteration = self._open_iteration()
        labels = dict(tags or {}) | tags_of(params)
        ranked = self._tidied(iteration)
        if not any(it.params_id == params.id for it in ranked):
            values = params.model_dump(mode="json") | {"params_id": params.id}
            with self.run(name or f"{iteration} {params.id[:8]}", labels, values):
                self._train(train, iteration)
            with self._mlflow.patient(self.patience_s):
                ranked = self._tidied(iteration)
        for run in ranked:
            if run.params_id == params.id:
                return run
        raise TemporaryError(f"run {self.run_id} has finished, but MLflow does not list it; run the command again")

    def best_run(self) -> FinishedRun | None:
        """Find the best finished run of the present iteration; of equals, the one that began first.

        Returns:
            The run; None where none has finished.

        Raises:
            ConfigError: No iteration is open.
            TemporaryError: MLflow stays away.
        """
        ranked = self._iterations.ranked(self._iterations.runs(self._open_iteration()))
        return ranked[0] if ranked else None

    def top_params(self, count: int, *, before: str | None = None) -> list[dict[str, Any]]:
        """Give the parameters of the best runs of the previous iteration.

        That is the last by name that is before the present one and has a finished run: an iteration in which all
        failed, or a backfill of an old day that ran today, is not the previous one.

        Args:
            count: How many at most, >= 0; each set of parameters counts once.
            before: Where several iterations are of one round, what their names begin with, such as "2026-11-24": none
                of them is the previous one then.

        Returns:
            Parameters, the best first; none where there is no previous iteration.

        Raises:
            ConfigError: No iteration is open, or `count` is negative.
            TemporaryError: MLflow stays away.
        """
        if count < 0:
            raise ConfigError(f"count is {count}; the number of parameter sets must be 0 or more")
        ranked = self._iterations.before(before or self._open_iteration())
        # From the worst to the best, so that the best run of the same parameters is the one that stays.
        best = {it.params_id: it for it in reversed(ranked)}
        return [it.params for it in ranked if best[it.params_id] is it][:count]

    def upload_initial_model(self, model: Savable) -> str:
        """Keep the model that training starts from, under a run of its own; once for the same files.

        Args:
            model: To keep.

        Returns:
            Id of the run that keeps it. The present run, if there is one, stays the present one.

        Raises:
            ConfigError: MLflow or its store of files refuses.
            TemporaryError: One of them stays away.
        """
        with saved(model) as files:
            if same := self._initial_runs(f"= '{files.digest}'"):
                return str(same[0].info.run_id)
            tags = {_INITIAL_TAG: files.digest}
            with self._mlflow.run("initial model", tags, self.patience_s) as run_id:
                self._weights.keep(run_id, files)
            return run_id

    def download_initial_model(self, folder: str | Path) -> Path:
        """Fetch the initial model: the last one, where several were uploaded.

        Args:
            folder: As for `download_model`.

        Returns:
            Folder of the model.

        Raises:
            ConfigError: The experiment has none, or the store of files refuses.
            DataRejected: As for `download_model`.
            TemporaryError: MLflow or its store of files stays away.
        """
        found = self._initial_runs("LIKE '%'")
        if not found:
            raise ConfigError(
                f"experiment {self._mlflow.experiment!r} has no initial model; call `upload_initial_model(model)` first"
            )
        return self.download_model(found[-1].info.run_id, folder)

    def download_model(self, run_id: str, folder: str | Path) -> Path:
        """Fetch the model that a run keeps.

        Args:
            run_id: Of the run.
            folder: Made where it does not exist; the model comes into a new folder in it.

        Returns:
            Folder of the model, for `load_model`.

        Raises:
            ConfigError: There is no such run, it keeps no model, or the store of files refuses.
            DataRejected: The files are not those that were uploaded.
            TemporaryError: MLflow or its store of files stays away.
        """
        return self._weights.fetch(run_id, Path(folder))

    def _train(self, train: Callable[[], tuple[Savable, float]], iteration: str) -> None:
        model, measured = train()
        quality = float(measured)
        if not math.isfinite(quality):
            raise DataRejected(
                f"the {self.judged_by} of run {self.run_id} is {quality}, which is no finite number; "
                "lower the learning rates, or look at the sessions it was measured on"
            )
        ranked = self._iterations.ranked(self._iterations.runs(iteration))
        if not ranked or self._iterations.is_better(quality, ranked[0]):
            with saved(model) as files:
                self._weights.keep(self.run_id, files)
        self.flush()
        self._mlflow.log(self.run_id, [Measure(self.judged_by, quality, time.time_ns() // 1_000_000, 0)])

    def _tidied(self, iteration: str) -> list[FinishedRun]:
        """Rank the finished runs of an iteration, and delete all models but that of the best."""
        runs = self._iterations.runs(iteration)
        ranked = self._iterations.ranked(runs)
        best = ranked[0].run_id if ranked else None
        self._weights.remove_all_but(best, runs)
        return [it if it.run_id == best else replace(it, has_model=False) for it in ranked]

    def _initial_runs(self, digest: str) -> list[Any]:
        return self._mlflow.search(f"tags.`{_INITIAL_TAG}` {digest} AND attributes.status = 'FINISHED'")

    def _open_iteration(self) -> str:
        if ITERATION_TAG not in self._run_tags:
            raise ConfigError('no iteration is open; call this within `with manager.iteration("2026-11-24"):`')
        return self._run_tags[ITERATION_TAG]
