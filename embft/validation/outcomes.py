"""What Great Expectations found, made into outcomes of rules, and those into a verdict with its sentences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embft.validation.engine import Finding
from embft.validation.verdicts import RuleOutcome, Verdict
from embft.validation.wording import columns_of, figure, in_words, observation, percent, quoted
from embft.validation_config import Expectation

if TYPE_CHECKING:
    from embft.validation.suites import Figures

_MAX_OBSERVED = 20


@dataclass(frozen=True)
class Judged:
    """One rule's answer over all partitions.

    Args:
        finding: What the library said; of several partitions put together.
        n_broken: Rows that break the rule.
        examples: A few of them, in words.
    """

    finding: Finding
    n_broken: int = 0
    examples: list[str] = field(default_factory=list)


def outcome_of(
    rule: Expectation,
    judged: Judged | None,
    kind: Literal["row", "day", "set"],
    figures: "Figures",
    skipped: str | None,
    n_rows: int,
) -> RuleOutcome:
    """Say what became of one rule.

    Args:
        rule: The rule.
        judged: Its answer; None where it was not judged.
        kind: What it judges.
        figures: What rules on figures looked at.
        skipped: Why it was not judged; None where it was.
        n_rows: Rows that were examined.

    Returns:
        The outcome.
    """
    finding = judged.finding if judged else None
    columns = columns_of(rule)
    observed: Any = finding.observed if finding else None
    days: dict[str, str] = {}
    if len(figures.frame) and set(columns) & set(figures.frame.columns):
        observed = figures.frame[columns[0]].iloc[-1]
        if kind == "day" and finding and not finding.success:
            days = {str(figures.frame.index[at]): _of_day(rule, figures, at) for at in finding.positions.tolist()}
    observed = _jsonable(observed)
    success = None if skipped else bool(finding and finding.success)
    return RuleOutcome(
        name=rule.name,
        type=rule.type,
        column=", ".join(columns) or None,
        kind=kind,
        severity=rule.severity,
        rule=in_words(rule),
        why=rule.why,
        remedy=rule.remedy,
        success=success,
        observed=observed,
        found=_found(rule, judged, kind, observed, n_rows) if success is False and not days else "",
        broken_rows=judged.n_broken if judged and kind == "row" else 0,
        broken_days=days,
        examples=judged.examples if judged and kind == "row" else _context_of(rule, kind, figures),
        error=finding.error if finding else None,
        skipped=skipped,
    )


def verdict_of(
    suite: str,
    outcomes: Sequence[RuleOutcome],
    n_rows: int,
    n_broken: int,
    critical_rows: Literal["set_aside", "reject"],
) -> Verdict:
    """Put the outcomes of a suite together.

    Args:
        suite: The suite's name.
        outcomes: One for each of its rules.
        n_rows: Rows that were examined.
        n_broken: Rows that break a critical rule.
        critical_rows: What a broken critical row-level rule does.

    Returns:
        The verdict.
    """
    return Verdict(
        suite=suite,
        rows=n_rows,
        n_broken=n_broken,
        success=all(it.success is not False for it in outcomes),
        critical_rows=critical_rows,
        rules=list(outcomes),
        rejections=[it.sentence(it.found) for it in outcomes if _stops(it, critical_rows)],
        warnings=[
            it.sentence(it.found)
            for it in outcomes
            if it.success is False and it.severity == "warning" and not it.error and it.kind != "day"
        ],
        notes=[f"{it.rule} ({it.name}): not judged, {it.skipped}" for it in outcomes if it.skipped],
    )


def _stops(it: RuleOutcome, critical_rows: str) -> bool:
    """Whether the run must stop for a rule. What becomes of a day that breaks one is the caller's to say."""
    if it.error:
        return True
    if it.success is not False or it.severity == "warning":
        return False
    # A rule on the days' figures may judge all of them together, such as their mean; then it names no day.
    return not it.broken_days if it.kind == "day" else it.kind == "set" or critical_rows == "reject"


def _found(rule: Expectation, judged: Judged | None, kind: str, observed: Any, n_rows: int) -> str:
    if judged and judged.finding.error:
        return f"the rule “{in_words(rule)}” could not be checked: {quoted(judged.finding.error, 300)}"
    if kind == "row" and judged:
        share = percent(judged.n_broken / n_rows) if n_rows else "none"
        return f"{figure(judged.n_broken)} of {figure(n_rows)} rows ({share}) break “{in_words(rule)}”"
    return observation(rule, observed)


def _of_day(rule: Expectation, figures: "Figures", at: int) -> str:
    """Say what is wrong with one day, beside what is usual."""
    column, day = columns_of(rule)[0], str(figures.frame.index[at])
    context = figures.context.get(column, {}).get(day)
    found = observation(rule, _jsonable(figures.frame[column].iloc[at]))
    return f"{context}; {found}" if context else found


def _context_of(rule: Expectation, kind: str, figures: "Figures") -> list[str]:
    """Give what is to be said beside a figure of the whole set, such as the items that it comes from."""
    beside = {} if kind == "day" else figures.context.get(next(iter(columns_of(rule)), ""), {})
    return list(beside.values())


def _jsonable(value: Any) -> Any:
    """Give an observed value a JSON form: NumPy scalars unpacked, NaN as text, long lists and texts cut."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(key): _jsonable(part) for key, part in list(value.items())[:_MAX_OBSERVED]}
    if isinstance(value, list | tuple | set | np.ndarray):
        return [_jsonable(part) for part in list(value)[:_MAX_OBSERVED]]
    if value is None or isinstance(value, bool | int):
        return value
    return str(value)[:200]
