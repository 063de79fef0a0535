"""The command line of a stage: the same on the worker, in a pod, and in a person's terminal."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from embft.paths import stage_command


def stage_arguments(
    stage: str, model: str, day: date, params: Mapping[str, Any], *, log_day: str | None = None
) -> list[str]:
    """Spell the command of one stage, as the arguments of a Python interpreter.

    Args:
        stage: As in the DAG.
        model: The model's name.
        day: The night's day.
        params: The run's form: `force`, `promote`, `window_days`.
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
        arguments += ["--promote", str(params.get("promote", "auto"))]
        if params.get("window_days") is not None:
            arguments += ["--window-days", str(int(params["window_days"]))]
    if params.get("force"):
        arguments.append("--force")
    return arguments


def explain_arguments(model: str, day: date) -> list[str]:
    """Spell the command that prints the gate's standing decision in words.

    Args:
        model: The model's name.
        day: The night's day.

    Returns:
        A list for exec, for a Python interpreter.
    """
    return ["-m", "embft", "gate", "--model", model, "--day", day.isoformat(), "--explain"]
