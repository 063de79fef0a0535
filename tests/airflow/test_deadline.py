"""A late night, as Airflow's triggerer calls it: what is told of it, and what is not."""

import asyncio
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from embft.airflow import deadline
from tests.airflow.project import Project

# As Airflow's REST API describes a run; what is not read is left out.
NIGHT = {
    "dag_id": "retrain_shop",
    "dag_run_id": "scheduled__x",
    "run_type": "scheduled",
    "queued_at": "2026-11-11T02:00:03Z",
    "start_date": None,
    "end_date": None,
    "data_interval_start": "2026-11-10T02:00:00Z",
    "data_interval_end": "2026-11-11T02:00:00Z",
    "run_after": "2026-11-11T02:00:00Z",
    "conf": None,
}
BY_HAND = {"run_type": "manual", "data_interval_start": None, "data_interval_end": None}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMBFT_INCLUDE", raising=False)
    monkeypatch.setattr(deadline, "_PAUSE_S", 0.0)


def miss(project: Project, **run: Any) -> list[dict[str, Any]]:
    context = {"dag_run": NIGHT | run, "deadline": {"id": "1", "deadline_time": "2026-11-11T07:00:03Z"}}
    asyncio.run(deadline.missed("shop", str(project.include), 5.0, context))
    return project.told()


@pytest.mark.parametrize(
    ("run", "day"),
    [({}, "2026-11-10"), ({"conf": {"day": "2026-05-01"}}, "2026-05-01"), (BY_HAND, "2026-11-10")],
    ids=["scheduled", "by hand, day named", "by hand, no logical date"],
)
def test_a_late_night_is_told_with_its_day_even_if_it_never_started(
    project: Project, run: dict[str, Any], day: str
) -> None:
    [telling] = miss(project, **run)
    facts = telling["run"]
    assert (facts["kind"], facts["run_id"], facts["day"]) == ("retrain", "scheduled__x", day)
    assert facts["deadline"] == {"hours": 5.0, "queued_utc": "2026-11-11T02:00:03Z"}
    assert facts["started_utc"] is None


def test_nobody_waits_for_a_backfill(project: Project) -> None:
    assert miss(project, run_type="backfill") == []


def test_a_night_that_failed_in_time_is_not_late_but_gets_its_messages_another_chance(project: Project) -> None:
    [telling] = miss(project, end_date="2026-11-11T03:00:00Z")
    assert telling["run"] is None
    # One that ended too late was late.
    assert miss(project, end_date="2026-11-11T07:30:00Z")[1]["run"]["deadline"]


@pytest.mark.parametrize(
    ("behaviour", "tries", "error"),
    [
        ([{"exit": 75, "says": ["error: S3 is away"]}, {}], 2, None),
        ({"exit": 75, "says": ["error: S3 is away"]}, 3, AirflowException),
        ({"exit": 2, "says": ["error: no connection gone"]}, 1, AirflowFailException),
    ],
)
def test_airflow_calls_once_so_what_is_away_is_tried_again_here(
    project: Project, behaviour: Any, tries: int, error: type[Exception] | None
) -> None:
    project.behave(tell=behaviour)
    if error is None:
        miss(project)
    else:
        with pytest.raises(error):
            miss(project)
    assert len(project.told()) == tries
