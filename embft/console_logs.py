"""What a person reads in the terminal about a log that was inspected. Its texts are a stranger's: none is obeyed."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from embft.clickstream.inspection import Inspection

_MANY_DAYS = 10
_MANY_ACTIONS = 20
_MANY_KEYS = 25


def harmless(text: str) -> str:
    r"""Escape what a terminal obeys: control characters, changes of direction, half characters.

    Args:
        text: A stranger's.

    Returns:
        The text with each of those as Python writes it, such as \x1b.
    """
    return "".join(it if it.isprintable() else ascii(it)[1:-1] for it in text)


def _text(value: Any) -> Text:
    # No markup is looked for in a Text.
    return Text(harmless("" if value is None else str(value)))


def print_inspection(found: Inspection) -> None:
    """Print what was found, a day as it is read, and the config to paste.

    Args:
        found: The outcome of an inspection.
    """
    console = Console(highlight=False)
    _print_sample(console, found)
    _print_keys(console, found)
    _print_days(console, found)
    if found.accounting is not None:
        _print_day(console, found)
    for note in found.notes:
        console.print(Text("note: ", "yellow") + _text(note), soft_wrap=True)
    console.print("\n[bold]Config[/]: paste it into include/models/<name>.yaml")
    # Printed as it is, so that it can be pasted: it is ASCII, its control characters escaped.
    console.print(Text(found.config_yaml), soft_wrap=True)


def _print_sample(console: Console, found: Inspection) -> None:
    containers = ", ".join(f"{name} ({n})" for name, n in found.containers.items())
    console.print(
        Text("Log ", "bold") + _text(found.uri) + f": {found.objects} objects, {_size(found.size_bytes)}",
        soft_wrap=True,
    )
    console.print(
        f"  looked at {found.sampled_lines} lines in {found.sampled_objects} of the objects "
        f"({_size(found.sampled_bytes)}): {containers}",
        soft_wrap=True,
    )
    console.print(Text("  format: ") + Text(found.format or "cannot be told", "bold" if found.format else "bold red"))


def _print_keys(console: Console, found: Inspection) -> None:
    table = Table("field", "path in the line", "types", "in lines", "example", title="Fields", title_justify="left")
    for key in found.keys:
        if key.field:
            table.add_row(key.field, *map(_text, (key.path, ", ".join(key.types), f"{key.share:.1%}", key.example)))
    for name in found.missing:
        table.add_row(name, Text("not found", "red"), "", "", "")
    console.print(table)
    if others := [it for it in found.keys if not it.field]:
        told = ", ".join(f"{it.path} ({'/'.join(it.types)}, {it.share:.0%})" for it in others[:_MANY_KEYS])
        more = f" and {len(others) - _MANY_KEYS} more" if len(others) > _MANY_KEYS else ""
        console.print(_text(f"  not used: {told}{more}"), soft_wrap=True)
    for action, names in found.actions.items():
        console.print(_text(f"  {action}: {', '.join(names)}"))
    if left_out := list(found.other_actions.items()):
        told = ", ".join(f"{name} ({n})" for name, n in left_out[:_MANY_ACTIONS])
        more = f" and {len(left_out) - _MANY_ACTIONS} more" if len(left_out) > _MANY_ACTIONS else ""
        console.print(_text(f"  actions left out: {told}{more}"), soft_wrap=True)


def _print_days(console: Console, found: Inspection) -> None:
    console.print("\n[bold]Days[/]")
    for template in found.templates:
        console.print(_text(f"  {template}"), soft_wrap=True)
    if found.first_day:
        missing = ", ".join(map(str, found.missing_days[:_MANY_DAYS])) or "none"
        more = f" and {len(found.missing_days) - _MANY_DAYS} more" if len(found.missing_days) > _MANY_DAYS else ""
        console.print(f"  from {found.first_day} to {found.last_day}; missing in between: {missing}{more}")
    if found.earliest and found.latest:
        console.print(
            f"  times in the sample: {found.earliest:%Y-%m-%d %H:%M:%S} to {found.latest:%Y-%m-%d %H:%M:%S} UTC"
        )


def _print_day(console: Console, found: Inspection) -> None:
    table = Table("time", "query", "shown", "clicked", "client", title=f"Sessions of {found.read_day}, the first ones")
    for it in found.sessions:
        shown = "not logged" if it["shown"] is None else it["shown"]
        table.add_row(*map(_text, (it["time"][:19], it["query"], shown, ", ".join(it["clicked"]), it["client"])))
    console.print(table)
    counts = found.accounting or {}
    console.print(
        f"  {counts['lines']} lines = {counts['used']} used in {counts['sessions']} sessions + "
        f"{counts['duplicates']} duplicates + {sum(counts['filtered'].values())} filtered + "
        f"{counts['quarantined']} in quarantine",
        soft_wrap=True,
    )
    _print_reasons(console, "filtered", counts["filtered"], {})
    _print_reasons(console, "quarantine", counts["quarantined_by_reason"], found.reasons)


def _print_reasons(console: Console, what: str, counts: Mapping[str, int], examples: Mapping[str, str]) -> None:
    for reason, n_lines in counts.items():
        example = f"; such as {examples[reason]}" if reason in examples else ""
        console.print(_text(f"    {what} {reason}: {n_lines}{example}"), soft_wrap=True)


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 100_000 else f"{n_bytes} bytes"
