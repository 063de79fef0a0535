"""What Airflow knows of a run and S3 does not: which tasks failed for good, and that it is late."""

from datetime import date, datetime
from typing import Literal

from pydantic import Field

from embft.results import Record

Kind = Literal["retrain", "monitor", "rollback"]


class TaskFailure(Record):
    """A task that failed after its last try."""

    task: str
    tries: int | None = Field(None, description="None where Airflow does not say.")
    said: str | None = Field(None, description="The stage's own sentence; None where its worker was lost.")
    log_url: str | None = None


class Deadline(Record):
    """A run that is not over in time."""

    hours: float = Field(description="The limit, from when it was queued.")
    queued_utc: datetime


class RunFacts(Record):
    """One run of one of a model's DAGs."""

    kind: Kind
    run_id: str
    day: date | None = Field(None, description="Night or log day that it works on; None of a rollback.")
    url: str | None = Field(None, description="Of its page.")
    started_utc: datetime | None = None
    failed: tuple[TaskFailure, ...] = ()
    deadline: Deadline | None = None
