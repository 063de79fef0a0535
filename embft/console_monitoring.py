"""What a person reads in the terminal of the champion on a day's clicks."""

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from embft.monitoring.day import MonitoredDay, Shown, Traffic
from embft.monitoring_config import MAIN_MEASURE
from embft.results import StageResult


def print_monitored(result: StageResult) -> None:
    """Print a monitored day: what was measured, slice by slice, and what the day's log was like.

    Args:
        result: Of `monitor`.
    """
    console = Console()
    day = None if result.status == "rejected" else MonitoredDay.model_validate(result.figures)
    said = day.status.replace("_", " ") if day else result.status
    colour = "green" if day and day.status == "measured" else "yellow" if day else "red"
    how = " (up to date, nothing to do)" if result.reused else ""
    console.print(f"[{colour}]monitor {result.model} {result.day}: {said}[/]{how}")
    reason = day.reason if day else result.reason
    if reason:
        console.print(f"  {escape(reason)}", highlight=False, soft_wrap=True)
    if day and day.status == "measured":
        console.print(_figures(day))
    if day:
        for line in (_traffic(day.traffic), *(f"warning: {it}" for it in day.traffic.warnings)):
            console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
    for name, url in {**result.links, "Result": result.uri}.items():
        console.print(f"  {name}: {escape(url)}", soft_wrap=True, highlight=False)


def _figures(day: MonitoredDay) -> Table:
    version = f"version {day.champion} of {day.champion_day}, {day.vectors} vectors"
    table = Table("queries", "distinct", "clicks", "nDCG@10", "±", "base", "promised", "val_loss", title=version)
    for it in day.sets:
        shown = day.shown(it.name)
        if shown and it.n_sessions:
            table.add_row(it.name, str(it.n_queries), str(it.n_sessions), *_row(day, it.name, shown))
    return table


def _row(day: MonitoredDay, name: str, shown: Shown) -> list[str]:
    promised = day.promised.get(name)
    return [
        _figure(shown.figures, MAIN_MEASURE),
        _figure(shown.errors, MAIN_MEASURE),
        _figure(day.base(name), MAIN_MEASURE),
        _figure(promised.figures if promised else {}, MAIN_MEASURE),
        _figure(shown.figures, "val_loss"),
    ]


def _figure(figures: Mapping[str, float | None], measure: str) -> str:
    figure = figures.get(measure)
    return "–" if figure is None else f"{figure:.3f}"


def _traffic(traffic: Traffic) -> str:
    lost = f", {traffic.lost_sessions} of them on items that cannot be found" if traffic.lost_sessions else ""
    changes = (
        ""
        if traffic.items_added is None
        else f" ({traffic.items_added} new, {traffic.items_removed} gone since the day monitored before)"
    )
    return (
        f"{traffic.sessions} searches, {traffic.clicked_sessions} with a click{lost}; {traffic.lines} log lines, "
        f"{traffic.quarantined} not readable; {traffic.items} items{changes}"
    )
