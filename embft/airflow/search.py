"""The workers of a night's search: mapped tasks that train trials side by side, before `fine_tune` takes the best."""

from typing import TYPE_CHECKING, Any

from embft.airflow.command import search_arguments
from embft.airflow.printing import PrintingOperator, PrintingTask
from embft.config import ModelConfig
from embft.paths import SEARCH

if TYPE_CHECKING:
    from airflow.sdk import Context


class SearchTask(PrintingTask):
    """Mixed into an operator in place of `StageTask`: a worker's trials are in MLflow, its only result is its print."""

    printed_keys = frozenset({"worker", "is_over", "trained", "search"})

    worker: int

    @property
    def kept_in(self) -> str:
        """Where the work is to be seen, for the log."""
        return f"the trials of worker {self.worker}"

    def arguments_for(self, context: "Context", config: ModelConfig) -> list[str]:
        """Spell the command; a retry, or a cleared task, goes on with the trials of the same worker.

        Args:
            context: The task's context.
            config: The model's config.

        Returns:
            Arguments of a Python interpreter.
        """
        return search_arguments(self.model, self.day_of(context, config), self.worker, context["params"])

    def conclude_printed(self, context: "Context", config: ModelConfig, printed: dict[str, Any]) -> None:
        """Say in the task's log what the worker came to.

        Args:
            context: The task's context.
            config: The model's config.
            printed: The record; empty where a pod's log could not be read.
        """
        if not printed:
            return
        if printed["is_over"]:
            self.log.info("fine_tune has its result; worker %s had nothing to do", self.worker)
        else:
            ended, all_trials = len(printed["trained"]), printed["search"]["trials"]
            self.log.info("worker %s ended %d trials; the night has %d", self.worker, ended, all_trials)


class SearchOperator(SearchTask, PrintingOperator):
    """Runs `python -m embft search …` on the Airflow worker.

    Args:
        worker: Which of the search's workers this is; the first is 0.
        kwargs: Of `PrintingOperator`.
    """

    def __init__(self, *, worker: int, **kwargs: Any) -> None:
        super().__init__(stage=SEARCH, **kwargs)
        self.worker = worker
