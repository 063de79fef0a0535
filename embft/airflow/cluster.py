"""Talks to the cluster with patience: while its API is away, the pod trains on, and giving up would lose its work."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import tenacity
from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import (
    TRANSIENT_CONNECTION_ERRORS,
    TRANSIENT_STATUS_CODES,
    WaitRetryAfterOrExponential,
)
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager
from kubernetes.client.exceptions import ApiException

log = logging.getLogger(__name__)

# A control plane that is upgraded, or moves to another machine, is away for minutes. The provider waits 15 seconds.
PATIENCE_S = 900.0
# Right after its start a control plane may refuse for some seconds what it allows; a missing right stays missing.
REFUSED_S = 60.0
_REFUSED = (401, 403)
# The printed result is the last of a log; it has some lines for each output.
_LAST_LINES = 2000
_LOG_TIMEOUT_S = 60
# Events of this type say what is wrong; of the others only the autoscaler's refusal does.
_TELLING = ("Warning", "NotTriggerScaleUp")
_MAX_EVENTS = 3

P = ParamSpec("P")
T = TypeVar("T")


def is_away(error: BaseException | None) -> bool:
    """Say whether an error means that the cluster's API did not answer, or could not for now."""
    if isinstance(error, ApiException):
        return error.status in TRANSIENT_STATUS_CODES
    return isinstance(error, TRANSIENT_CONNECTION_ERRORS)


def is_refused(error: BaseException | None) -> bool:
    """Say whether an error means that the cluster does not let us do it, or did not know us."""
    return isinstance(error, ApiException) and error.status in _REFUSED


def patient(call: Callable[P, T]) -> Callable[P, T]:
    """Repeat a call for as long as `PATIENCE_S` while the cluster's API is away.

    Args:
        call: May be repeated without harm.

    Returns:
        The same call; what it raises at last is its own error.
    """
    return tenacity.retry(
        retry=tenacity.retry_if_exception(is_away),
        # Keeps to Retry-After where the API names one.
        wait=WaitRetryAfterOrExponential(),
        stop=lambda state: (state.seconds_since_start or 0) > PATIENCE_S,
        before_sleep=tenacity.before_sleep_log(log, logging.WARNING),
        reraise=True,
    )(call)


def _insisting(call: Callable[P, T]) -> Callable[P, T]:
    """Repeat a call that the cluster refuses, for as long as `REFUSED_S`."""
    return tenacity.retry(
        retry=tenacity.retry_if_exception(is_refused),
        wait=tenacity.wait_exponential(max=10),
        stop=lambda state: (state.seconds_since_start or 0) > REFUSED_S,
        before_sleep=tenacity.before_sleep_log(log, logging.WARNING),
        reraise=True,
    )(call)


def is_gone(error: BaseException | None) -> bool:
    """Say whether an error means that the cluster has no such pod."""
    return isinstance(error, ApiException) and error.status == 404


@dataclass(frozen=True)
class LastLook:
    """What the cluster still knew of a pod, right before it was deleted.

    Args:
        pod: As last seen.
        gone: The cluster has it no more.
        lines: The end of its log; empty where it cannot be read any more.
        events: What went wrong in the cluster's words, the newest last.
        trouble: What made the operator stop watching, if it was an error.
    """

    pod: Any
    gone: bool = False
    lines: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    trouble: BaseException | None = None


class PatientPodManager(PodManager):  # type: ignore[misc]
    """The provider's own, with more patience, and a last look at a pod."""

    read_pod = patient(_insisting(PodManager.read_pod))
    read_pod_logs = patient(PodManager.read_pod_logs)
    delete_pod = patient(PodManager.delete_pod)

    @patient
    def create_pod(self, pod: Any) -> Any:
        """Create a pod once, however often the answer is lost.

        Args:
            pod: Has a name that no other try uses.

        Returns:
            The pod as the cluster has it.

        Raises:
            ApiException: The cluster refuses the pod.
        """
        try:
            return self.run_pod_async(pod)
        except ApiException as error:
            if error.status != 409:
                raise
            try:
                # Made by an earlier call of ours, whose answer was lost.
                return self.read_pod(pod)
            except ApiException:
                raise error from None

    def last_look(self, pod: Any, container: str, trouble: BaseException | None = None) -> LastLook:
        """Read all that goes with the pod when it is deleted.

        Args:
            pod: As last seen.
            container: Name of the stage's container.
            trouble: What made the operator stop watching.

        Returns:
            The look. What cannot be read is left out: none of it decides alone.

        Raises:
            ApiException: The cluster does not let us read pods.
        """
        try:
            pod = self.read_pod(pod)
        except ApiException as error:
            if not is_gone(error):
                raise
            return LastLook(pod, gone=True, trouble=trouble)
        return LastLook(pod, lines=self._last_lines(pod, container), events=self._warnings(pod), trouble=trouble)

    def _last_lines(self, pod: Any, container: str) -> tuple[str, ...]:
        try:
            answer = self._client.read_namespaced_pod_log(
                pod.metadata.name,
                pod.metadata.namespace,
                container=container,
                tail_lines=_LAST_LINES,
                _preload_content=False,
                _request_timeout=_LOG_TIMEOUT_S,
            )
            return tuple(answer.data.decode(errors="backslashreplace").splitlines())
        except (ApiException, *TRANSIENT_CONNECTION_ERRORS) as error:
            log.info("the log of pod %s cannot be read any more: %s", pod.metadata.name, error)
            return ()

    def _warnings(self, pod: Any) -> tuple[str, ...]:
        try:
            events = self.read_pod_events(pod).items
        except (ApiException, *TRANSIENT_CONNECTION_ERRORS) as error:
            log.info("the events of pod %s cannot be read: %s", pod.metadata.name, error)
            return ()
        told = [it.message for it in events if it.type in _TELLING or it.reason in _TELLING]
        return tuple(dict.fromkeys(filter(None, told)))[-_MAX_EVENTS:]
