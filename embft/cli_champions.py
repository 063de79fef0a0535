"""`embft history` and `embft rollback`: which version served when and why, and how an earlier one comes back."""

from typing import Annotated

import typer

from embft.alerts_config import load_channels
from embft.cli_shared import Model, exit_codes, print_json, stdout_kept_for_the_result
from embft.config import include_folder
from embft.errors import ConfigError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]


def history(
    model: Model,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="YYYY-MM-DD[THH:MM]", help="Say which version served then, in the time zone of the model's logs."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show every change of champion: when, from which version to which, who, why; and who serves."""
    with exit_codes():
        from embft.stages.champions import champions_of, parse_moment

        with stdout_kept_for_the_result():
            found = champions_of(model, include=include_folder(), on=parse_moment(on) if on else None)
        for warning in found.warnings:
            typer.secho(f"warning: {warning}", err=True, fg="yellow")
        if as_json:
            print_json(found.to_json().decode())
        else:
            from embft.console_champions import print_champions

            print_champions(found)


def rollback(
    model: Model,
    to: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Version that shall serve; left out: the one before.")
    ] = None,
    why: Annotated[str | None, typer.Option(help="The reason, for the history.")] = None,
    request: Annotated[
        str | None,
        typer.Option(help="What asks for it, such as a run of Airflow: asked again, it goes no further back."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let an earlier version serve again: in MLflow, in the published vectors, and in the history with its reason."""
    with exit_codes():
        from embft.stages.rollback import roll_back

        with stdout_kept_for_the_result():
            done = roll_back(model, include=include_folder(), to=to, why=why, request=request)
        if as_json:
            print_json(done.to_json().decode())
        else:
            from embft.console_champions import print_rollback

            print_rollback(done)
            if done.number is not None:
                _say_who_is_told(model)


def _say_who_is_told(model: str) -> None:
    """Say when people hear of it. The rollback is made: a fault in who they are is a warning."""
    try:
        channels = load_channels(include_folder()).channels
    except ConfigError as error:
        typer.secho(f"warning: nobody is told before this is mended: {error}", err=True, fg="yellow")
        return
    if channels:
        typer.echo(f"told by the next run, or now: embft alerts tell --model {model}")
