"""An approval is of what was asked about. The rest of it needs a scheduler: `test_promotion_standalone`."""

from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from embft.airflow import approve
from embft.airflow.approve import ApproveOperator


@pytest.mark.parametrize(("judged", "is_refused"), [("attempt-1", False), ("attempt-2", True)])
def test_a_yes_counts_for_the_decision_that_was_shown(
    judged: str, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = ApproveOperator(task_id="approve", stage="gate", model="shop", include="include", timeout=timedelta(hours=1))
    config = SimpleNamespace(schedule=None)
    monkeypatch.setattr(task, "read_config", lambda: config)
    monkeypatch.setattr(task, "_judged", lambda *_: SimpleNamespace(attempt=judged))
    monkeypatch.setattr(approve, "night_day", lambda *_: date(2026, 3, 10))
    context: Any = {"ti": SimpleNamespace(xcom_pull=lambda **_: "attempt-1")}
    if is_refused:
        with pytest.raises(AirflowFailException, match="the gate has judged 2026-03-10 anew"):
            task._must_be_what_was_asked(context)
    else:
        task._must_be_what_was_asked(context)
