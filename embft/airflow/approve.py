"""A person looks at a night before its model is registered, where the config asks for one."""

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.exceptions import AirflowFailException

from embft.airflow.command import explain_arguments, promotes
from embft.airflow.day import night_day
from embft.airflow.links import pages_of
from embft.airflow.operators import StageOperator
from embft.airflow.outcome import explained
from embft.airflow.quote import quotable
from embft.config import ModelConfig
from embft.paths import Paths
from embft.results import StageResult

if TYPE_CHECKING:
    from airflow.sdk import Context


_ASKED_ABOUT = "asked_about"


class ApproveOperator(StageOperator, ApprovalOperator):  # type: ignore[misc]
    """Shows the gate's decision to a person and waits for the answer, holding no worker; silence is a no.

    No keeps the champion: `register` is skipped, and the night stays green.

    Args:
        timeout: Time to answer.
        kwargs: Of `StageOperator`, with the gate's stage.
    """

    ui_color = "#f3e1f0"

    def __init__(self, *, timeout: timedelta, **kwargs: Any) -> None:
        super().__init__(
            subject=f"Shall this model of {kwargs['model']} serve?",
            defaults=self.REJECT,
            response_timeout=timeout,
            **kwargs,
        )

    def execute(self, context: "Context") -> None:
        """Ask, unless this run promotes nothing.

        Args:
            context: The task's context.

        Raises:
            AirflowException: The decision cannot be read for now.
            AirflowFailException: Airflow would show what was asked here first, about another model.
        """
        with quotable(context):
            self._ask(context)

    def execute_complete(self, context: "Context", event: dict[str, Any]) -> Any:
        """Let the night go on, or skip `register`.

        Args:
            context: The task's context.
            event: The answer, or that none came in time.

        Returns:
            The answer and who gave it.

        Raises:
            AirflowException: The decision cannot be read for now.
            AirflowFailException: The gate has judged anew since this was asked: the answer is about another model.
        """
        if event.get("timedout"):
            self.log.warning(
                "nobody answered in time, so the champion stays; to ask once more, clear this task with all that "
                "follows it"
            )
        elif "error" not in event:
            if self.APPROVE in event["chosen_options"]:
                with quotable(context):
                    self._must_be_what_was_asked(context)
            self.log.info("%s, says %s", event["chosen_options"][0], event["responded_by_user"])
        return super().execute_complete(context, event)

    def _ask(self, context: "Context") -> None:
        with explained():
            config = self.read_config()
        if promotes(context["params"], context["dag_run"].run_type) == "never":
            self.log.info("this run registers its model and does not promote it, so nobody is asked")
            return
        day = night_day(context, config.schedule)
        judged = self._judged(config, day)
        context["ti"].xcom_push(key=_ASKED_ABOUT, value=judged.attempt)
        self.subject = f"Shall the model {self.model} of {day} serve?"
        self.body = self._summary(context, config, day, judged)
        for line in self.body.splitlines():
            self.log.info("%s", line)
        self._must_be_shown(context, day)
        ApprovalOperator.execute(self, context)

    def _judged(self, config: ModelConfig, day: date) -> StageResult:
        # Only here: boto3 has no place in the parsing of a DAG.
        from embft.storage import Storage

        with explained():
            gate = Storage(config.storage).read_result(Paths(config.storage.artifacts, self.model).stage(day, "gate"))
        if gate is None:
            raise AirflowFailException(
                f"the gate has no result of {day}; clear the task `gate` with all that follows it"
            )
        return gate

    def _summary(self, context: "Context", config: ModelConfig, day: date, judged: StageResult) -> str:
        summary = self._printed(context, explain_arguments(self.model, day, markdown=True), config).strip()
        report = pages_of(judged, config.storage).get("Report")
        return f"{summary}\n\n[The night's report](<{report}>)" if report else summary

    def _must_be_what_was_asked(self, context: "Context") -> None:
        with explained():
            config = self.read_config()
        day = night_day(context, config.schedule)
        asked_about = context["ti"].xcom_pull(task_ids=self.task_id, key=_ASKED_ABOUT)
        if self._judged(config, day).attempt != asked_about:
            raise AirflowFailException(
                f"somebody approved, but the gate has judged {day} anew since that was asked, so the answer is about "
                f"another model; trigger this DAG once more with Day {day}, and answer there"
            )

    def _must_be_shown(self, context: "Context", day: date) -> None:
        # Airflow keeps the first question of a task that is cleared, and shows it again in place of a new one.
        from airflow.sdk.execution_time.comms import CreateHITLDetailPayload
        from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

        question = CreateHITLDetailPayload(
            ti_id=context["ti"].id,
            options=self.options,
            subject=self.subject,
            body=self.body,
            defaults=self.defaults,
            multiple=self.multiple,
            params=self.serialized_params,
            assigned_users=[],
        )
        shown = SUPERVISOR_COMMS.send(question)
        if shown.body != self.body:
            raise AirflowFailException(
                "since this task was asked first, the gate has judged anew, and Airflow goes on showing the old "
                f"figures; trigger this DAG once more with Day {day}: it finds every stage done, and asks with the new "
                "ones"
            )
