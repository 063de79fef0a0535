"""Tasks whose only result is what their command prints: no stage's `result.json` stands behind them."""

import json
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.exceptions import AirflowFailException

from embft.airflow.operators import StageOperator
from embft.airflow.outcome import explained
from embft.airflow.quote import quotable
from embft.airflow.task import StageTask
from embft.config import ModelConfig

if TYPE_CHECKING:
    from airflow.sdk import Context


class PrintingTask(StageTask):
    """Mixed into an operator in place of `StageTask`."""

    printed_keys: ClassVar[frozenset[str]]
    """By which the printed record is known."""

    @property
    def kept_in(self) -> str:
        """Where the work is to be seen, for the log."""
        raise NotImplementedError

    def conclude_printed(self, context: "Context", config: ModelConfig, printed: dict[str, Any]) -> None:
        """Turn what the command printed into the task's end.

        Args:
            context: The task's context.
            config: The model's config.
            printed: The record; empty where a pod's log could not be read.
        """
        raise NotImplementedError

    def parse_printed(self, printed: str) -> dict[str, Any] | None:
        """Read what the command printed with --json; None if that is not what it is."""
        try:
            record = json.loads(printed)
        except ValueError:
            return None
        return record if isinstance(record, dict) and self.printed_keys <= record.keys() else None


class PrintingOperator(PrintingTask, StageOperator):
    """Runs the command on the Airflow worker."""

    def execute(self, context: "Context") -> None:
        """Run the command, and conclude from what it printed.

        Args:
            context: The task's context.

        Raises:
            AirflowException: It failed, and a retry may help.
            AirflowFailException: It failed, and a retry cannot help; or it printed no result.
        """
        with quotable(context):
            with explained():
                config = self.read_config()
            printed = self._printed(context, self.arguments_for(context, config), config)
            result = self.parse_printed(printed)
            if result is None:
                raise AirflowFailException(f"`embft {self.stage} --json` printed no result but {printed[:200]!r}")
            self.conclude_printed(context, config, result)
