"""A rollback that runs in a pod, where `publish` does."""

from typing import TYPE_CHECKING

from embft.airflow.printing_pod import PrintingPodOperator
from embft.airflow.rollback import RollbackTask
from embft.config import ModelConfig

if TYPE_CHECKING:
    from airflow.sdk import Context


class RollbackPodOperator(RollbackTask, PrintingPodOperator):
    """Runs `python -m embft rollback …` in a pod; the command is the same however often it runs."""

    def _names_of_run(self, context: "Context", config: ModelConfig) -> dict[str, str]:
        return {}
