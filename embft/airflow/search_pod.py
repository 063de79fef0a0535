"""A worker of a night's search that runs in a pod, where `fine_tune` does."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from embft.airflow.cluster import LastLook
from embft.airflow.pod_end import exit_code
from embft.airflow.pod_result import printed_blocks
from embft.airflow.pods import StagePodOperator
from embft.airflow.search import SearchTask, parse_printed
from embft.config import ModelConfig
from embft.errors import EXIT_OK
from embft.paths import SEARCH

if TYPE_CHECKING:
    from airflow.sdk import Context


@dataclass(frozen=True)
class _Done:
    printed: dict[str, Any]
    uri: str
    status: Literal["done"] = "done"


class SearchPodOperator(SearchTask, StagePodOperator):
    """Runs `python -m embft search …` in a pod.

    Here the exit code has the last word: a pod that got lost after its last trial is followed by another, which finds
    the trials in MLflow and has nothing to do.

    Args:
        worker: Which of the search's workers this is; the first is 0.
        kwargs: Of `StagePodOperator`.
    """

    def __init__(self, *, worker: int, **kwargs: Any) -> None:
        super().__init__(stage=SEARCH, **kwargs)
        self.worker = worker

    def conclude(self, context: "Context", config: ModelConfig, result: Any) -> None:
        """Say in the task's log what the worker came to.

        Args:
            context: The task's context.
            config: The model's config.
            result: Of the pod.
        """
        super().conclude(context, config, result.printed)

    def _names_of_run(self, context: "Context", config: ModelConfig) -> dict[str, str]:
        # The map index tells workers apart as well; this is for people, and for a search of another width.
        return {**super()._names_of_run(context, config), "embft-worker": str(self.worker)}

    def _found(self, context: "Context", config: ModelConfig, look: LastLook, since: datetime) -> _Done | None:
        if look.pod is None or exit_code(look.pod, self.base_container_name) != EXIT_OK:
            return None
        records = filter(None, map(parse_printed, printed_blocks(look.lines)))
        return _Done(next(records, {}), f"the trials of worker {self.worker}")
