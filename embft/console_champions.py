"""What a person reads in the terminal about champions: their history, and a rollback."""

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from embft.stages.champions import Champions
from embft.stages.rollback import Rollback


def print_champions(found: Champions) -> None:
    """Print every change of champion, and who served when it was asked for.

    Args:
        found: The history.
    """
    console = Console()
    if found.on is not None:
        for it in found.served:
            console.print(f"version {it.version} of night {it.day}, from {it.since:%Y-%m-%d %H:%M} on", highlight=False)
        if not found.served:
            console.print(f"no version of {found.model} served on {escape(found.on)}", highlight=False)
        return
    # Who and why are sentences: they would make a table's columns too narrow to read.
    for entry in found.entries:
        kind = f"{entry.kind}, forced" if entry.forced else entry.kind
        change = f"{entry.before or 'none'} → {entry.to} of night {entry.day}"
        console.print(
            f"[bold]{entry.number:>3}  {entry.at:%Y-%m-%d %H:%M}  {escape(kind)}: {escape(change)}[/]  "
            f"{escape(entry.effect)}",
            highlight=False,
            soft_wrap=True,
        )
        for told in (entry.who, entry.why):
            console.print(Padding(escape(told), (0, 0, 0, 5)), highlight=False)
    serves = f"version {found.champion} of {found.model} serves" if found.champion else f"no {found.model} serves yet"
    back = f"; a rollback goes to {found.previous}" if found.previous else ""
    console.print(f"{serves}{back}", highlight=False)


def print_rollback(done: Rollback) -> None:
    """Print what a rollback came to.

    Args:
        done: The rollback.
    """
    console = Console()
    console.print(escape(done.said), highlight=False, soft_wrap=True)
    if done.number is not None:
        console.print(f"  entry {done.number} of the history, by {escape(done.who or '')}: {escape(done.why or '')}")
    vectors = f"those of version {done.pointer}" if done.pointer else "none are published of it yet"
    console.print(f"  vectors: {vectors}", highlight=False)
    for warning in done.warnings:
        console.print(f"  [yellow]warning:[/] {escape(warning)}", highlight=False, soft_wrap=True)
