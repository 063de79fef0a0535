"""`embft validate`: a suite on one table by hand, and limits proposed from good days."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from embft.cli_shared import exit_codes, print_json, stdout_kept_for_the_result
from embft.config import include_folder
from embft.errors import DataRejected


class SuiteOption(StrEnum):
    """A suite of include/expectations."""

    catalogue = "catalogue"
    sessions = "sessions"
    ranks = "ranks"


def validate(
    suite: Annotated[SuiteOption | None, typer.Option(help="Suite to run on --input.")] = None,
    input_: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="FILE|S3-URI",
            help="sessions: Parquet as pull writes it. catalogue: JSON lines, or Parquet with id and text. ranks: "
            "inputs/train.parquet of preprocess-ranks. Or the s3:// address of the result.json that names one.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Take this model's rules, limits, catalogue and earlier nights; left out: the shared rules alone."
        ),
    ] = None,
    docs: Annotated[Path | None, typer.Option(help="Folder to leave Data Docs in; left out: none are kept.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")] = False,
    init: Annotated[
        bool,
        typer.Option(
            "--init",
            help="Propose limits for --model's rules on a day's figures, from its last good days, as a diff: "
            "review it, then `git apply` or `patch -p1` it in the folder that holds include/. Nothing is written.",
        ),
    ] = False,
    days: Annotated[int, typer.Option(min=7, help="Good days that --init looks at.")] = 28,
) -> None:
    """Run one suite on one table by hand, or propose limits (--init); exit code 3 where it would stop a night."""
    if init:
        if model is None or suite or input_ or docs or as_json:
            raise typer.BadParameter("--init goes with --model and --days, and with nothing else")
        _propose(model, days)
    elif suite is None or input_ is None:
        raise typer.BadParameter("give --suite and --input, or --init and --model")
    else:
        _judge(suite, input_, model, docs, as_json)


def _judge(suite: SuiteOption, source: str, model: str | None, docs: Path | None, as_json: bool) -> None:
    with exit_codes():
        with stdout_kept_for_the_result():
            from embft.stages.by_hand import judge_by_hand

            found = judge_by_hand(suite.value, source, model=model, include=include_folder(), docs=docs)
        if as_json:
            # ASCII: the data's texts may hold what a terminal obeys.
            print_json(json.dumps(found.model_dump(mode="json")))
        else:
            from embft.console_validation import print_judgement

            print_judgement(found)
        if found.reasons:
            raise typer.Exit(DataRejected.exit_code)


def _propose(model: str, n_days: int) -> None:
    with exit_codes():
        with stdout_kept_for_the_result():
            from embft.stages.proposed_limits import propose_limits

            proposed = propose_limits(model, n_days, include=include_folder())
        typer.echo(proposed.summary, err=True)
        sys.stdout.write(proposed.diff)
