"""`embft search`: one of several workers that train the trials of a night at the same time."""

from typing import Annotated

import typer

from embft.cli_shared import Day, Model, exit_codes, print_json, stdout_kept_for_the_result
from embft.config import include_folder


def search(
    model: Model,
    day: Day,
    worker: Annotated[
        int,
        typer.Option(min=0, help="Number of this worker. Once it has died, the same number goes on with its trial."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Train new trials where fine-tune has its result; force that, too.")
    ] = False,
) -> None:
    """Train trials of the night's search beside other workers, until a budget of it is used up.

    It writes no result: fine-tune, run after it, trains what is left and keeps the best trial.
    """
    with exit_codes():
        from embft.stages.search import run

        with stdout_kept_for_the_result():
            work = run(model, day, include=include_folder(), worker=worker, force=force)
        if as_json:
            print_json(work.model_dump_json(indent=2, by_alias=True))
        else:
            from embft.console_search import print_search

            print_search(work)
