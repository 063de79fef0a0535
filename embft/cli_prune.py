"""`embft prune`: what nobody needs any more."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from embft.cli_shared import Model, exit_codes, print_json, stdout_kept_for_the_result
from embft.config import config_path, include_folder, load_config

if TYPE_CHECKING:
    from embft.stages.prune import Pile, Pruning


def prune(
    model: Model,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; left out: a dry run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")] = False,
) -> None:
    """List old files in S3 that no night, registered version, or rollback needs; remove them with --yes."""
    with exit_codes():
        with stdout_kept_for_the_result():
            from embft.stages.models import registry_of
            from embft.stages.prune import prune as pruned

            registry = registry_of(load_config(config_path(include_folder(), model)))
            found = pruned(
                model,
                include=include_folder(),
                registered=lambda: {it.number: it.tags for it in registry.versions()},
                now=datetime.now(UTC),
                remove=yes,
            )
        if as_json:
            print_json(found.to_json().decode())
        else:
            _print(found)


def _print(found: "Pruning") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "objects", "MB", box=None, title_justify="left")
    for heading, piles in (("removed" if found.removed else "would go", found.goes), ("stays", found.stays)):
        table.add_row(f"[bold]{heading}", str(sum(it.objects for it in piles)), _megabytes(*piles))
        for it in piles:
            table.add_row(f"  {it.what}", str(it.objects), _megabytes(it))
    Console().print(table)
    if found.goes and not found.removed:
        typer.echo("a dry run: nothing was touched; run again with --yes to remove what would go")


def _megabytes(*piles: "Pile") -> str:
    return f"{sum(it.size_bytes for it in piles) / 1e6:,.1f}"
