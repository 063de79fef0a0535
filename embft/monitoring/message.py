"""What people are told, before any channel gives it a form; and the observation that it comes from.

Every text here is plain, and may hold what somebody typed into a search box: each channel escapes it in its own way.
"""

from datetime import date, datetime
from typing import Literal

from pydantic import Field

from embft.results import Record

Severity = Literal["info", "warning", "critical"]
Kind = Literal[
    "gate_rejected",
    "data_rejected",
    "stage_failed",
    "no_promotion",
    "deadline_missed",
    "regression",
    "rollback",
    "promotion",
    "test",
]
State = Literal["opened", "changed", "recovered", "happened"]


class Cause(Record):
    """Something that may explain what is told."""

    what: str = Field(description="In a few words: `The catalogue changed`.")
    evidence: str = Field(description="Figures: `41 of 437 items are gone since 2026-03-08`.")


class Chart(Record):
    """A measure over the last days."""

    label: str = Field(description="`nDCG@10, all queries`.")
    days: tuple[date, ...]
    figures: tuple[float | None, ...] = Field(description="One for each day; None: not measured, or too few clicks.")
    limit: float | None = Field(None, description="What the newest figure is held against.")


class Words(Record):
    """What is said of an incident."""

    title: str = Field(description="First line, plain: what, and how bad, the figure against its limit.")
    details: tuple[str, ...] = Field((), description="Sentences that follow.")
    causes: tuple[Cause, ...] = Field((), description="Likely ones, the likeliest first.")
    chart: Chart | None = None
    links: dict[str, str] = Field(default_factory=dict, description="Name → web address.")
    command: str | None = Field(None, description="What to run, such as the rollback.")


class Signal(Record):
    """One observation: an incident is there, or it is over. What nobody can tell (too few clicks) is no signal."""

    incident: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]*$", description="Names it, so that nights after it can tell it is the same."
    )
    kind: Kind
    day: date = Field(description="Night or log day that it is about; older ones never change what newer ones told.")
    state: Literal["on", "off", "happened"] = Field(description="`happened`: told once, it has no end.")
    cause: str = Field(
        "",
        description="Where it names something that the last one told does not, the incident has changed; `, ` parts.",
    )
    severity: Severity
    words: Words = Field(description="Of `off`: what to say at its recovery.")


class Message(Record):
    """One message about an incident. Never rewritten; the last one of an incident says how it stands."""

    id: str = Field(description="The same for the same change, whoever noticed it; receivers may drop a second one.")
    model: str
    incident: str
    number: int = Field(description="Of the incident's messages, from 1.")
    kind: Kind
    state: State
    severity: Severity
    cause: str = ""
    day: date
    since: date = Field(description="Day on which the incident opened.")
    at_utc: datetime
    receivers: tuple[str, ...] = Field((), description="Channels that it goes to, as routed when it was written.")
    synthetic: bool = Field(False, description="The model's clicks are simulated.")
    words: Words
