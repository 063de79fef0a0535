"""What every task of a stage shares, wherever the stage runs: its command, and what its result means to Airflow."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from embft.airflow.command import stage_arguments
from embft.airflow.day import night_day
from embft.airflow.links import STAGE_LINKS, pages_of
from embft.config import ModelConfig, config_path, load_config
from embft.results import StageResult

if TYPE_CHECKING:
    from airflow.sdk import Context

RESULT_KEY = "result"


class StageTask:
    """Mixed into an operator; the operator runs the command, this says which, and judges what came of it.

    Args are plain strings, because Airflow writes the arguments of a mapped task into its database.
    """

    stage: str
    model: str
    include: str
    log_day: str | None
    links: dict[str, str]
    operator_extra_links = STAGE_LINKS

    def _describe(self, stage: str, model: str, include: str, log_day: str | None) -> None:
        self.stage = stage
        self.model = model
        self.include = include
        self.log_day = log_day
        self.links = {}

    def read_config(self) -> ModelConfig:
        """Read the model's config where the task runs.

        Returns:
            The config.
        """
        return load_config(config_path(Path(self.include), self.model))

    def arguments_for(self, context: "Context", config: ModelConfig) -> list[str]:
        """Spell the stage's command for this run.

        Args:
            context: The task's context.
            config: The model's config.

        Returns:
            Arguments of a Python interpreter.
        """
        day = night_day(context, config.schedule)
        return stage_arguments(self.stage, self.model, day, context["params"], log_day=self.log_day)

    def conclude(self, context: "Context", config: ModelConfig, result: StageResult) -> Any:
        """Turn the stage's result into the task's end.

        Args:
            context: The task's context.
            config: The model's config.
            result: Of this run.

        Returns:
            What goes to XCom: the result's URI; for `plan` the days that `pull` is mapped over.

        Raises:
            AirflowFailException: The stage rejected its data or its model.
        """
        self.links = pages_of(result, config.storage)
        if result.status == "rejected":
            raise AirflowFailException(result.reason or f"{self.stage} rejected its input; see {result.uri}")
        if self.stage == "plan":
            # Airflow maps over a task's return value alone, so the URI takes another key here.
            context["ti"].xcom_push(key=RESULT_KEY, value=result.uri)
            return list(result.figures["days_to_pull"])
        return result.uri


class GateTask(StageTask):
    """The gate: a rejected challenger is a normal end, which takes the other branch. Needs Airflow's `BranchMixIn`."""

    # Tells the scheduler that tasks skipped here stay skipped when they are cleared.
    inherits_from_skipmixin = True

    do_branch: Callable[..., Any]

    def conclude(self, context: "Context", config: ModelConfig, result: StageResult) -> Any:
        """Follow `register` or `rejected`.

        Args:
            context: The task's context.
            config: The model's config.
            result: The gate's.

        Returns:
            The result's URI.
        """
        self.links = pages_of(result, config.storage)
        # Branching ends the task by an exception, so the URI is pushed before.
        context["ti"].xcom_push(key="return_value", value=result.uri)
        self.do_branch(context, "rejected" if result.status == "rejected" else "register")
        return result.uri
