"""`embft alerts`: tell people what there is to tell, and see what is open."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from embft.cli_alerts_test import test
from embft.cli_shared import Model, exit_codes, print_json, stdout_kept_for_the_result
from embft.config import include_folder
from embft.errors import ConfigError

if TYPE_CHECKING:
    from embft.monitoring.run_facts import RunFacts

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]

alerts_app = typer.Typer(help="What people are told of a model.", no_args_is_help=True)
alerts_app.command()(test)


@alerts_app.command()
def tell(
    model: Model,
    run: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON with what Airflow knows of a run; its tasks give it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell what nobody was told yet, and send what was kept; exit code 75: a channel was down, 2: one is wrong."""
    with exit_codes():
        from embft.monitoring.connections import connection
        from embft.stages.tell import tell as told_of

        facts = _facts(run) if run else None
        with stdout_kept_for_the_result():
            told = told_of(model, include=include_folder(), run=facts, connections=connection, now=datetime.now(UTC))
        if as_json:
            print_json(told.to_json().decode())
        else:
            from embft.console_alerts import print_told

            print_told(told)
        # In one line: Airflow's task quotes the last one that begins so.
        faults = [*told.problems, *(f"{it.channel}: {it.reason}" for it in told.deliveries if it.outcome == "kept")]
        if faults:
            typer.secho(f"error: {'; '.join(dict.fromkeys(faults))}", err=True, fg="red")
        if told.exit_code:
            raise typer.Exit(told.exit_code)


@alerts_app.command("list")
def list_alerts(model: Model, as_json: AsJson = False) -> None:
    """Show the incidents that are not over, and the messages that a channel did not take yet."""
    with exit_codes():
        from embft.stages.open_alerts import open_alerts

        found = open_alerts(model, include=include_folder(), now=datetime.now(UTC))
        if as_json:
            print_json(found.to_json().decode())
        else:
            from embft.console_alerts import print_open_alerts

            print_open_alerts(found)


def _facts(path: Path) -> "RunFacts":
    from embft.monitoring.run_facts import RunFacts

    try:
        return RunFacts.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"--run: {path} cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the whole"
        raise ConfigError(f"--run: {path} holds no facts of a run ({where}: {fault['msg']})") from None
