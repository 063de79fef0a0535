"""What a person reads in the terminal: a stage's result, and the gate's decision."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from embft.promotion.decision import Decision, RuleVerdict
from embft.results import StageResult


def print_result(result: StageResult) -> None:
    """Print a stage's outcome, its figures, and where to look.

    Args:
        result: As committed.
    """
    console = Console()
    seconds = (result.finished_utc - result.started_utc).total_seconds()
    colour = "red" if result.status == "rejected" else "green"
    how = "up to date, nothing to do" if result.reused else f"{seconds:.1f} s"
    console.print(f"[{colour}]{result.stage} {result.model} {result.day}: {result.status}[/] ({how})")
    if result.reason:
        console.print(f"  {escape(result.reason)}", highlight=False)
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 2))
    for name, figure in _plain(result.figures):
        table.add_row(name, escape(figure))
    console.print(table)
    for name, url in {**result.links, "Result": result.uri}.items():
        console.print(f"  {name}: {escape(url)}", soft_wrap=True, highlight=False)


def print_decision(decision: Decision) -> None:
    """Print each rule of the gate with its figure and its limit, and the decision in a sentence.

    Args:
        decision: The gate's word.
    """
    console = Console()
    table = Table("rule", "figure", "interval", "limit", "verdict")
    for rule in decision.rules:
        table.add_row(*_cells(rule))
    console.print(table)
    console.print(escape(decision.reason), highlight=False, soft_wrap=True)
    for warning in decision.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False, soft_wrap=True)
    if decision.detectable is not None:
        console.print(_power(decision), highlight=False, soft_wrap=True)


def decision_markdown(decision: Decision) -> str:
    """Write the decision as Markdown, for a person who is asked to approve it.

    Args:
        decision: The gate's word.

    Returns:
        The reason, warnings if any, then a table of rules.
    """
    rows = [("rule", "figure", "interval", "limit", "verdict"), ("---",) * 5, *(_cells(it) for it in decision.rules)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    power = f"\n\n{_power(decision)}" if decision.detectable is not None else ""
    warnings = "".join(f"\n\n⚠ {it[:1].upper()}{it[1:]}." for it in decision.warnings)
    return f"**{decision.reason}**{warnings}\n\n{table}{power}\n"


def _cells(rule: RuleVerdict) -> tuple[str, str, str, str, str]:
    def shown(figure: float | None) -> str:
        return "–" if figure is None else f"{figure:+.1%}" if rule.is_share else f"{figure:.4f}"

    interval = "–" if rule.low is None or rule.high is None else f"{shown(rule.low)} to {shown(rule.high)}"
    limit = f"{'at most' if rule.bound == 'at_most' else 'at least'} {shown(rule.limit)}"
    return rule.rule, shown(rule.figure), interval, limit, "kept" if rule.passed else "broken"


def _power(decision: Decision) -> str:
    return (
        f"The smallest gain in validation loss over the {decision.opponent} that this night could have shown: "
        f"{decision.detectable:.1%}."
    )


def _plain(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Flatten figures one level deep; long lists (rules, distributions) are left to result.json."""
    rows: list[tuple[str, str]] = []
    for name, figure in figures.items():
        if isinstance(figure, Mapping):
            rows += [(f"{name}.{key}", _short(value)) for key, value in figure.items() if not isinstance(value, list)]
        elif not isinstance(figure, list) or len(figure) <= 31:
            rows.append((name, _short(figure)))
    return [(name, text) for name, text in rows if len(text) <= 400]


def _short(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
