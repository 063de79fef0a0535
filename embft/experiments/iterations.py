"""Iterations: rounds of training (a night, a search), their finished runs, and which one was before which."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from embft.errors import ConfigError
from embft.experiments.connection import Connection
from embft.experiments.weights import STATE_TAG

if TYPE_CHECKING:
    from mlflow.entities import Run

ITERATION_TAG = "embft.iteration"
PARAMS_ID_TAG = "embft.params_id"
PARAMS_TAG = "embft.params"
_MAX_TAG_CHARS = 8000  # MLflow's limit
# What can stand in quotes in MLflow's search language, and be read in a list.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/+-]{0,249}")
_METRIC_NAME = re.compile(r"[A-Za-z0-9_. :/-]{1,250}")  # MLflow's rule


class Params(Protocol):
    """Parameters of one training, such as `FineTuningParams`."""

    @property
    def id(self) -> str:
        """Equal for equal content, and only then."""
        ...

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Give the content; in mode "json", as JSON has it."""
        ...


@dataclass(frozen=True)
class FinishedRun:
    """A run that ended well, as MLflow has it.

    Args:
        run_id: MLflow's id.
        params_id: Id of the parameters.
        params: The parameters, as JSON gives them.
        quality: As its training measured it; a finite number.
        has_model: Whether MLflow keeps its model: true of the best run of an iteration.
    """

    run_id: str
    params_id: str
    params: dict[str, Any]
    quality: float
    has_model: bool


class Iterations:
    """The finished runs of each iteration of an experiment.

    Args:
        mlflow: The experiment.
        quality: Name of the metric that holds a run's quality.
        lower_is_better: Of this metric.

    Raises:
        ConfigError: MLflow does not take a metric of this name; said here, for after a training it is too late.
    """

    def __init__(self, mlflow: Connection, quality: str, lower_is_better: bool) -> None:
        if not _METRIC_NAME.fullmatch(quality):
            raise ConfigError(
                f"a run's quality would be called {quality!r} in MLflow, which takes up to 250 letters, digits, "
                'spaces and _ . : / -: give ExperimentsManager another `quality`, such as "val_loss"'
            )
        self._mlflow = mlflow
        self._quality = quality
        self._sign = 1 if lower_is_better else -1

    def runs(self, iteration: str) -> list[Run]:
        """Find the runs of an iteration that have ended, well or not.

        Args:
            iteration: Its name.

        Returns:
            Runs as MLflow gives them.

        Raises:
            TemporaryError: MLflow stays away.
        """
        return self._mlflow.search(f"tags.`{ITERATION_TAG}` = '{iteration}' AND attributes.status != 'RUNNING'")

    def ranked(self, runs: list[Run]) -> list[FinishedRun]:
        """Put runs in order: the best first; of equals, the one whose model is kept, then the one that began first.

        Args:
            runs: As MLflow gives them, the earliest begun first.

        Returns:
            Those that finished with parameters and a quality.
        """
        finished = [it for run in runs if (it := self._finished(run)) is not None]
        return sorted(finished, key=lambda it: (self._sign * it.quality, not it.has_model))

    def is_better(self, quality: float, than: FinishedRun) -> bool:
        """Whether a quality beats that of a run; an equal one does not."""
        return self._sign * quality < self._sign * than.quality

    def before(self, iteration: str) -> list[FinishedRun]:
        """Rank the runs of the previous iteration: the last by name that is before this one and has a finished run.

        Args:
            iteration: The later one, or the beginning of its name.

        Returns:
            Its finished runs, the best first; none where there is no previous iteration.

        Raises:
            TemporaryError: MLflow stays away.
        """
        # The first run to finish is the best so far, so its weights were kept at least for a while: the few runs with
        # this tag name every iteration, without reading all runs of all years.
        marked = self._mlflow.search(
            f"tags.`{STATE_TAG}` LIKE '%' AND tags.`{ITERATION_TAG}` LIKE '%' AND attributes.status = 'FINISHED'"
        )
        names = {run.data.tags[ITERATION_TAG] for run in marked}
        earlier = [name for name in names if order(name) < order(iteration)]
        for name in sorted(earlier, key=order, reverse=True):
            if ranked := self.ranked(self.runs(name)):
                return ranked
        return []

    def _finished(self, run: Run) -> FinishedRun | None:
        tags, quality = run.data.tags, run.data.metrics.get(self._quality)
        if run.info.status != "FINISHED" or quality is None or not math.isfinite(quality):
            return None
        if PARAMS_TAG not in tags or PARAMS_ID_TAG not in tags:
            return None
        has_model = tags.get(STATE_TAG) == "kept"
        return FinishedRun(run.info.run_id, tags[PARAMS_ID_TAG], json.loads(tags[PARAMS_TAG]), quality, has_model)


def tags_of(params: Params) -> dict[str, str]:
    """Give the tags by which a run with these parameters is found again, and they are read back whole.

    Args:
        params: Of the run.

    Returns:
        Name → value.

    Raises:
        ConfigError: As JSON, they are longer than MLflow's limit for a tag.
    """
    content = json.dumps(params.model_dump(mode="json"), sort_keys=True)
    if len(content) > _MAX_TAG_CHARS:
        raise ConfigError(
            f"parameters {params.id} are {len(content)} characters as JSON, and MLflow keeps {_MAX_TAG_CHARS}: "
            "leave out what does not change between runs"
        )
    return {PARAMS_ID_TAG: params.id, PARAMS_TAG: content}


def check_name(iteration: str) -> None:
    """Check that a name can be an iteration's.

    Args:
        iteration: The name.

    Raises:
        ConfigError: It has other characters than a tag that can be searched for, is empty or too long.
    """
    if not _NAME.fullmatch(iteration):
        raise ConfigError(
            f"iteration {iteration!r} must be 1 to 250 letters, digits, spaces and . _ : / + -, "
            'and begin with a letter or digit: call it "2026-11-24" or "search 7"'
        )


def order(iteration: str) -> tuple[list[tuple[int, int, str]], str]:
    """Give the sort key of an iteration: its name, with digits compared as numbers ("search 9" < "search 10").

    By name, not by time: a backfill of an old day that ran this morning is not the night before this one.

    Args:
        iteration: Its name.

    Returns:
        The key.
    """
    parts = [part for part in re.split(r"(\d+)", iteration) if part]
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], iteration
