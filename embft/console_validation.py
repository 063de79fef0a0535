"""What a person reads in the terminal about a table that a suite judged. Its texts are a stranger's: none is obeyed."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from embft.console_logs import harmless
from embft.stages.by_hand import JudgedRule, Judgement
from embft.validation.wording import figure


def print_judgement(found: Judgement) -> None:
    """Print whether a night would stop, why, what else to know, and every broken rule.

    Args:
        found: What the suite said.
    """
    console = Console(highlight=False)
    word, colour = ("would stop a night", "red") if found.reasons else ("would go on", "green")
    whose = f"the rules of {found.model}" if found.model else "the shared rules"
    console.print(
        Text(f"{found.suite}: {word}", colour)
        + Text(harmless(f" ({found.input}, {figure(found.rows)} rows, by {whose})"), "default"),
        soft_wrap=True,
    )
    for name, style, sentences in (
        ("stops", "red", found.reasons),
        ("warning", "yellow", found.warnings),
        ("note", "dim", [*found.notes, *_not_judged(found.rules)]),
    ):
        for sentence in sentences:
            console.print(Text(f"{name}: ", style) + Text(harmless(sentence), "default"), soft_wrap=True)
    broken = [rule for rule in found.rules if rule.success is False]
    if broken:
        console.print(_table_of(broken, found.suite))


def _not_judged(rules: Iterable[JudgedRule]) -> list[str]:
    """Say in a sentence for each reason which rules were not judged."""
    names: dict[str, list[str]] = {}
    for rule in rules:
        if rule.skipped:
            names.setdefault(rule.skipped, []).append(rule.name)
    return [f"not judged, {reason}: {', '.join(them)}" for reason, them in names.items()]


def _table_of(broken: list[JudgedRule], suite: str) -> Table:
    table = Table("rule", "severity", "found", "must hold", "rows", "examples", title="Broken rules")
    for rule in broken:
        cells = (
            rule.name if rule.suite == suite else f"{rule.suite}: {rule.name}",
            rule.severity,
            _found(rule),
            rule.rule,
            figure(rule.broken_rows) if rule.kind == "row" else "",
            ", ".join(rule.examples or rule.broken_days),
        )
        table.add_row(*(Text(harmless(cell)) for cell in cells))
    return table


def _found(rule: JudgedRule) -> str:
    if rule.error or rule.kind == "row":
        return rule.error or ""
    return f"{figure(rule.observed)} on the newest day" if rule.kind == "day" else figure(rule.observed)
