"""A worker of a night's search that runs in a pod, where `fine_tune` does."""

from typing import TYPE_CHECKING, Any

from embft.airflow.printing_pod import PrintingPodOperator
from embft.airflow.search import SearchTask
from embft.config import ModelConfig
from embft.paths import SEARCH

if TYPE_CHECKING:
    from airflow.sdk import Context


class SearchPodOperator(SearchTask, PrintingPodOperator):
    """Runs `python -m embft search …` in a pod.

    A pod that got lost after its last trial is followed by another, which finds the trials in MLflow and has nothing
    to do.

    Args:
        worker: Which of the search's workers this is; the first is 0.
        kwargs: Of `PrintingPodOperator`.
    """

    def __init__(self, *, worker: int, **kwargs: Any) -> None:
        super().__init__(stage=SEARCH, **kwargs)
        self.worker = worker

    def _names_of_run(self, context: "Context", config: ModelConfig) -> dict[str, str]:
        # The map index tells workers apart as well; this is for people, and for a search of another width.
        return {**super()._names_of_run(context, config), "embft-worker": str(self.worker)}
