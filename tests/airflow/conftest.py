"""Airflow reads its home when it is first imported, so it gets one in a temporary folder before any test does that."""

import os
import sys
import tempfile
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

if "airflow" not in sys.modules:
    os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="embft-airflow-home-")
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

from tests.airflow.project import Project, make_project

NIGHT = datetime(2026, 11, 10, 2, tzinfo=UTC)


class TaskInstance(SimpleNamespace):
    """As much of a task instance as the operators see."""

    def __init__(self, task: Any) -> None:
        super().__init__(
            task=task,
            task_id=task.task_id,
            dag_id="retrain_shop",
            map_index=-1,
            try_number=1,
            max_tries=0,
            start_date=datetime.now(UTC),
            xcoms={},
            pulled={},
        )

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def xcom_pull(self, task_ids: str) -> Any:
        return self.pulled.get(task_ids)


def make_context(task: Any, *, run: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
    """The context of a scheduled night, D = 2026-11-10, unless `run` says otherwise."""
    facts = {
        "run_type": "scheduled",
        "data_interval_start": NIGHT,
        "data_interval_end": NIGHT + timedelta(days=1),
        "run_after": NIGHT,
        "run_id": "scheduled__x",
        "triggering_user_name": None,
    }
    form = {"force": False, "promote": "auto", "window_days": None, "day": None}
    return {
        "dag_run": SimpleNamespace(**{**facts, **(run or {})}),
        "run_id": "scheduled__x",
        "params": {**form, **params},
        "ti": TaskInstance(task),
        "dag": SimpleNamespace(parent_dag=None),
        "outlet_events": defaultdict(SimpleNamespace),
    }


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = make_project(tmp_path / "project")
    made.add_model()
    return made
