"""What a person reads in the terminal about alerts: what was told now, what is open, and what waits for a channel."""

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from embft.monitoring.message import Message
from embft.stages.open_alerts import OpenAlerts
from embft.stages.tell import Told

_COLOURS = {"info": "green", "warning": "yellow", "critical": "red"}


def print_told(told: Told) -> None:
    """Print what was told, and what became of each message at each channel.

    Args:
        told: What was told.
    """
    console = Console()
    for message in told.messages:
        console.print(f"{_marked(message)} {_title(message)}", highlight=False, soft_wrap=True)
    for it in told.deliveries:
        why = f": {escape(it.reason)}" if it.reason else ""
        console.print(f"  {it.outcome}  {escape(it.channel)}  {it.message}{why}", highlight=False, soft_wrap=True)
    if not told.messages and not told.deliveries:
        console.print(f"there is nothing new to tell of {told.model}", highlight=False)


def print_open_alerts(found: OpenAlerts) -> None:
    """Print the open incidents, and the messages that wait for a channel.

    Args:
        found: How the alerts stand.
    """
    console = Console()
    if found.incidents:
        table = Table("incident", "since", "told", Column("what", overflow="fold"), box=None, title_justify="left")
        for it in found.incidents:
            told = f"{it.at_utc:%Y-%m-%d %H:%M} UTC"
            table.add_row(f"[{_COLOURS[it.severity]}]{it.incident}[/]", it.since.isoformat(), told, _title(it))
        console.print(table, highlight=False)
    else:
        console.print(f"no incident of {found.model} is open", highlight=False)
    for kept in found.kept:
        names = escape(", ".join(kept.channels))
        console.print(f"waits for {names}: {_title(kept.message)}", highlight=False, soft_wrap=True)
    if found.kept:
        console.print(f"`embft alerts tell --model {found.model}` sends what waits", highlight=False)


def _marked(message: Message) -> str:
    return f"[{_COLOURS[message.severity]}]{message.state}, {message.severity}[/]"


def _title(message: Message) -> str:
    # Titles hold what stages and people said: nothing that a terminal obeys.
    printable = "".join(it for it in message.words.title if it.isprintable())
    return escape(f"{printable}{' (synthetic data)' if message.synthetic else ''}")
