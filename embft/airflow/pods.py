"""Stages that run in a pod: the very same command as on the worker, and the result file has the last word.

What happens when a pod, a worker or the cluster fails is written down, case by case, in docs/pods.md.
"""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property, partial
from itertools import filterfalse
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.backcompat.backwards_compat_converters import convert_env_vars_or_raise_error
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.pod_generator import make_safe_label_value
from airflow.sdk import BranchMixIn
from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException

from embft.airflow.actor import ACTOR
from embft.airflow.cluster import LastLook, PatientPodManager, is_away, is_gone, is_refused, patient
from embft.airflow.outcome import explained
from embft.airflow.pod_end import PodEnd, has_ended, is_dying
from embft.airflow.pod_result import find_result, printed_result
from embft.airflow.pod_spec import pod_settings
from embft.airflow.quote import quotable
from embft.airflow.task import GateTask, StageTask
from embft.config import ModelConfig

if TYPE_CHECKING:
    from airflow.sdk import Context

# In the trigger's event: a task that wakes up is a new object, and only the event and the context are left of the old.
_SINCE = "embft_pod_created"
_LOOK_EVERY_S = 2
# Beside its grace period, a pod may need this long to be gone.
_DYING_S = 30


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
    env_vars: Any
    ui_color = "#e3e8f6"
    # Day and command are known when the task starts; so the rendered template shows what was really run.
    overwrite_rtif_after_execution = True
    _executes = False
    _look: LastLook | None = None

    def __init__(self, *, stage: str, model: str, include: str, log_day: str | None = None, **kwargs: Any) -> None:
        self._describe(stage, model, include, log_day)
        super().__init__(**{**pod_settings(self.read_config(), stage, include), **kwargs})

    def execute(self, context: "Context") -> Any:
        """Run the stage in a pod, then let its result file say how it ended.

        Args:
            context: The task's context.

        Returns:
            The result's URI; for `plan` the days to pull. A task that is deferred returns them when it wakes up.

        Raises:
            AirflowException: No result of this run is there, and a retry may help; else AirflowFailException.
        """
        with quotable(context):
            config = self._begin(context)
            self._wait_for_dying_pods(context)
            result = self._result_of_an_earlier_try(context, config)
            if result is None:
                self._executes = True
                try:
                    result = self._result_after(partial(super().execute, context), context, config)
                finally:
                    self._executes = False
            return self._end(context, config, result)

    def trigger_reentry(self, context: "Context", event: dict[str, Any]) -> Any:
        """Wake up after the trigger, and conclude as `execute` does.

        Args:
            context: The task's context.
            event: The trigger's.

        Returns:
            As `execute`.

        Raises:
            AirflowException: As `execute`.
        """
        if self._executes:
            # The operator's own call: the pod had ended before the task could be deferred. `execute` concludes.
            return super().trigger_reentry(context, event)
        config = self._begin(context)
        # Known from here on, so that `on_kill` ends it.
        self.pod = k8s.V1Pod(metadata=k8s.V1ObjectMeta(name=event["name"], namespace=event["namespace"]))
        if _SINCE in event:
            self._since = datetime.fromisoformat(event[_SINCE])
            self.trigger_kwargs = {_SINCE: event[_SINCE]}
        wake_up = partial(super().trigger_reentry, context, event)

        def when_the_cluster_answers() -> Any:
            self._wait_for_the_cluster(event["name"], event["namespace"])
            return wake_up()

        return self._end(context, config, self._result_after(when_the_cluster_answers, context, config))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: "Context") -> Any:
        """Wake up; where Airflow does so only to fail the task, for its trigger died or ran out of time, conclude too.

        Args:
            next_method: Airflow's.
            next_kwargs: Airflow's.
            context: The task's context.

        Returns:
            As `execute`.

        Raises:
            AirflowException: As `execute`.
        """
        wake_up = partial(super().resume_execution, next_method, next_kwargs, context)
        with quotable(context):
            if next_method != TRIGGER_FAIL_REPR or not _is_last_try(context):
                # A later try goes on with the pod.
                return wake_up()
            config = self._begin(context)
            for pod in self._my_pods(context):
                self.pod, self._since = pod, pod.metadata.creation_timestamp
                self._look = self.pod_manager.last_look(pod, self.base_container_name)
            return self._end(context, config, self._result_after(wake_up, context, config))

    @cached_property
    def pod_manager(self) -> PatientPodManager:
        """The provider's, with more patience."""
        return PatientPodManager(kube_client=self.client, callbacks=self.callbacks)

    def build_pod_request_obj(self, context: "Context | None" = None, **options: Any) -> Any:
        """Spell the pod; the try's number is no part of the labels by which a later try finds it.

        Args:
            context: The task's context.
            options: Of the provider's method.

        Returns:
            The pod.
        """
        pod = super().build_pod_request_obj(context, **options)
        if context:
            pod.metadata.labels["embft-attempt"] = str(context["ti"].try_number)
        return pod

    @patient
    def find_pod(self, namespace: str, context: "Context", *, exclude_checked: bool = True) -> Any:
        """Find this task's pod, with patience.

        Args:
            namespace: Where to look.
            context: The task's context.
            exclude_checked: Leave out pods whose end was judged.

        Returns:
            The pod, or None.
        """
        return super().find_pod(namespace, context, exclude_checked=exclude_checked)

    @patient
    def get_or_create_pod(self, pod_request_obj: Any, context: "Context") -> Any:
        """Find the pod that an earlier try left running, or create one, with patience.

        Args:
            pod_request_obj: The pod to create.
            context: The task's context.

        Returns:
            The pod.

        Raises:
            AirflowException: The task was told to stop meanwhile.
        """
        pod = super().get_or_create_pod(pod_request_obj, context)
        if self._killed:
            # Told to stop while the cluster was asked: `on_kill` knew of no pod yet.
            self.pod_manager.delete_pod(pod)
            raise AirflowException("the task was told to stop before its pod had started")
        self._since = pod.metadata.creation_timestamp or self._since
        self.trigger_kwargs = {_SINCE: self._since.isoformat()}
        return pod

    def is_istio_enabled(self, pod: Any) -> bool:
        """Say whether something runs beside the stage, of any kind: then the stage's end is waited for, not the pod's.

        Args:
            pod: As created; what a cluster's webhooks have put beside the stage is not in it.

        Returns:
            True where the cluster's pod has more containers than the stage's.

        Raises:
            ApiException: The cluster does not let us read pods.
        """
        try:
            return bool(pod) and len(self.pod_manager.read_pod(pod).spec.containers) > 1
        except ApiException as error:
            if not is_gone(error):
                raise
            return False

    def cleanup(self, pod: Any, remote_pod: Any, xcom_result: Any = None, context: "Context | None" = None) -> None:
        """Take a last look at the pod, then remove it; a pod that nobody could ask after is left to the retry.

        Args:
            pod: As created.
            remote_pod: As last seen.
            xcom_result: Unused.
            context: The task's context.
        """
        # The operator calls this while its own error, if there is one, is on its way up.
        trouble = sys.exception()
        if self._killed or not remote_pod or (context and self._leaves_it_running(context, trouble)):
            return
        look = self._look = self.pod_manager.last_look(remote_pod, self.base_container_name, trouble)
        if not look.gone:
            super().cleanup(pod, look.pod, xcom_result=xcom_result, context=context)

    def _begin(self, context: "Context") -> ModelConfig:
        # `dag.test()` runs every try on one object, where a worker has a fresh one.
        self.pod = self.remote_pod = self.pod_request_obj = None
        self.do_xcom_push = self._killed = False
        self.links = {}
        self._look = None
        self._since = datetime.now(UTC)
        with explained():
            config = self.read_config()
        self.arguments = [_as_it_stands(it) for it in self.arguments_for(context, config)]
        others = [it for it in convert_env_vars_or_raise_error(self.env_vars) if it.name != ACTOR]
        self.env_vars = [*others, k8s.V1EnvVar(name=ACTOR, value=_as_it_stands(self.actor_for(context)))]
        named = self._names_of_run(context, config)
        self.labels = {**self.labels, **{name: make_safe_label_value(value) for name, value in named.items()}}
        return config

    def _names_of_run(self, context: "Context", config: ModelConfig) -> dict[str, str]:
        day = self.day_of(context, config).isoformat()
        return {"embft-day": day, **({"embft-log-day": self.log_day} if self.log_day else {})}

    def _found(self, context: "Context", config: ModelConfig, look: LastLook, since: datetime) -> Any:
        day = self.day_of(context, config)
        return find_result(config, self.stage, day, printed_result(look.lines), since)

    def _end(self, context: "Context", config: ModelConfig, result: Any) -> Any:
        # Off until here, since it would add a sidecar to the pod; from here on it only lets Airflow keep the URI.
        self.do_xcom_push = True
        return self.conclude(context, config, result)

    def _result_after(self, watch: Callable[[], Any], context: "Context", config: ModelConfig) -> Any:
        trouble: Exception | None = None
        try:
            watch()
        except Exception as error:
            # Not the last word: a pod that vanished after it wrote its result has done its work.
            trouble = error
        if self._leaves_it_running(context, trouble):
            why = " ".join(str(trouble).split())
            raise AirflowException(
                f"the cluster's API is away or refuses ({why}); a pod that runs is left running, and the retry "
                "goes on with it"
            ) from trouble
        self._remove_what_is_left(context)
        # No look was taken where the operator never came to its cleanup.
        look = self._look or LastLook(self.remote_pod, gone=bool(self.pod) and is_gone(trouble), trouble=trouble)
        with explained():
            result = self._found(context, config, look, self._since)
        if result is None:
            PodEnd(look, self.base_container_name, config.runtime).fail()
        if trouble and result.status == "done":
            self.log.warning("the pod ended badly (%s), but its result is there and whole: %s", trouble, result.uri)
        return result

    def _wait_for_dying_pods(self, context: "Context") -> None:
        # A pod that was told to stop still saves its checkpoint. This try would end with it if it joined it, and would
        # do its last steps again if it did not wait. A lost node's pod is never gone, so the wait has an end.
        limit = time.monotonic() + self.termination_grace_period + _DYING_S
        known: set[str] = set()
        while dying := list(filter(is_dying, self._my_pods(context))):
            for pod in dying:
                if pod.metadata.name not in known:
                    known.add(pod.metadata.name)
                    self.log.info("waiting for pod %s of an earlier try, which is being stopped", pod.metadata.name)
                    self.patch_already_checked(pod, reraise=False)
            if time.monotonic() > limit:
                self.log.warning("%s will not go; another pod starts beside it", ", ".join(known))
                return
            time.sleep(_LOOK_EVERY_S)

    def _result_of_an_earlier_try(self, context: "Context", config: ModelConfig) -> Any:
        # Pods that ended while no worker watched; the provider deletes them unread, and trains once more.
        for pod in self._my_pods(context):
            if is_dying(pod) or not has_ended(pod, self.base_container_name):
                continue
            self.log.info("pod %s of an earlier try ended while nobody watched", pod.metadata.name)
            # It may stand there for a while after its deletion, where something beside its stage has to stop.
            self.patch_already_checked(pod, reraise=False)
            look = self.pod_manager.last_look(pod, self.base_container_name)
            try:
                with explained():
                    result = self._found(context, config, look, pod.metadata.creation_timestamp)
                if result:
                    return result
                PodEnd(look, self.base_container_name, config.runtime).fail()
            except AirflowFailException:
                raise
            except AirflowException as error:
                self.log.warning("it left no result of use (%s); another pod starts", error)
            finally:
                self.pod_manager.delete_pod(pod)
        return None

    def _leaves_it_running(self, context: "Context", trouble: BaseException | None) -> bool:
        # Refused, it may be for a moment: what we cannot read we do not delete.
        blind = is_away(trouble) or (is_refused(trouble) and self.pod is not None)
        return blind and not _is_last_try(context)

    @patient
    def _wait_for_the_cluster(self, name: str, namespace: str) -> None:
        # So that a waking task does not take the API's absence for the pod's.
        try:
            self.remote_pod = self.hook.get_pod(name, namespace)
        except Exception as error:
            if not is_gone(error):
                raise
            self._look = LastLook(None, gone=True)

    @patient
    def _my_pods(self, context: "Context") -> list[Any]:
        selector = self._build_find_pod_label_selector(context, exclude_checked=False)
        return list(self.client.list_namespaced_pod(namespace=self.namespace, label_selector=selector).items)

    def _remove_what_is_left(self, context: "Context") -> None:
        # Also what the operator has lost sight of: no pod outlives its task.
        try:
            for pod in filterfalse(is_dying, self._my_pods(context)):
                self.log.info("removing pod %s, which this task has left", pod.metadata.name)
                self.pod_manager.delete_pod(pod)
        except Exception as error:
            # The result is what counts; and the pod has its own deadline.
            self.log.warning("what this task has left in the cluster could not be removed: %s", error)


def _as_it_stands(text: str) -> str:
    # Kubernetes puts the pod's variables, secrets too, in place of $(NAME), and $ in place of $$.
    return text.replace("$", "$$")


def _is_last_try(context: "Context") -> bool:
    ti = context["ti"]
    return bool(ti.try_number > ti.max_tries)


class GatePodOperator(GateTask, StagePodOperator, BranchMixIn):  # type: ignore[misc]
    """Runs the gate in a pod, and follows the branch that it decides for."""
