"""What a suite's run came to. JSON-able, free of Great Expectations."""

from typing import Any, Literal

from pydantic import Field

from embft.results import Record


class RuleOutcome(Record):
    """One rule after its run."""

    type: str
    column: str | None = Field(description="The column, or columns joined by a comma; None for rules on the table.")
    kind: Literal["row", "set"]
    severity: Literal["critical", "warning"]
    rule: str = Field(description="The rule in words, such as `query_length must be at least 1`.")
    why: str
    success: bool | None = Field(description="None where the rule could not be judged; `skipped` says why.")
    observed: Any = None
    broken_rows: int = 0
    examples: list[str] = Field(default_factory=list, description="At most three, quoted and cut.")
    error: str | None = Field(None, description="What Great Expectations raised instead of an answer.")
    skipped: str | None = None


class Verdict(Record):
    """What a suite says about a frame."""

    suite: str
    rows: int = Field(description="Rows that were examined.")
    success: bool = Field(description="No rule was broken, warnings included.")
    critical_rows: Literal["set_aside", "reject"] = Field(description="What a broken critical row-level rule does.")
    rules: list[RuleOutcome]
    broken: dict[int, list[str]] = Field(
        description="Position of a row in the frame → every critical row-level rule that it breaks, in words."
    )
    rejections: list[str] = Field(description="Why the run must stop; empty where it may go on.")
    warnings: list[str]
    notes: list[str] = Field(default_factory=list, description="Rules that could not be judged, and why.")

    @property
    def rejected(self) -> bool:
        """Whether the run must stop."""
        return bool(self.rejections)
