"""What the gate decided, rule by rule."""

from datetime import date
from typing import Literal

from pydantic import Field

from embft.results import Record


class RuleVerdict(Record):
    """One rule of the gate with its figure and its limit."""

    rule: str
    measure: str
    figure: float | None = Field(description="What was found: the candidate's own figure, or its gain. None: nothing.")
    low: float | None = Field(None, description="Lower end of its interval.")
    high: float | None = None
    limit: float
    bound: Literal["at_most", "at_least"]
    is_share: bool = Field(description="The figure is a share (a gain), not in the measure's own unit.")
    passed: bool
    sentence: str


class Decision(Record):
    """`decision.json`: may the candidate serve, and why."""

    model: str
    day: date
    passed: bool
    reason: str = Field(description="One sentence that a person can act on.")
    candidate: str = Field(description="`challenger`, or `interpolation`.")
    opponent: str = Field(description="`champion`, or `base` before the first promotion.")
    detectable: float | None = Field(
        description="Smallest true relative gain of the loss that this night could have shown, in 8 of 10 cases."
    )
    rules: tuple[RuleVerdict, ...]
    warnings: tuple[str, ...] = Field((), description="What a person should know, whatever the rules say; sentences.")
