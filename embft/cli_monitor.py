"""`embft monitor`: the champion on a day's clicks, without any training."""

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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print result.json on stdout, and nothing else there.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Measure again, with today's catalogue, even where the day's record stands.")
    ] = False,
) -> None:
    """Measure the champion on a day's clicks, whether or not the night's training succeeded; add it to the history."""
    if day is None:
        raise typer.BadParameter("give the day whose clicks are looked at: --day YYYY-MM-DD")
    with exit_codes():
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
