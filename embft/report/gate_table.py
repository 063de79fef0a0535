"""The gate's rules as rows of a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from embft.promotion.decision import Decision, RuleVerdict
from embft.promotion.evaluation_record import Evaluation
from embft.promotion.wording import measure_name, model_name, opponent_of, where
from embft.promotion_config import GateRule
from embft.report.intervals import Interval, rule_svg
from embft.report.shortfall import needed
from embft.report.wording import Scale, limit_told


@dataclass(frozen=True)
class RuleRow:
    """One rule of the gate, worded.

    Args:
        name: As the config calls it.
        about: What it looks at.
        passed: Its verdict.
        sentence: What the gate says of it; shown where there is no figure.
        found: The figure; empty where there is none.
        interval: Of the figure; empty where it has none.
        limit: What is asked for.
        drawing: Of the three.
        needed: What would have kept a broken rule; empty where it was kept, or could not be judged.
    """

    name: str
    about: str
    passed: bool
    sentence: str
    found: str
    interval: str
    limit: str
    drawing: Markup
    needed: str


def rule_rows(decision: Decision, rules: Sequence[GateRule], evaluation: Evaluation) -> list[RuleRow]:
    """Word the verdicts.

    Args:
        decision: The gate's.
        rules: What it decided by, in the same order.
        evaluation: What it decided on.

    Returns:
        A row for each rule.
    """
    return [_row(rule, it, evaluation) for rule, it in zip(rules, decision.rules, strict=True)]


def _row(rule: GateRule, verdict: RuleVerdict, evaluation: Evaluation) -> RuleRow:
    scale = Scale(verdict)
    name = f"{measure_name(rule.measure)}{where(rule)}"
    found = None if verdict.figure is None else Interval(verdict.figure, verdict.low, verdict.high)
    is_ceiling = verdict.bound == "at_most"
    opponent = model_name(opponent_of(rule, evaluation))
    return RuleRow(
        name=verdict.rule,
        about=f"gain in {name} over the {opponent}" if verdict.is_share else name,
        passed=verdict.passed,
        sentence=verdict.sentence,
        found=scale.told(found.figure) if found else "",
        interval=scale.interval(verdict.low, verdict.high),
        limit=limit_told(rule, verdict, scale),
        drawing=rule_svg(found, verdict.limit, is_ceiling=is_ceiling, passed=verdict.passed) if found else Markup(""),
        needed=needed(rule, verdict, evaluation) if found and not verdict.passed else "",
    )
