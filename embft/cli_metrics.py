"""`embft metrics`: a model's figures for Prometheus."""

from pathlib import Path
from typing import Annotated

import typer

from embft.cli_shared import Model, exit_codes
from embft.config import include_folder


def metrics(
    model: Model,
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write embft_<model>.prom there, in place of printing.")
    ] = None,
    push: Annotated[
        str | None, typer.Option(metavar="URL", help="Push to this Pushgateway, in place of printing.")
    ] = None,
) -> None:
    """Print the newest figures of a model in Prometheus' text format: measures, traffic, champion, open incidents."""
    with exit_codes():
        from embft.monitoring.metrics import exposition, write_textfile
        from embft.monitoring.metrics import push as push_to
        from embft.stages.metrics import present_gauges

        gauges = present_gauges(model, include=include_folder())
        if to:
            typer.echo(write_textfile(to, model, gauges))
        if push:
            push_to(push, model, gauges)
        if not to and not push:
            typer.echo(exposition(model, gauges), nl=False)
