"""`embft export`: a registered version for those who serve it."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from embft.cli_shared import Model, exit_codes, print_json, stdout_kept_for_the_result
from embft.config import config_path, include_folder, load_config


class FormatOption(StrEnum):
    """What is written."""

    folder = "folder"
    onnx = "onnx"


def export(
    model: Model,
    to: Annotated[
        FormatOption,
        typer.Option(help="folder: an ordinary SentenceTransformer folder. onnx: graphs and tokenizers."),
    ],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder to make; one that exists must be empty.")],
    version: Annotated[
        str | None, typer.Option(metavar="V", help="Version in MLflow; left out: the one that `champion` names.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")] = False,
) -> None:
    """Download a registered version for serving, and check that it gives the same vectors there."""
    with exit_codes():
        config = load_config(config_path(include_folder(), model))
        with stdout_kept_for_the_result():
            from embft.promotion.export import export_model

            exported = export_model(
                config.mlflow.tracking_uri,
                config.name,
                to=to.value,
                output=output,
                version=version,
                s3_endpoint=config.storage.endpoint_url,
            )
        about = exported.about
        if as_json:
            print_json(json.dumps({"output": str(exported.folder.resolve()), **about}))
            return
        typer.echo(f"{exported.folder}: version {about['version']} of {about['model']}, {about['dimensions']} numbers")
        for side in ("queries", "items"):
            typer.echo(f"  {side}: prompt {json.dumps(about[side]['prompt'], ensure_ascii=False)}")
        typer.echo(f"  vectors equal the registered version's to {about['largest_difference']:.1e}")
