"""What a suite's run came to. JSON-able, free of Great Expectations."""

from typing import Any, Literal

from pydantic import Field

from embft.results import Record
from embft.validation.wording import examples_in_words, figure, percent


class RuleOutcome(Record):
    """One rule after its run."""

    name: str
    type: str
    column: str | None = Field(description="The column, or columns joined by a comma; None for rules on the table.")
    kind: Literal["row", "day", "set"]
    severity: Literal["critical", "warning"]
    rule: str = Field(description="The rule in words, such as `query_length must be at least 1`.")
    why: str
    remedy: str = ""
    success: bool | None = Field(description="None where the rule could not be judged; `skipped` says why.")
    observed: Any = Field(None, description="Of a rule on the days' figures: what the newest day has.")
    broken_rows: int = 0
    found: str = Field(
        "", description="The figure against its limit; empty where the rule holds, or `broken_days` has figures."
    )
    broken_days: dict[str, str] = Field(default_factory=dict, description="Day → its figure against the limit.")
    examples: list[str] = Field(default_factory=list, description="At most three, quoted and cut.")
    error: str | None = Field(None, description="What Great Expectations raised instead of an answer.")
    skipped: str | None = None

    def sentence(self, found: str) -> str:
        """Say what was found, by which rule, why it matters and what to do next.

        Args:
            found: The figure against its limit, such as `found` or one of `broken_days`.

        Returns:
            A sentence for the person on call.
        """
        remedy = f"; next: {self.remedy}" if self.remedy else ""
        return f"{found}{examples_in_words(self.examples)} (rule {self.name}): {self.why}{remedy}"


class Excess(Record):
    """More rows were set aside than may be."""

    rows_of: str = Field(description="What the rows are, such as `sessions of 2011-10-20`.")
    n_broken: int
    rows: int
    limit: float
    worst: RuleOutcome = Field(description="The rule that most rows break.")

    @property
    def found(self) -> str:
        """The figure against its limit."""
        return (
            f"{figure(self.n_broken)} of {figure(self.rows)} {self.rows_of} ({percent(self.n_broken / self.rows)}) "
            f"were set aside, more than validation.max_quarantined allows ({percent(self.limit)})"
        )

    @property
    def sentence(self) -> str:
        """The whole of it, for the person on call."""
        worst = self.worst
        return (
            f"{self.found}; the rule that most rows break, {figure(worst.broken_rows)} in all, is {worst.name}, "
            f"“{worst.rule}”{examples_in_words(worst.examples)}: {worst.why}"
            f"{f'; next: {worst.remedy}' if worst.remedy else ''}"
        )


class Verdict(Record):
    """What a suite says about a table.

    A broken critical rule on a day's figures is in no list here: what becomes of the day is the caller's to say.
    """

    suite: str
    rows: int = Field(description="Rows that were examined.")
    n_broken: int = Field(description="Rows that break a critical row-level rule.")
    success: bool = Field(description="No rule was broken, warnings included.")
    critical_rows: Literal["set_aside", "reject"] = Field(description="What a broken critical row-level rule does.")
    rules: list[RuleOutcome]
    rejections: list[str] = Field(description="Why the run must stop; empty where it may go on.")
    warnings: list[str]
    notes: list[str] = Field(default_factory=list, description="Rules that could not be judged, and why.")

    @property
    def rejected(self) -> bool:
        """Whether the run must stop."""
        return bool(self.rejections)

    def days_broken(self, severity: Literal["critical", "warning"]) -> dict[str, list[str]]:
        """Tell which days break a rule on their figures.

        Args:
            severity: Of the rules to look at.

        Returns:
            Day → a sentence for each rule, in the suite's order. A figure that breaks a critical rule is not told
            again by a warning.
        """
        days: dict[str, list[str]] = {}
        critical = {
            (rule.column, day) for rule in self.rules if rule.severity == "critical" for day in rule.broken_days
        }
        for rule in self.rules:
            for day, found in rule.broken_days.items() if rule.severity == severity else ():
                if severity == "critical" or (rule.column, day) not in critical:
                    days.setdefault(day, []).append(rule.sentence(found))
        return days
