"""What a person reads in the terminal of a replay. Its texts may hold a stranger's: none is obeyed."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from embft.console_logs import harmless
from embft.monitoring.message import Message
from embft.monitoring.replay import Replay

_COLOURS = {"opened": "red", "changed": "red", "recovered": "green", "happened": "default"}


def print_replay(found: Replay) -> None:
    """Print what would have been told on which day, and which days no rule could judge.

    Args:
        found: The replay.
    """
    console = Console(highlight=False)
    if not found.n_days:
        console.print(
            f"no monitored day of {found.model} there; "
            f"`embft monitor --model {found.model} --day YYYY-MM-DD` measures one",
            soft_wrap=True,
            markup=False,
        )
        return
    span = f"{found.n_days} monitored {'day' if found.n_days == 1 else 'days'}, {found.first} to {found.last}"
    n = len(found.messages)
    told = f"{n} {'message' if n == 1 else 'messages'}" if n else "nothing would have been told"
    synthetic = " (synthetic data)" if found.synthetic else ""
    console.print(Text(f"{found.model}{synthetic}: {told} in {span}"), soft_wrap=True)
    if found.messages:
        console.print(_table(found.messages))
    for it in found.not_judged:
        days = str(it.first) if it.first == it.last else f"{it.first} to {it.last}"
        console.print(Text(harmless(f"not judged by {it.rule}, {days}: {it.reason}"), "dim"), soft_wrap=True)


def _table(messages: tuple[Message, ...]) -> Table:
    table = Table("day", "told", "severity", "incident", "words", box=None, padding=(0, 1, 0, 0))
    for it in messages:
        lines = [it.words.title, *(f"{cause.what}: {cause.evidence}" for cause in it.words.causes)]
        state = Text(it.state, _COLOURS[it.state])
        table.add_row(str(it.day), state, it.severity, it.incident, Text("\n".join(map(harmless, lines))))
    return table
