"""Stages that run in a pod: the very same command as on the worker, and the result file has the last word."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.pod_generator import make_safe_label_value
from airflow.sdk import BranchMixIn

from embft.airflow.day import night_day
from embft.airflow.outcome import explained
from embft.airflow.pod_end import PodEnd, PrintedResult, find_result
from embft.airflow.pod_spec import pod_settings
from embft.airflow.task import GateTask, StageTask

if TYPE_CHECKING:
    from airflow.sdk import Context


class StagePodOperator(StageTask, KubernetesPodOperator):  # type: ignore[misc]
    """Runs one stage as `python -m embft <stage> …` in a pod.

    Args:
        stage: As in the DAG and on the command line.
        model: The model's name.
        include: The project's `include` folder, for the config and the pod template.
        log_day: For `pull`: the log day.
        kwargs: Of `KubernetesPodOperator`; they win over what the config says.
    """

    labels: dict[str, str]
    ui_color = "#e3e8f6"
    # Day and command are known when the task starts; so the rendered template shows what was really run.
    overwrite_rtif_after_execution = True

    def __init__(self, *, stage: str, model: str, include: str, log_day: str | None = None, **kwargs: Any) -> None:
        self._describe(stage, model, include, log_day)
        # An object, where the operator documents a class: it calls either.
        self._printed = PrintedResult()
        settings = pod_settings(self.read_config(), stage, include)
        super().__init__(**{**settings, "callbacks": [self._printed], **kwargs})

    def execute(self, context: "Context") -> Any:
        """Run the stage in a pod, then let its result file say how it ended.

        Args:
            context: The task's context.

        Returns:
            The result's URI; for `plan` the days to pull.

        Raises:
            AirflowException: No result of this run is there, and a retry may help; else AirflowFailException.
        """
        self._forget()
        with explained():
            config = self.read_config()
        day = night_day(context, config.schedule)
        self.arguments = self.arguments_for(context, config)
        self.labels = {**self.labels, "embft-day": make_safe_label_value(day.isoformat())}
        trouble: Exception | None = None
        try:
            super().execute(context)
        except Exception as error:
            # Not the last word: a pod that vanished after it wrote its result has done its work.
            trouble = error
        end = PodEnd.of(self.remote_pod, self.base_container_name, trouble)
        started = end.created or context["ti"].start_date or datetime.now(UTC)
        with explained():
            result = find_result(config, self.stage, day, self._printed.result, started)
        if result is None:
            end.fail(self._printed.last_lines)
        if trouble:
            self.log.warning("the pod ended badly (%s), but its result is there and whole: %s", trouble, result.uri)
        # Off until here, since it would add a sidecar to the pod; from here on it only lets Airflow keep the URI.
        self.do_xcom_push = True
        return self.conclude(context, config, result)

    def _forget(self) -> None:
        # `dag.test()` runs every try on one object, where a worker has a fresh one.
        self.pod = self.remote_pod = self.pod_request_obj = None
        self.do_xcom_push = False
        self.links = {}
        self._printed.forget()


class GatePodOperator(GateTask, StagePodOperator, BranchMixIn):  # type: ignore[misc]
    """Runs the gate in a pod, and follows `register` or `rejected`."""
