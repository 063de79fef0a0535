"""Buttons of a task: computed after it ran, absent where there is no page."""

import pytest

from embft.airflow.links import STAGE_LINKS
from embft.airflow.operators import StageOperator
from tests.airflow.conftest import make_context
from tests.airflow.project import Project


def links_after(project: Project, links: dict[str, str]) -> dict[str, str]:
    project.behave(evaluate={"links": links})
    task = StageOperator(task_id="evaluate", stage="evaluate", model="shop", include=str(project.include))
    task.execute(make_context(task))
    return {link.name: link.get_link(task, ti_key=None) for link in task.operator_extra_links}


def test_each_page_of_the_result_is_a_link(project: Project) -> None:
    found = links_after(project, {"MLflow run": "http://mlflow/run/1", "Report": "https://pages/report.html"})
    assert found["MLflow run"] == "http://mlflow/run/1"
    assert found["Report"] == "https://pages/report.html"
    assert found["Result"] == "http://browse.test/bucket/models/shop/runs/2026-11-10/evaluate/result.json"


def test_a_link_without_a_page_is_empty(project: Project) -> None:
    assert links_after(project, {})["Data Docs"] == ""


@pytest.mark.parametrize("address", ["javascript:alert(1)", "s3://bucket/x", "file:///etc/passwd"])
def test_only_web_addresses_become_links(project: Project, address: str) -> None:
    assert links_after(project, {"Report": address})["Report"] == ""


def test_links_before_the_task_ran_are_empty(project: Project) -> None:
    task = StageOperator(task_id="evaluate", stage="evaluate", model="shop", include=str(project.include))
    assert {link.get_link(task, ti_key=None) for link in task.operator_extra_links} == {""}


def test_each_link_is_stored_under_its_own_key() -> None:
    keys = [link.xcom_key for link in STAGE_LINKS]
    assert len(set(keys)) == len(keys)
    assert "_link_mlflow_run" in keys
