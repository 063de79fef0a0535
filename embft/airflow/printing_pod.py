"""Tasks whose only result is what their command prints, in a pod."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from embft.airflow.cluster import LastLook
from embft.airflow.pod_end import exit_code
from embft.airflow.pod_result import printed_blocks
from embft.airflow.pods import StagePodOperator
from embft.airflow.printing import PrintingTask
from embft.config import ModelConfig
from embft.errors import EXIT_OK

if TYPE_CHECKING:
    from airflow.sdk import Context


@dataclass(frozen=True)
class _Done:
    printed: dict[str, Any]
    uri: str
    status: Literal["done"] = "done"


class PrintingPodOperator(PrintingTask, StagePodOperator):
    """Runs the command in a pod.

    Here the exit code has the last word: the command may run however often, so a pod that got lost is followed by
    another.
    """

    def conclude(self, context: "Context", config: ModelConfig, result: Any) -> None:
        """Conclude from what the pod printed.

        Args:
            context: The task's context.
            config: The model's config.
            result: Of the pod.
        """
        self.conclude_printed(context, config, result.printed)

    def _found(self, context: "Context", config: ModelConfig, look: LastLook, since: datetime) -> _Done | None:
        if look.pod is None or exit_code(look.pod, self.base_container_name) != EXIT_OK:
            return None
        records = filter(None, map(self.parse_printed, printed_blocks(look.lines)))
        return _Done(next(records, {}), self.kept_in)
