"""`plan`: freeze the night's facts, and find the log days that were never pulled or have changed."""

from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from embft.config import ModelConfig, Window
from embft.errors import ConfigError
from embft.results import RunSpec, StageResult
from embft.stages.frozen_run import frozen_run
from embft.stages.log_days import days_to_pull, no_logs
from embft.stages.stage import Draft, Outcome, commit, open_model


def run(
    model: str,
    day: date,
    *,
    include: Path,
    force: bool = False,
    promote: Literal["auto", "never", "force"] = "auto",
    window_days: int | None = None,
) -> StageResult:
    """Plan a night.

    Args:
        model: The model's name.
        day: The night's day: the newest log day it learns from.
        include: The project's `include` folder.
        force: Freeze anew even where the frozen run is up to date.
        promote: `auto` promotes what passes the gate, unless the champion is of a newer day or the weights were rolled
            back; `force` promotes then, too; `never` registers without promoting.
        window_days: Length of the window, in place of the config's.

    Returns:
        The result; `figures["days_to_pull"]` lists the log days to pull, as found now even when the plan is reused.

    Raises:
        ConfigError: The window is out of bounds, the config or the history of champions cannot be read, or an object
            that models are to be judged by is missing.
    """
    config, storage, paths = open_model(model, include)
    if window_days is not None:
        config = _with_window(config, window_days)
    spec, listed = frozen_run(storage, paths, config, day, promote=promote)
    missing = days_to_pull(storage, paths, config, spec.client_key, listed)
    # The frozen run is itself all that the plan depends on, so it is reused exactly when it would come out the same.
    draft = Draft(stage="plan", model=model, day=day, prefix=paths.stage(day, "plan"), inputs={}, settings=spec)
    result = commit(storage, draft, lambda folder, _: _freeze(spec, missing, folder), force=force)
    return result.model_copy(update={"figures": {**result.figures, "days_to_pull": missing}})


def _with_window(config: ModelConfig, days: int) -> ModelConfig:
    try:
        window = Window(days=days, test_days=config.window.test_days)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"--window-days {days}: {problem}") from None
    return config.model_copy(update={"window": window})


def _freeze(spec: RunSpec, days_to_pull: list[str], folder: Path) -> Outcome:
    tonight = spec.window[-1]
    figures: dict[str, Any] = {
        "window": [spec.window[0].day.isoformat(), tonight.day.isoformat()],
        "log_objects": sum(it.objects for it in spec.window),
        "log_bytes": sum(it.size_bytes for it in spec.window),
        "days_without_logs": [it.day.isoformat() for it in spec.window if not it.objects],
        "champion": spec.champion.version if spec.champion else None,
        "days_to_pull": days_to_pull,
    }
    if not tonight.objects:
        reason = (
            f"{no_logs(spec.config, tonight.day)}, so nothing was trained; when the day's logs have arrived, run plan "
            "again (in Airflow: clear the plan task), and if they lie elsewhere, correct logs.uri"
        )
        return Outcome(files={}, figures=figures, status="rejected", reason=reason)
    path = folder / "run.json"
    path.write_bytes(spec.to_json())
    return Outcome(files={"run.json": path}, figures=figures)
