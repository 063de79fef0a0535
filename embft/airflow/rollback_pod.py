"""A rollback that runs in a pod, where `publish` does."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from embft.airflow.cluster import LastLook
from embft.airflow.pod_end import exit_code
from embft.airflow.pod_result import printed_blocks
from embft.airflow.pods import StagePodOperator
from embft.airflow.rollback import RollbackTask, parse_printed
from embft.config import ModelConfig
from embft.errors import EXIT_OK

if TYPE_CHECKING:
    from airflow.sdk import Context


@dataclass(frozen=True)
class _Done:
    printed: dict[str, Any]
    uri: str
    status: Literal["done"] = "done"


class RollbackPodOperator(RollbackTask, StagePodOperator):
    """Runs `python -m embft rollback …` in a pod.

    Here the exit code has the last word: the command is the same however often it runs, so a pod that got lost is
    followed by another.
    """

    def conclude(self, context: "Context", config: ModelConfig, result: Any) -> None:
        """Tell downstream DAGs which version serves.

        Args:
            context: The task's context.
            config: The model's config.
            result: Of the pod.
        """
        super().conclude(context, config, result.printed)

    def _names_of_run(self, context: "Context", config: ModelConfig) -> dict[str, str]:
        return {}

    def _found(self, context: "Context", config: ModelConfig, look: LastLook, since: datetime) -> _Done | None:
        if look.pod is None or exit_code(look.pod, self.base_container_name) != EXIT_OK:
            return None
        records = filter(None, map(parse_printed, printed_blocks(look.lines)))
        return _Done(next(records, {}), f"the history of {self.model}")
