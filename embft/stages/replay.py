"""`embft monitor --replay`: the rules of the config over the model's monitoring history. Writes nothing."""

from datetime import date
from pathlib import Path

from embft.monitoring.replay import Replay
from embft.monitoring.replay import replay as replay_days
from embft.stages.monitored import monitored_days
from embft.stages.stage import open_model


def replay(model: str, *, include: Path, from_day: date | None = None, to_day: date | None = None) -> Replay:
    """Say what would have been told on which past day, by the rules as the config has them now.

    Args:
        model: The model's name.
        include: The project's `include` folder.
        from_day: First day that may tell something; None: the history's first.
        to_day: Last day that is looked at; None: its last.

    Returns:
        The messages, and the days that could not be judged.

    Raises:
        ConfigError: There is no such model, or its config is wrong.
        StorageUnavailable: S3 did not answer.
    """
    config, storage, paths = open_model(model, include)
    return replay_days(monitored_days(storage, paths, until=to_day), config, from_day=from_day)
