"""How a pod's stage ended: the result in S3 decides, whatever the cluster says of the pod."""

import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, NoReturn

from airflow.providers.cncf.kubernetes.callbacks import KubernetesPodOperatorCallback
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from embft.airflow.outcome import START_AGAIN, fail, last_error, parse_result
from embft.config import ModelConfig
from embft.errors import EXIT_OK
from embft.paths import Paths
from embft.results import StageResult

# The pod's clock and the cluster's differ a little.
_CLOCKS_DIFFER = timedelta(seconds=60)
_KEPT_LINES = 200


class PrintedResult(KubernetesPodOperatorCallback):  # type: ignore[misc]
    """Listens to the pod's log for the result that the stage prints; the log carries stdout and stderr alike.

    It tells a result that was reused from one that this run failed to write. A log may be cut, so what is printed is
    believed only where S3 holds the same.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew, for another pod."""
        self.result: StageResult | None = None
        self.last_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._open: list[str] | None = None

    def progress_callback(self, *, line: str, **_: Any) -> None:
        """Take in a piece of the log.

        Args:
            line: One line, or several joined by line ends.
        """
        for part in line.splitlines():
            self.last_lines.append(part)
            self._take(part.rstrip())

    def _take(self, line: str) -> None:
        if line == "{":
            self._open = []
        if self._open is None:
            return
        self._open.append(line)
        if line == "}":
            self.result = parse_result("\n".join(self._open)) or self.result
            self._open = None


@dataclass(frozen=True)
class PodEnd:
    """What the cluster last said of a pod.

    Args:
        code: The container's exit code; None where the pod was lost before anybody could read one.
        created: When the pod was made; before the task's try, if that found it running.
        why: The cluster's words, where it was the cluster that ended the pod or never started it.
        out_of_memory: The container went over its own limit.
        said: The container's last words.
    """

    code: int | None
    created: datetime | None
    why: str
    out_of_memory: bool
    said: str

    @classmethod
    def of(cls, pod: Any, container: str, trouble: Exception | None) -> "PodEnd":
        """Read a pod's state.

        Args:
            pod: The pod as last seen, or None.
            container: Name of the stage's container.
            trouble: What the operator raised.

        Returns:
            The end.
        """
        status = pod.status if pod else None
        why = " ".join(filter(None, [status.reason, status.message])) if status else ""
        statuses = (status.container_statuses if status else None) or []
        ended = next((it.state.terminated for it in statuses if it.name == container and it.state), None)
        created = pod.metadata.creation_timestamp if pod else None
        if ended is None:
            return cls(None, created, why or str(trouble or ""), False, "")
        return cls(ended.exit_code, created, why, ended.reason == "OOMKilled", ended.message or "")

    def fail(self, lines: Iterable[str]) -> NoReturn:
        """Say why there is no result, by the exception that decides about a retry.

        Args:
            lines: The end of the pod's log.

        Raises:
            AirflowException: A retry may help.
            AirflowFailException: A retry cannot help.
        """
        if self.out_of_memory:
            # The limit is the pod's own: the next pod would meet the same.
            raise AirflowFailException(
                "the pod ran out of memory (OOMKilled): raise runtime.kubernetes.memory and clear this task, or lower "
                f"training.settings.batch_size and {START_AGAIN}"
            )
        if self.code is None or self.why:
            raise AirflowException(f"the pod was lost before its stage had a result: {self.why or 'no reason given'}")
        if self.code == EXIT_OK:
            raise AirflowException(
                "the pod succeeded, but its stage left no result of this run; a pod that is told to stop "
                "before its stage has begun ends like this"
            )
        fail(self.code, last_error(list(lines) or self.said.splitlines()))


def find_result(
    config: ModelConfig, stage: str, day: date, printed: StageResult | None, since: datetime
) -> StageResult | None:
    """Read the stage's committed result, if it is this run's.

    Args:
        config: The model's config.
        stage: The stage.
        day: The night's day.
        printed: What the stage printed, if its log came through.
        since: When the pod was made.

    Returns:
        The result that S3 holds, if the stage printed the same (it may have been reused), or wrote it since then.
    """
    # Only here: boto3 has no place in the parsing of a DAG.
    from embft.storage import Storage

    paths = Paths(config.storage.artifacts, config.name)
    # A pulled log day is kept outside the night; only its print says where.
    prefix = os.path.dirname(printed.uri) if printed else paths.stage(day, stage)
    stored = Storage(config.storage).read_result(prefix)
    if stored is None or stored.stage != stage:
        return None
    if printed and printed.attempt == stored.attempt:
        return printed
    return stored if stored.started_utc >= since - _CLOCKS_DIFFER else None
