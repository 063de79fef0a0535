"""`embft monitor --replay`: the regression rules on a model's history."""

from datetime import date
from typing import Annotated

import typer

from embft.cli_shared import Model, exit_codes, parse_day, print_json, stdout_kept_for_the_result
from embft.config import include_folder


def monitor(
    model: Model,
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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")] = False,
) -> None:
    """Try the regression rules on the history: what would have been told on which day. Tells nobody."""
    if not replay:
        raise typer.BadParameter("give --replay")
    with exit_codes():
        from embft.stages.replay import replay as replayed

        with stdout_kept_for_the_result():
            found = replayed(model, include=include_folder(), from_day=from_day, to_day=to_day)
        if as_json:
            print_json(found.to_json().decode())
        else:
            from embft.console_replay import print_replay

            print_replay(found)
