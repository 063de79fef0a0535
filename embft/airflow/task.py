"""What every task of a stage shares, wherever the stage runs: its command, and what its result means to Airflow."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from embft.airflow.actor import actor_of
from embft.airflow.command import stage_arguments
from embft.airflow.day import night_day
from embft.airflow.links import STAGE_LINKS, pages_of
from embft.config import ModelConfig, config_path, load_config
from embft.results import StageResult

if TYPE_CHECKING:
    from airflow.sdk import Context

RESULT_KEY = "result"
# Task ids that other tasks look for.
APPROVE = "approve"


class StageTask:
    """Mixed into an operator; the operator runs the command, this says which, and judges what came of it.

    Args are plain strings, because Airflow writes the arguments of a mapped task into its database.
    """

    stage: str
    model: str
    include: str
    log_day: str | None
    links: dict[str, str]
    log: Any
    outlets: list[Any]
    upstream_task_ids: set[str]
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

    def day_of(self, context: "Context", config: ModelConfig) -> date:
        """Find the day that the run works on.

        Args:
            context: The task's context.
            config: The model's config.

        Returns:
            The day.
        """
        return night_day(context, config.schedule)

    def arguments_for(self, context: "Context", config: ModelConfig) -> list[str]:
        """Spell the stage's command for this run.

        Args:
            context: The task's context.
            config: The model's config.

        Returns:
            Arguments of a Python interpreter.
        """
        day, run_type = self.day_of(context, config), context["dag_run"].run_type
        return stage_arguments(self.stage, self.model, day, context["params"], run_type=run_type, log_day=self.log_day)

    def actor_for(self, context: "Context") -> str:
        """Say who acts, for the history of champions.

        Args:
            context: The task's context.

        Returns:
            As of `actor_of`; with whom a person's approval is right before this task, that person too.
        """
        asked = APPROVE in self.upstream_task_ids
        return actor_of(context, context["ti"].xcom_pull(task_ids=APPROVE) if asked else None)

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
            AirflowSkipException: `publish` moved no pointer.
        """
        self.links = pages_of(result, config.storage)
        if result.status == "rejected":
            raise AirflowFailException(result.reason or f"{self.stage} rejected its input; see {result.uri}")
        if self.stage == "plan":
            # Airflow maps over a task's return value alone, so the URI takes another key here.
            context["ti"].xcom_push(key=RESULT_KEY, value=result.uri)
            return list(result.figures["days_to_pull"])
        if self.stage == "publish":
            self._announce(context, result)
        return result.uri

    def _announce(self, context: "Context", result: StageResult) -> None:
        # A task that succeeds sends an event for each of its outlets; one that is skipped sends none.
        if not result.figures["published"]:
            context["ti"].xcom_push(key="return_value", value=result.uri)
            raise AirflowSkipException(result.reason or f"nothing was published; see {result.uri}")
        for asset in self.outlets:
            # A reused result is announced again: the worker that wrote it may have died before Airflow heard of it.
            context["outlet_events"][asset].extra = {
                "version": str(result.figures["version"]),
                "day": result.figures["catalogue_of"],
                "items": result.figures["items"],
            }


class GateTask(StageTask):
    """The gate: a rejected challenger is a normal end, which takes the other branch. Needs Airflow's `BranchMixIn`."""

    # Tells the scheduler that tasks skipped here stay skipped when they are cleared.
    inherits_from_skipmixin = True

    do_branch: Callable[..., Any]
    downstream_task_ids: set[str]

    def conclude(self, context: "Context", config: ModelConfig, result: StageResult) -> Any:
        """Follow `rejected`, or `register` by way of a person where the config asks for one.

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
        accepted = APPROVE if APPROVE in self.downstream_task_ids else "register"
        self.do_branch(context, "rejected" if result.status == "rejected" else accepted)
        return result.uri
