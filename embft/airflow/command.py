"""The command line of a stage: the same on the worker, in a pod, and in a person's terminal."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from embft.paths import SEARCH, stage_command


def stage_arguments(
    stage: str, model: str, day: date, params: Mapping[str, Any], *, run_type: str, log_day: str | None = None
) -> list[str]:
    """Spell the command of one stage, as the arguments of a Python interpreter.

    Args:
        stage: As in the DAG.
        model: The model's name.
        day: The night's day.
        params: The run's form: `force`, `promote`, `window_days`.
        run_type: Airflow's; a backfill does not promote by itself.
        log_day: For `pull`: the log day, YYYY-MM-DD, and perhaps a part of it.

    Returns:
        A list for exec; no shell ever reads it.
    """
    arguments = ["-m", "embft", stage_command(stage), "--model", model, "--day", day.isoformat(), "--json"]
    if log_day is not None:
        # A big day comes in parts, as "2011-10-20 3".
        name, _, part = log_day.partition(" ")
        arguments += ["--log-day", date.fromisoformat(name).isoformat(), *(["--part", str(int(part))] if part else [])]
    if stage == "plan":
        arguments += ["--promote", promotes(params, run_type)]
        if params.get("window_days") is not None:
            arguments += ["--window-days", str(int(params["window_days"]))]
    if params.get("force"):
        arguments.append("--force")
    return arguments


def promotes(params: Mapping[str, Any], run_type: str) -> str:
    """Say what becomes of a challenger that passes the gate.

    Args:
        params: The run's form.
        run_type: Airflow's.

    Returns:
        As of `plan --promote`. In a backfill `auto` is `never`: nobody who computes last month's nights wants one of
        them to serve, and a night of today may end beside it.
    """
    chosen = str(params.get("promote", "auto"))
    return "never" if run_type == "backfill" and chosen == "auto" else chosen


def explain_arguments(model: str, day: date, *, markdown: bool = False) -> list[str]:
    """Spell the command that prints the gate's standing decision in words.

    Args:
        model: The model's name.
        day: The night's day.
        markdown: For a page, with the log's text escaped; else for a terminal.

    Returns:
        A list for exec, for a Python interpreter.
    """
    how = ["--explain", *(["--markdown"] if markdown else [])]
    return ["-m", "embft", "gate", "--model", model, "--day", day.isoformat(), *how]


def search_arguments(model: str, day: date, worker: int, params: Mapping[str, Any]) -> list[str]:
    """Spell the command of one worker of a night's search.

    Args:
        model: The model's name.
        day: The night's day.
        worker: Which one; the first is 0.
        params: The run's form: `force`.

    Returns:
        A list for exec, for a Python interpreter.
    """
    who = ["--model", model, "--day", day.isoformat(), "--worker", str(worker)]
    return ["-m", "embft", SEARCH, *who, "--json", *(["--force"] if params.get("force") else [])]


def tell_arguments(model: str, facts: Path | None) -> list[str]:
    """Spell the command that tells people what they have not been told.

    Args:
        model: The model's name.
        facts: File with what Airflow knows of the run; None where nothing of the run is to be told.

    Returns:
        A list for exec, for a Python interpreter.
    """
    run = ["--run", str(facts)] if facts else []
    return ["-m", "embft", "alerts", "tell", "--model", model, *run, "--json"]


def rollback_arguments(model: str, params: Mapping[str, Any], request: str) -> list[str]:
    """Spell the command that brings a former champion back.

    Args:
        model: The model's name.
        params: The run's form: `to`, `why`.
        request: Names the run: asked again, it is the same rollback.

    Returns:
        A list for exec, for a Python interpreter.
    """
    to = ["--to", str(params["to"])] if params.get("to") else []
    # In one word each, so that what a person wrote is never taken for an option.
    said = [f"--why={params['why']}", f"--request={request}"]
    return ["-m", "embft", "rollback", "--model", model, *to, *said, "--json"]
