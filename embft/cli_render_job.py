"""`embft render-job`: the manifest of a training over several nodes."""

from typing import Annotated

import typer
import yaml

from embft.cli_shared import Day, Model, exit_codes
from embft.config import config_path, include_folder, load_config
from embft.train_job import train_job


def render_job(
    model: Model,
    day: Day,
    nodes: Annotated[int, typer.Option(min=1, help="Pods that train together, each on a node with its GPUs.")],
) -> None:
    """Print fine-tune over several nodes as a job of Kubeflow Trainer v2, for `kubectl apply -f -`."""
    with exit_codes():
        include = include_folder()
        documents = train_job(load_config(config_path(include, model)), day, nodes, include)
        typer.echo(yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True), nl=False)
