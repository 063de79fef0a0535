"""What every command of `embft` shares: how it ends, and what stdout is for."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import date
from typing import Annotated

import typer

from embft.errors import EmbftError


def parse_day(text: str) -> date:
    """Read a day of the command line.

    Args:
        text: What was typed.

    Returns:
        The day.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a day; expected YYYY-MM-DD") from None


Model = Annotated[str, typer.Option(help="Name of the model: include/models/<name>.yaml.")]
Day = Annotated[
    date,
    typer.Option(parser=parse_day, metavar="YYYY-MM-DD", help="The night's day: the newest log day it learns from."),
]


@contextmanager
def exit_codes() -> Iterator[None]:
    """End the process as errors.py says; a traceback only for our own bugs."""
    try:
        yield
    except EmbftError as error:
        typer.secho(f"error: {error}", err=True, fg="red")
        raise typer.Exit(error.exit_code) from None


@contextmanager
def stdout_kept_for_the_result() -> Iterator[None]:
    """Send what libraries print (MLflow: "View run … at") to stderr: stdout is read by programs."""
    with redirect_stdout(sys.stderr):
        yield


def print_json(text: str) -> None:
    """Write one JSON value to stdout, at once.

    Args:
        text: The JSON.
    """
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
