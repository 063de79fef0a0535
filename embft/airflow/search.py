"""The workers of a night's search: mapped tasks that train trials side by side, before `fine_tune` takes the best."""

import json
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from embft.airflow.command import search_arguments
from embft.airflow.operators import StageOperator
from embft.airflow.outcome import explained
from embft.airflow.quote import quotable
from embft.airflow.task import StageTask
from embft.config import ModelConfig
from embft.paths import SEARCH

if TYPE_CHECKING:
    from airflow.sdk import Context


class SearchTask(StageTask):
    """Mixed into an operator in place of `StageTask`: a worker's trials are in MLflow, its only result is its print."""

    worker: int

    def arguments_for(self, context: "Context", config: ModelConfig) -> list[str]:
        """Spell the command; a retry, or a cleared task, goes on with the trials of the same worker.

        Args:
            context: The task's context.
            config: The model's config.

        Returns:
            Arguments of a Python interpreter.
        """
        return search_arguments(self.model, self.day_of(context, config), self.worker, context["params"])

    def conclude(self, context: "Context", config: ModelConfig, result: Any) -> None:
        """Say in the task's log what the worker came to.

        Args:
            context: The task's context.
            config: The model's config.
            result: What the command printed; empty where a pod's log could not be read.
        """
        if not result:
            return
        if result["is_over"]:
            self.log.info("fine_tune has its result; worker %s had nothing to do", self.worker)
        else:
            ended, all_trials = len(result["trained"]), result["search"]["trials"]
            self.log.info("worker %s ended %d trials; the night has %d", self.worker, ended, all_trials)


class SearchOperator(SearchTask, StageOperator):
    """Runs `python -m embft search …` on the Airflow worker.

    Args:
        worker: Which of the search's workers this is; the first is 0.
        kwargs: Of `StageOperator`.
    """

    def __init__(self, *, worker: int, **kwargs: Any) -> None:
        super().__init__(stage=SEARCH, **kwargs)
        self.worker = worker

    def execute(self, context: "Context") -> None:
        """Train trials.

        Args:
            context: The task's context.

        Raises:
            AirflowException: It failed, and a retry may help.
            AirflowFailException: It failed, and a retry cannot help; or it printed no result.
        """
        self.links = {}
        with quotable(context):
            with explained():
                config = self.read_config()
            printed = self._printed(context, self.arguments_for(context, config), config)
            result = parse_printed(printed)
            if result is None:
                raise AirflowFailException(f"`embft search --json` printed no result but {printed[:200]!r}")
            self.conclude(context, config, result)


def parse_printed(printed: str) -> dict[str, Any] | None:
    """Read what `embft search --json` printed; None if that is not what it is."""
    try:
        record = json.loads(printed)
    except ValueError:
        return None
    return record if isinstance(record, dict) and {"worker", "is_over", "trained", "search"} <= record.keys() else None
