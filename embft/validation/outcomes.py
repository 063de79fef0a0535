"""What Great Expectations found, made into outcomes of rules, and those into a verdict with its sentences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embft.validation.engine import Finding
from embft.validation.verdicts import RuleOutcome, Verdict
from embft.validation.wording import (
    columns_of,
    examples_in_words,
    figure,
    in_words,
    observation,
    percent,
    quoted,
)
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
) -> RuleOutcome:
    """Say what became of one rule.

    Args:
        rule: The rule.
        judged: Its answer; None where it was not judged.
        kind: What it judges.
        figures: What rules on figures looked at.
        skipped: Why it was not judged; None where it was.

    Returns:
        The outcome.
    """
    finding = judged.finding if judged else None
    columns = columns_of(rule)
    observed: Any = finding.observed if finding else None
    days: dict[str, str] = {}
    if set(columns) & set(figures.frame.columns):
        observed = figures.frame[columns[0]].iloc[-1]
        if kind == "day" and finding and not finding.success:
            days = {str(figures.frame.index[at]): _of_day(rule, figures, at) for at in finding.positions.tolist()}
    return RuleOutcome(
        name=rule.name,
        type=rule.type,
        column=", ".join(columns) or None,
        kind=kind,
        severity=rule.severity,
        rule=in_words(rule),
        why=rule.why,
        remedy=rule.remedy,
        success=None if skipped else bool(finding and finding.success),
        observed=_jsonable(observed),
        broken_rows=judged.n_broken if judged and kind == "row" else 0,
        broken_days=days,
        examples=judged.examples if judged and kind == "row" else _context_of(rule, kind, figures),
        error=finding.error if finding else None,
        skipped=skipped,
    )


def verdict_of(
    suite: str,
    rules: Sequence[Expectation],
    outcomes: Sequence[RuleOutcome],
    n_rows: int,
    n_broken: int,
    critical_rows: Literal["set_aside", "reject"],
) -> Verdict:
    """Put the outcomes of a suite together.

    Args:
        suite: The suite's name.
        rules: Its rules.
        outcomes: One for each.
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
        rejections=_rejections(rules, outcomes, n_rows, critical_rows),
        warnings=[
            _sentence(rule, it, n_rows)
            for rule, it in zip(rules, outcomes, strict=True)
            if it.success is False and it.severity == "warning" and not it.error and it.kind != "day"
        ],
        notes=[f"{it.rule} ({it.name}): not judged, {it.skipped}" for it in outcomes if it.skipped],
    )


def _rejections(
    rules: Sequence[Expectation], outcomes: Sequence[RuleOutcome], n_rows: int, critical_rows: str
) -> list[str]:
    sentences = []
    for rule, it in zip(rules, outcomes, strict=True):
        if it.error:
            sentences.append(f"the rule “{it.rule}” could not be checked: {quoted(it.error, 300)} ({_ending(rule)}")
        elif it.success is False and it.severity == "critical":
            if it.kind == "set" or (it.kind == "row" and critical_rows == "reject") or _is_of_no_day(it):
                sentences.append(_sentence(rule, it, n_rows))
    return sentences


def _is_of_no_day(it: RuleOutcome) -> bool:
    """Whether a rule on the days' figures judges all of them together, such as their mean."""
    return it.kind == "day" and not it.broken_days


def _sentence(rule: Expectation, it: RuleOutcome, n_rows: int) -> str:
    if it.kind != "row":
        return f"{observation(rule, it.observed)}{examples_in_words(it.examples)} ({_ending(rule)}"
    share = percent(it.broken_rows / n_rows) if n_rows else "none"
    examples = examples_in_words(it.examples)
    return f"{figure(it.broken_rows)} of {figure(n_rows)} rows ({share}) break “{it.rule}”{examples} ({_ending(rule)}"


def _of_day(rule: Expectation, figures: "Figures", at: int) -> str:
    """Say what is wrong with one day, beside what is usual."""
    column, day = columns_of(rule)[0], str(figures.frame.index[at])
    context = figures.context.get(column, {}).get(day)
    found = observation(rule, _jsonable(figures.frame[column].iloc[at]))
    return f"{f'{context}; ' if context else ''}{found} ({_ending(rule)}"


def _context_of(rule: Expectation, kind: str, figures: "Figures") -> list[str]:
    """Give what is to be said beside a figure of the whole set, such as the items that it comes from."""
    beside = {} if kind == "day" else figures.context.get(next(iter(columns_of(rule)), ""), {})
    return list(beside.values())


def _ending(rule: Expectation) -> str:
    return f"rule {rule.name}): {rule.why}{f'; next: {rule.remedy}' if rule.remedy else ''}"


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
