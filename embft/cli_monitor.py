"""`embft monitor`: the champion on a day's clicks, without any training; and the regression rules on past days."""

from datetime import date
from typing import Annotated

import typer

from embft.cli_shared import Model, exit_codes, parse_day, print_json, stdout_kept_for_the_result
from embft.config import include_folder
from embft.errors import DataRejected


def monitor(
    model: Model,
    day: Annotated[
        date | None, typer.Option(parser=parse_day, metavar="YYYY-MM-DD", help="Day whose clicks are looked at.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Measure again, with today's catalogue, even where the day's record stands.")
    ] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Say what the rules, as they are now, would have told on which past day.")
    ] = False,
    from_day: Annotated[
        date | None,
        typer.Option("--from", parser=parse_day, metavar="YYYY-MM-DD", help="Of a replay: first day that may tell."),
    ] = None,
    to_day: Annotated[
        date | None, typer.Option("--to", parser=parse_day, metavar="YYYY-MM-DD", help="Of a replay: last day.")
    ] = None,
) -> None:
    """Measure the champion on a day's clicks, whether or not the night's training succeeded; add it to the history.

    With --replay: measure nothing, tell nobody, and show what would have been told.
    """
    if (day is None) != replay:
        raise typer.BadParameter("give either --day YYYY-MM-DD, whose clicks are looked at, or --replay")
    if not replay and (from_day or to_day):
        raise typer.BadParameter("--from and --to are of a --replay")
    if replay and force:
        raise typer.BadParameter("--force measures a --day again; a --replay measures nothing")
    with exit_codes():
        _replay(model, from_day, to_day, as_json) if day is None else _measure(model, day, as_json, force)


def _measure(model: str, day: date, as_json: bool, force: bool) -> None:
    from embft.stages.monitor import run

    with stdout_kept_for_the_result():
        result = run(model, day, include=include_folder(), force=force)
    if as_json:
        print_json(result.to_json().decode())
    else:
        from embft.console_monitoring import print_monitored

        print_monitored(result)
    if result.status == "rejected":
        raise typer.Exit(DataRejected.exit_code)


def _replay(model: str, from_day: date | None, to_day: date | None, as_json: bool) -> None:
    from embft.stages.replay import replay

    with stdout_kept_for_the_result():
        found = replay(model, include=include_folder(), from_day=from_day, to_day=to_day)
    if as_json:
        print_json(found.to_json().decode())
    else:
        from embft.console_replay import print_replay

        print_replay(found)
