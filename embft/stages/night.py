"""A whole night in one process: what the DAG does, by hand, paying for imports once."""

from collections.abc import Iterator
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from embft.config import STAGES
from embft.results import StageResult


def run_night(
    model: str,
    day: date,
    *,
    include: Path,
    force: bool = False,
    promote: Literal["auto", "never", "force"] = "auto",
    window_days: int | None = None,
) -> Iterator[StageResult]:
    """Run every stage of a night in order, up to the first rejection.

    A model that the gate rejects is not registered; the vectors of the one that serves follow the catalogue even so.

    Args:
        model: The model's name.
        day: The night's day.
        include: The project's `include` folder.
        force: Do all work anew.
        promote: As of `plan`.
        window_days: As of `plan`.

    Yields:
        Each stage's result as it is committed; one for every log day that is pulled.
    """
    # Here, for every stage comes by this module, and most need none of what it brings.
    from embft.stages.log_days import log_day_and_part

    plan_options: dict[str, Any] = {"promote": promote, "window_days": window_days}
    plan = run_named("plan", model, day, include=include, force=force, **plan_options)
    yield plan
    if plan.status == "rejected":
        return
    for name in plan.figures["days_to_pull"]:
        log_day, part = log_day_and_part(name)
        yield run_named("pull", model, day, include=include, force=force, log_day=log_day, part=part)
    for stage in STAGES[STAGES.index("pull") + 1 :]:
        result = run_named(stage, model, day, include=include, force=force)
        yield result
        if result.status == "rejected":
            break
    if result.stage == "gate":
        yield run_named("publish", model, day, include=include, force=force)


def run_named(stage: str, model: str, day: date, *, include: Path, force: bool = False, **options: Any) -> StageResult:
    """Run one stage by its name, importing no other.

    Args:
        stage: One of `STAGES`.
        model: The model's name.
        day: The night's day.
        include: The project's `include` folder.
        force: Work even where an up-to-date result exists.
        options: What that stage alone takes.

    Returns:
        The stage's result.
    """
    result: StageResult = import_module(f"embft.stages.{stage}").run(
        model, day, include=include, force=force, **options
    )
    return result
