"""`embft alerts`: what people are told."""

import typer

from embft.cli_alerts_test import test

alerts_app = typer.Typer(help="What people are told of a model.", no_args_is_help=True)


@alerts_app.callback()
def _group() -> None:
    """Keep `test` a command of its own even while it is the only one."""


alerts_app.command()(test)
