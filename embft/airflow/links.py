"""Buttons on a task's page: the stage's result, its MLflow run, its report, its Data Docs.

Airflow computes a link on the worker, right after the task, and stores it as an XCom. A link without an address is
stored as "", for which the interface shows no button at all.
"""

from typing import Any

from airflow.sdk import BaseOperatorLink

from embft.config import StorageConfig
from embft.results import StageResult


class StageLink(BaseOperatorLink):  # type: ignore[misc]
    """One page that the stage's result points to.

    Args:
        name: Name of the link in `StageResult.links`, and on the button.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        """The button's text."""
        return self._name

    @property
    def xcom_key(self) -> str:
        """One key for each name: Airflow's default has one for each class."""
        return f"_link_{self._name.lower().replace(' ', '_')}"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Give the address, on the worker, from what the task has just learned.

        Args:
            operator: The stage's task, after it ran.
            ti_key: Unused: a task links to its own result.

        Returns:
            A web address, or "" where there is none.
        """
        address = str(operator.links.get(self._name, ""))
        return address if address.startswith(("http://", "https://")) else ""


STAGE_LINKS = tuple(StageLink(name) for name in ("Result", "MLflow run", "Report", "Data Docs"))


def pages_of(result: StageResult, storage: StorageConfig) -> dict[str, str]:
    """Gather the pages of a result.

    Args:
        result: Of a stage.
        storage: Names the browser of the storage, if there is one.

    Returns:
        Button → address: the result's own links, and the result itself where the storage can be browsed.
    """
    pages = dict(result.links)
    if page := storage.page_of(result.uri):
        pages.setdefault("Result", page)
    return pages
