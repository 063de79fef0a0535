"""The trials of one search, kept in MLflow: processes that train some of them at once share them through it alone.

A trial is a run of MLflow. Its tag `embft.trial` says how it stands:

    (none)     proposed: whoever made it is about to look whether another process was quicker
    claimed    some process trains it, or did until it was killed; its worker goes on with it
    finished, pruned, failed    it is over, and is never trained again

The tag is the commit point, and not the run's status: a process may die between the two.
"""

from __future__ import annotations

import json
import logging
import math
import random
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from embft.errors import ConfigError, DataRejected
from embft.experiments.connection import Measure
from embft.experiments.iterations import ITERATION_TAG, PARAMS_ID_TAG, PARAMS_TAG, Params, tags_of
from embft.experiments.weights import STATE_TAG, SavedModel, digest_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from embft.experiments.manager import ExperimentsManager

logger = logging.getLogger(__name__)

State = Literal["proposed", "claimed", "finished", "pruned", "failed"]
Curve = tuple[tuple[int, float], ...]

TRIAL_TAG = "embft.trial"
_WORKER_TAG = "embft.worker"
_FROM_TAG = "embft.from"
_WHY_TAG = "embft.why"
_RESULT_TAG = "embft.result"
_SECONDS = "training_s"
_CURVE = "val_loss"
# Two that proposed the same at once both step back; after so long at most, each tries again. Each time in a row it is
# twice as long, or many workers that want the last trial would step back for ever.
_STEP_BACK_S = 0.5
_DOUBLED_AT_MOST = 6


@dataclass(frozen=True)
class TrialRun:
    """A trial as MLflow has it.

    Args:
        run_id: MLflow's id.
        params_id: Id of the parameters.
        params: The parameters, as JSON gives them.
        logged: The run's parameters as MLflow shows them: there, what a default came to has its number.
        state: How it stands.
        worker: Who trains it, or did last.
        came_from: Who proposed it.
        quality: Of a finished trial; lower is better.
        seconds: Time it trained; 0 of one that is not over.
        why: Why it failed.
        has_model: Whether MLflow keeps its weights.
        result: The result that its weights went to; None of a search that is not over.
    """

    run_id: str
    params_id: str
    params: dict[str, Any]
    logged: dict[str, str]
    state: State
    worker: str
    came_from: str
    quality: float | None
    seconds: float
    why: str | None
    has_model: bool
    result: str | None

    @property
    def is_over(self) -> bool:
        """Whether it is never trained again."""
        return self.state in ("finished", "pruned", "failed")


class Trials:
    """Trials of one iteration.

    Args:
        manager: Its experiment; an iteration is open.
        iteration: Name of the iteration.
        worker: Who this is; no two that work at once have one name, but a process that takes the place of a dead one
            has that one's.
        takes_over: Whether this one goes on with what any other worker has left. The others must be gone.
    """

    def __init__(self, manager: ExperimentsManager, iteration: str, worker: str, *, takes_over: bool) -> None:
        self._manager = manager
        self._mlflow = manager._mlflow
        self._weights = manager._weights
        self._iteration = iteration
        self._worker = worker
        self._takes_over = takes_over
        self._curves: dict[str, Curve] = {}
        self._steps_back = 0

    def runs(self) -> list[TrialRun]:
        """Give all trials, the earliest begun first.

        Raises:
            TemporaryError: MLflow stays away.
        """
        return [_trial_of(run, self._manager.judged_by) for run in self._found()]

    def unfinished(self) -> TrialRun | None:
        """Find a trial to go on with; what this worker proposed and was killed over is proposed no more.

        Returns:
            The earliest; None where there is none.

        Raises:
            TemporaryError: MLflow stays away.
        """
        found = None
        for trial in self.runs():
            if trial.is_over or not (self._takes_over or trial.worker == self._worker):
                continue
            if trial.state == "proposed":
                self._withdraw(trial.run_id)
            else:
                found = found or trial
        return found

    def claim(self, params: Params, came_from: str, limit: int) -> TrialRun | None:
        """Begin a trial, unless others were quicker: to the same parameters, or to the last one that may be trained.

        MLflow has no lock. So each first makes its run and then looks: of two who do so at once, one at least sees the
        other, and who sees another steps back. Where MLflow made a run and its answer was lost, there is an older one
        of this worker that nobody will train: it is withdrawn, and is no rival.

        Args:
            params: Of the trial.
            came_from: Who proposed it.
            limit: Trials that there may be in all.

        Returns:
            The trial; None where this one has stepped back, after a moment.

        Raises:
            TemporaryError: MLflow stays away.
        """
        tags = {**self._tags(), **tags_of(params), _FROM_TAG: came_from}
        name = f"{self._iteration} {params.id[:8]}"
        run_id = self._mlflow.begin(name, tags)
        own, rivals = [], []
        for it in self.runs():
            if it.run_id == run_id:
                own.append(it)
            elif it.state == "proposed" and it.worker == self._worker:
                self._withdraw(it.run_id)
            else:
                rivals.append(it)
        if not own or len(rivals) >= limit or any(it.params_id == params.id for it in rivals):
            self._withdraw(run_id)
            time.sleep(random.uniform(0, _STEP_BACK_S * 2 ** min(self._steps_back, _DOUBLED_AT_MOST)))
            self._steps_back += 1
            return None
        self._steps_back = 0
        self._mlflow.set_tag(run_id, TRIAL_TAG, "claimed")
        return own[0]

    @contextmanager
    def training(self, trial: TrialRun, name: str, tags: Mapping[str, str], params: Mapping[str, Any]) -> Iterator[str]:
        """Train a trial in the block, which ends it by `finish` or `prune`; a `DataRejected` fails it.

        Killed or broken in any other way, it stays claimed, and is gone on with.

        Args:
            trial: Claimed, or to go on with.
            name: Of its run.
            tags: Of its run.
            params: Of its run, for people.

        Yields:
            Id of its run: another one, where MLflow has that of the trial no more.

        Raises:
            DataRejected: Raised in the block; it is recorded.
            TemporaryError: MLflow stays away.
        """
        # All of them: where MLflow has lost the run, another one takes its place.
        content = {PARAMS_ID_TAG: trial.params_id, PARAMS_TAG: json.dumps(trial.params, sort_keys=True)}
        labels = {**tags, **self._tags(), **content, _FROM_TAG: trial.came_from, TRIAL_TAG: "claimed"}
        began = time.monotonic()
        with self._manager.run(name, labels, params, resumed=trial.run_id):
            try:
                yield self._manager.run_id
            except DataRejected as error:
                self._conclude("failed", time.monotonic() - began, {_WHY_TAG: str(error)[:5000]})
                raise

    def finish(self, quality: float, seconds: float, folder: Path, *, keep: bool) -> None:
        """End the trial under way with its quality; its weights are kept where no finished trial is as good.

        Args:
            quality: Lower is better.
            seconds: Time it trained.
            folder: Its saved model.
            keep: Whether weights are kept at all.

        Raises:
            DataRejected: The quality is no finite number.
            TemporaryError: MLflow, or its store of files, stays away.
        """
        if not math.isfinite(quality):
            raise DataRejected(f"the {self._manager.judged_by} is {quality}, which is no finite number")
        best = best_of(self.runs())
        if keep and (best is None or best.quality is None or quality < best.quality):
            self._weights.keep(self._manager.run_id, SavedModel(folder, digest_of(folder)))
        self._conclude("finished", seconds, {}, quality)

    def prune(self, seconds: float) -> None:
        """End the trial under way as hopeless."""
        self._conclude("pruned", seconds, {})

    def tidy(self) -> None:
        """End the runs of trials that are over, and remove all weights but those of the best.

        Raises:
            TemporaryError: MLflow, or its store of files, stays away.
        """
        found = self._found()
        trials = [_trial_of(run, self._manager.judged_by) for run in found]
        for run, trial in zip(found, trials, strict=True):
            status = "FAILED" if trial.state == "failed" else "FINISHED"
            # KILLED: MLflow was away for the one moment in which the run would have been ended.
            is_ended = not trial.is_over or run.info.status == status
            if not is_ended and (self._takes_over or trial.worker == self._worker):
                self._mlflow.end(trial.run_id, status)
        best = best_of(trials)
        self._weights.remove_all_but(best.run_id if best else None, found)

    def curve(self, trial: TrialRun) -> Curve:
        """Give a trial's validation loss after each number of steps; it is asked for once of a trial that is over.

        Raises:
            TemporaryError: MLflow stays away.
        """
        if trial.run_id not in self._curves:
            history = self._mlflow.call("read a curve", lambda client: client.get_metric_history(trial.run_id, _CURVE))
            # A training that was interrupted tells some steps twice.
            curve = tuple(sorted({it.step: it.value for it in sorted(history, key=lambda it: it.timestamp)}.items()))
            if not trial.is_over:
                return curve
            self._curves[trial.run_id] = curve
        return self._curves[trial.run_id]

    def _found(self) -> list[Run]:
        return self._mlflow.search(f"tags.`{ITERATION_TAG}` = '{self._iteration}'")

    def _tags(self) -> dict[str, str]:
        return {ITERATION_TAG: self._iteration, _WORKER_TAG: self._worker}

    def _conclude(self, state: State, seconds: float, tags: Mapping[str, str], quality: float | None = None) -> None:
        self._manager.flush()
        run_id, at_ms = self._manager.run_id, time.time_ns() // 1_000_000
        measures = [Measure(_SECONDS, seconds, at_ms, 0)]
        if quality is not None:
            measures.append(Measure(self._manager.judged_by, quality, at_ms, 0))
        self._mlflow.log(run_id, measures)
        for name, value in {**tags, TRIAL_TAG: state}.items():
            self._mlflow.set_tag(run_id, name, value)

    def _withdraw(self, run_id: str) -> None:
        def delete(client: MlflowClient) -> None:
            client.delete_run(run_id)

        with suppress(ConfigError):  # a twin of this process may have done so
            self._mlflow.call("withdraw a trial", delete)


def best_of(trials: Iterable[TrialRun]) -> TrialRun | None:
    """Find the best finished trial; of equals one whose weights are kept, then the one that began first.

    Args:
        trials: The earliest begun first.

    Returns:
        The trial; None where none has finished.
    """
    finished = [it for it in trials if it.state == "finished"]
    return min(finished, key=lambda it: (it.quality, not it.has_model), default=None)


def close(manager: ExperimentsManager, run_id: str, result: str) -> None:
    """Mark a search as over: its best model is kept elsewhere, and a later search of the same name begins anew.

    Args:
        manager: Of the experiment.
        run_id: Of the best trial.
        result: Where its model is kept; for people.

    Raises:
        TemporaryError: MLflow, or its store of files, stays away.
    """
    manager._mlflow.set_tag(run_id, _RESULT_TAG, result)
    tags = manager._mlflow.call("find the run", lambda client: client.get_run(run_id).data.tags)
    if STATE_TAG in tags:
        manager._weights.remove(run_id)
    else:  # by this tag `Iterations.before` finds the iteration
        manager._mlflow.set_tag(run_id, STATE_TAG, "removed")


def remove_old_weights(manager: ExperimentsManager, before: datetime) -> None:
    """Remove the weights of trials of searches that were given up: nobody went on with them for long.

    Args:
        manager: Of the experiment.
        before: Those that ended earlier go.

    Raises:
        TemporaryError: MLflow, or its store of files, stays away.
    """
    ended = f"attributes.end_time < {int(before.timestamp() * 1000)}"
    for run in manager._mlflow.search(f"tags.`{TRIAL_TAG}` LIKE '%' AND tags.`{STATE_TAG}` = 'kept' AND {ended}"):
        manager._weights.remove(run.info.run_id)


def _trial_of(run: Run, judged_by: str) -> TrialRun:
    tags, metrics = run.data.tags, run.data.metrics
    state: Any = tags.get(TRIAL_TAG, "proposed")
    return TrialRun(
        run_id=run.info.run_id,
        params_id=tags[PARAMS_ID_TAG],
        params=json.loads(tags[PARAMS_TAG]),
        logged=dict(run.data.params),
        state=state,
        worker=tags.get(_WORKER_TAG, ""),
        came_from=tags.get(_FROM_TAG, ""),
        quality=metrics.get(judged_by) if state == "finished" else None,
        seconds=metrics.get(_SECONDS, 0.0),
        why=tags.get(_WHY_TAG),
        has_model=tags.get(STATE_TAG) == "kept",
        result=tags.get(_RESULT_TAG),
    )
