"""How a pod ended without a result, in words that say what to change, and whether a retry can help."""

import json
import signal
from dataclasses import dataclass
from typing import Any, NoReturn

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout
from kubernetes.client.exceptions import ApiException

from embft.airflow.cluster import LastLook, is_gone
from embft.airflow.outcome import START_AGAIN, fail, last_error
from embft.config import Kubernetes, Runtime
from embft.errors import EXIT_OK, TemporaryError

_NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable")
# Wrong as spelt, on every node and for ever.
_NEVER_AN_IMAGE = ("InvalidImageName", "ErrImageNeverPull")
_REFUSED = (400, 422)
# How a stage ends that is told to stop, whether it hears it or not.
_STOPPED = (EXIT_OK, TemporaryError.exit_code, 128 + signal.SIGTERM, 128 + signal.SIGKILL)
_REMOVED = "somebody or the cluster removed it while it ran, as for a drained node or a more urgent pod"


def has_ended(pod: Any, container: str) -> bool:
    """Say whether a pod's stage has ended, for better or worse.

    Args:
        pod: As the cluster has it.
        container: Name of the stage's container.

    Returns:
        True where the pod is over, or its container is while something beside it still runs.
    """
    return pod.status.phase in ("Succeeded", "Failed") or _state(pod, container, "terminated") is not None


def exit_code(pod: Any, container: str) -> int | None:
    """Give the exit code of a pod's stage; None where it has not ended, or nobody knows."""
    ended = _state(pod, container, "terminated") if pod.status else None
    return int(ended.exit_code) if ended else None


def is_dying(pod: Any) -> bool:
    """Say whether the cluster has been asked to remove a pod that is still there, in its grace period."""
    return pod.metadata.deletion_timestamp is not None


@dataclass(frozen=True)
class PodEnd:
    """What is known of a pod that left no result.

    Args:
        look: The last look at it; its pod is None where nobody saw one.
        container: Name of the stage's container.
        runtime: The config's section, for what to change in it.
    """

    look: LastLook
    container: str
    runtime: Runtime

    def fail(self) -> NoReturn:
        """Say why there is no result, by the exception that decides about a retry.

        Raises:
            AirflowException: A retry may help.
            AirflowFailException: A retry cannot help.
        """
        pod = self.look.pod
        if pod is None or pod.status is None:
            self._fail_without_pod()
        if pod.status.reason:
            self._fail_by_the_cluster(pod.status.reason, pod.status.message or "")
        ended = _state(pod, self.container, "terminated")
        if ended:
            self._fail_by_exit_code(ended, _disruptions(pod))
        if pod.status.phase == "Pending" and not self.look.gone:
            self._fail_before_the_start(pod)
        if isinstance(self.look.trouble, AirflowTaskTimeout):
            raise AirflowException(
                "the task came to its time limit and ended its pod; if its stage needs longer, raise "
                f"runtime.timeout_s, which is {self.runtime.timeout_s}"
            )
        raise AirflowException(f"the pod was lost before its stage had a result: {self._how_it_was_lost(pod)}")

    def _fail_without_pod(self) -> NoReturn:
        trouble = self.look.trouble
        if self.look.gone:
            raise AirflowException(f"the pod was lost before its stage had a result: {_REMOVED}")
        if isinstance(trouble, ApiException) and trouble.status in _REFUSED:
            raise AirflowFailException(
                f"the cluster refuses the pod ({trouble.status}): {_said(trouble)}; correct runtime.kubernetes or the "
                "pod template"
            ) from trouble
        if isinstance(trouble, ApiException):
            # Retried: a quota that is used up looks like a right that is missing, and a namespace may come back.
            raise AirflowException(
                f"the cluster made no pod ({trouble.status}): {_said(trouble)}; if it comes again, correct "
                "runtime.kubernetes, or what the namespace allows Airflow's account"
            ) from trouble
        raise AirflowException(f"no pod came of this try: {trouble or 'no reason given'}") from trouble

    def _fail_by_the_cluster(self, reason: str, message: str) -> NoReturn:
        # Comes before any exit code: a container that is evicted ends with 137, as one does that is out of memory.
        if reason == "Evicted":
            raise AirflowException(
                f"the node evicted the pod (Evicted: {message}); if it comes again, give the pod what it uses: "
                "runtime.kubernetes.memory, or a larger scratch volume in the pod template"
            )
        if reason == "DeadlineExceeded":
            limit = self.runtime.timeout_s + self._kubernetes.startup_timeout_s
            raise AirflowException(
                f"the cluster ended the pod after {limit} s (DeadlineExceeded); if its stage needs longer, raise "
                f"runtime.timeout_s, which is {self.runtime.timeout_s}"
            )
        raise AirflowException(f"the cluster ended the pod before its stage had a result ({reason}: {message})")

    def _fail_by_exit_code(self, ended: Any, disruptions: list[str]) -> NoReturn:
        if disruptions and ended.exit_code in _STOPPED:
            raise AirflowException(
                f"the cluster took the pod away before its stage had a result ({'; '.join(disruptions)}); the stage "
                f"ended with exit code {ended.exit_code}, and goes on from its last checkpoint"
            )
        if ended.reason == "OOMKilled":
            # The limit is the pod's own: the next pod would meet the same.
            raise AirflowFailException(
                f"the pod ran out of memory (OOMKilled at {self._kubernetes.memory}): raise runtime.kubernetes.memory "
                f"and clear this task, or lower training.settings.batch_size and {START_AGAIN}"
            )
        if ended.exit_code == EXIT_OK:
            raise AirflowException(
                "the pod succeeded, but its stage left no result of this run; a pod that is told to stop "
                "before its stage has begun ends like this"
            )
        fail(ended.exit_code, last_error(self.look.lines or (ended.message or "").splitlines()))

    def _fail_before_the_start(self, pod: Any) -> NoReturn:
        kubernetes, waiting = self._kubernetes, _state(pod, self.container, "waiting")
        said = "; ".join(self.look.events) or "no event says why"
        if waiting and waiting.reason in _NEVER_AN_IMAGE:
            raise AirflowFailException(
                f"the image {kubernetes.image} can never be pulled ({waiting.reason}: {waiting.message}); correct "
                "runtime.kubernetes.image"
            )
        if waiting and waiting.reason in _NO_IMAGE:
            # Retried: a registry that is away looks the same, no GPU is lost by it, and nobody may be awake.
            raise AirflowException(
                f"the image {kubernetes.image} cannot be pulled ({waiting.reason}: {waiting.message}); check that "
                "runtime.kubernetes.image is in the registry, and that the pod template or its service account names a "
                "pull secret (imagePullSecrets)"
            )
        scheduled = any(it.type == "PodScheduled" and it.status == "True" for it in pod.status.conditions or [])
        if not scheduled:
            raise AirflowException(
                f"the cluster found no node for the pod within runtime.kubernetes.schedule_timeout_s, which is "
                f"{kubernetes.schedule_timeout_s}: {said}; free a node, raise that limit, or ask for less"
            )
        why = f"{waiting.reason}: {waiting.message}; {said}" if waiting else said
        raise AirflowException(
            f"the pod did not start within runtime.kubernetes.startup_timeout_s, which is "
            f"{kubernetes.startup_timeout_s} ({why})"
        )

    def _how_it_was_lost(self, pod: Any) -> str:
        marks = _disruptions(pod)
        if self.look.gone or is_gone(self.look.trouble):
            marks.append(_REMOVED)
        return "; ".join(marks) or str(self.look.trouble or "no reason given")

    @property
    def _kubernetes(self) -> Kubernetes:
        # A pod's task cannot be made without the section.
        assert self.runtime.kubernetes is not None
        return self.runtime.kubernetes


def _said(error: ApiException) -> str:
    # The API's own sentence, out of the object that carries it.
    try:
        return str(json.loads(error.body)["message"])
    except (KeyError, TypeError, ValueError):
        return str(error.body or error.reason)


def _state(pod: Any, container: str, kind: str) -> Any:
    statuses = pod.status.container_statuses or []
    return next((getattr(it.state, kind) for it in statuses if it.name == container and it.state), None)


def _disruptions(pod: Any) -> list[str]:
    # The cluster marks a pod that it takes away: pre-empted by a more urgent one, its node drained or gone.
    conditions = [it for it in pod.status.conditions or [] if it.type == "DisruptionTarget" and it.status == "True"]
    return [f"{it.reason}: {it.message}" for it in conditions]
