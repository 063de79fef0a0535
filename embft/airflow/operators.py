"""Stages that run on the worker: a subprocess, so that Airflow's own environment needs nothing that trains."""

import logging
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BranchMixIn
from airflow.sdk.exceptions import AirflowFailException

from embft.airflow.actor import ACTOR
from embft.airflow.command import explain_arguments
from embft.airflow.outcome import explained, fail, last_error, parse_result
from embft.airflow.process import Child, Ended
from embft.airflow.quote import quotable
from embft.airflow.task import GateTask, StageTask
from embft.config import ModelConfig
from embft.errors import DataRejected

if TYPE_CHECKING:
    from airflow.sdk import Context


class StageOperator(StageTask, BaseOperator):  # type: ignore[misc]
    """Runs one stage as `python -m embft <stage> …` on the worker.

    The stage's stderr is the task's log, line by line. Its stdout is its result, of which XCom gets the URI.

    Args:
        stage: As in the DAG and on the command line.
        model: The model's name.
        include: The project's `include` folder.
        log_day: For `pull`: the log day.
        kwargs: Of any Airflow operator.
    """

    template_fields: Sequence[str] = ("command",)
    # The command is known when the task starts; so the rendered template shows what was really run.
    overwrite_rtif_after_execution = True
    ui_color = "#e8f1ee"

    def __init__(self, *, stage: str, model: str, include: str, log_day: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._describe(stage, model, include, log_day)
        self.command: list[str] = []
        self._child: Child | None = None

    def execute(self, context: "Context") -> Any:
        """Run the stage and judge its end.

        Args:
            context: The task's context.

        Returns:
            The result's URI; for `plan` the days to pull.

        Raises:
            AirflowException: The stage failed, and a retry may help.
            AirflowFailException: The stage failed, and a retry cannot help.
        """
        with quotable(context):
            return self._executed(context)

    def on_kill(self) -> None:
        """End the stage, and whatever it has started, when the task is told to stop."""
        if self._child:
            self._child.stop()

    def _executed(self, context: "Context") -> Any:
        self.links = {}
        with explained():
            config = self.read_config()
        ended = self._run(context, self.arguments_for(context, config), config)
        result = parse_result(ended.output)
        # A stage that rejects its input prints why, and exits with 3.
        judged = ended.code == 0 or (ended.code == DataRejected.exit_code and result and result.status == "rejected")
        if not judged:
            fail(ended.code, last_error(ended.last_lines))
        if result is None or result.stage != self.stage:
            raise AirflowFailException(
                f"{shlex.join(self.command)} ended with exit code {ended.code}, but printed no result of {self.stage} "
                f"(it printed {ended.output[:200]!r}); with --json a stage prints its result.json and nothing else"
            )
        return self.conclude(context, config, result)

    def _printed(self, context: "Context", arguments: list[str], config: ModelConfig) -> str:
        ended = self._run(context, arguments, config)
        if ended.code != 0:
            fail(ended.code, last_error(ended.last_lines))
        return ended.output.decode(errors="backslashreplace")

    def _run(
        self,
        context: "Context",
        arguments: list[str],
        config: ModelConfig,
        environment: Mapping[str, str] | None = None,
    ) -> Ended:
        self.command = [config.runtime.python or sys.executable, *arguments]
        # As a person would type it, from the project's folder.
        self.log.info("%s", shlex.join(["EMBFT_INCLUDE=" + self.include, *self.command]))
        env = {**os.environ, "EMBFT_INCLUDE": self.include, ACTOR: self.actor_for(context), **(environment or {})}
        self._child = Child(self.command, env=env, folder=Path(self.include).parent)
        try:
            return self._child.run(lambda line: self.log.log(_level_of(line), "%s", line))
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            raise AirflowFailException(
                f"the interpreter {self.command[0]!r} cannot be run on this worker ({error.strerror}); "
                f"correct runtime.python in {self.include}/models/{self.model}.yaml"
            ) from error


class GateOperator(GateTask, StageOperator, BranchMixIn):  # type: ignore[misc]
    """Runs the gate on the worker, and follows the branch that it decides for."""


class RejectedOperator(StageOperator):
    """Says in the task's log why the challenger was rejected: each rule with its figure and its limit."""

    ui_color = "#f6e3c5"

    def execute(self, context: "Context") -> None:
        """Print the standing decision into the log.

        Args:
            context: The task's context.

        Raises:
            AirflowException: The decision cannot be read for now.
        """
        with quotable(context):
            with explained():
                config = self.read_config()
            arguments = explain_arguments(self.model, self.day_of(context, config))
            for line in self._printed(context, arguments, config).splitlines():
                self.log.info("%s", line)


_LEVEL = re.compile(r"^(?:\S+ )?(ERROR|WARNING|CRITICAL|error)\b")


def _level_of(line: str) -> int:
    found = _LEVEL.match(line)
    return getattr(logging, found[1].upper(), logging.INFO) if found else logging.INFO
