"""`pull`: one day's log objects in S3 → that day's sessions, with every line accounted for.

The result is kept by log day and by the settings it was read with, not by night: every night whose window holds the
day shares it.
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq

from embft.clickstream.reader import read_day
from embft.clickstream.sessions import write_sessions
from embft.config import ModelConfig
from embft.errors import ConfigError
from embft.paths import Paths
from embft.results import LogDay, StageResult, digest_of
from embft.stages.stage import Draft, Outcome, commit, open_model, read_run, standing_result
from embft.storage import Storage, StoredObject


def run(model: str, day: date, *, include: Path, force: bool = False, log_day: date | None = None) -> StageResult:
    """Pull one log day of a night's window.

    Args:
        model: The model's name.
        day: The night's day.
        include: The project's `include` folder.
        force: Read again even where the day's sessions are up to date.
        log_day: The log day; the night's own when left out.

    Returns:
        The log day's result.

    Raises:
        ConfigError: The log day is not in the night's window.
    """
    _, storage, paths = open_model(model, include)
    spec = read_run(storage, paths, day)
    wanted = log_day or day
    if wanted not in {it.day for it in spec.window}:
        raise ConfigError(
            f"--log-day {wanted} is not in the window of {day}, {spec.window[0].day} to {spec.window[-1].day}"
        )
    # Listed again, not taken from the plan: objects may have arrived since, and the result must name what it read.
    found = storage.objects(day_prefix(spec.config, wanted))
    draft = pull_draft(paths, spec.config, log_day_of(wanted, found))
    return commit(storage, draft, lambda folder, _: _pull(storage, spec.config, wanted, found, folder), force=force)


def log_day_of(day: date, found: Sequence[StoredObject]) -> LogDay:
    """Sum up one day's log objects.

    Args:
        day: The log day.
        found: Its objects, as listed.

    Returns:
        Their number, size, and a digest that changes when any of them does.
    """
    return LogDay(
        day=day,
        objects=len(found),
        size_bytes=sum(item.size_bytes for item in found),
        listing_digest=digest_of([[item.uri, item.size_bytes, item.etag] for item in found]),
    )


def day_prefix(config: ModelConfig, day: date) -> str:
    """Give the prefix of a day's log objects."""
    return config.logs.uris[0].replace("{day}", day.isoformat())


def pull_draft(paths: Paths, config: ModelConfig, day: LogDay) -> Draft:
    """Say what a log day's sessions depend on, and where they are kept.

    Args:
        paths: Of the model.
        config: The frozen config.
        day: The log day as listed.

    Returns:
        The draft of its result.
    """
    return Draft(
        stage="pull",
        model=config.name,
        day=day.day,
        prefix=paths.sessions(day.day, digest_of(config.logs)),
        inputs={"listing": day.listing_digest},
        settings=config.logs,
    )


def needs_pull(storage: Storage, paths: Paths, config: ModelConfig, day: LogDay) -> bool:
    """Say whether a log day was never pulled, or has changed since.

    Args:
        storage: S3.
        paths: Of the model.
        config: The frozen config.
        day: The log day as listed.

    Returns:
        True if there is work.
    """
    return standing_result(storage, pull_draft(paths, config, day)) is None


def _pull(storage: Storage, config: ModelConfig, day: date, found: Sequence[StoredObject], folder: Path) -> Outcome:
    uris = [item.uri for item in found]
    paths = storage.download_all(uris, folder / "objects")
    read = read_day(list(zip(uris, paths, strict=True)), day=day, logs=config.logs)
    read.accounting.check()
    sessions, quarantine = folder / "sessions.parquet", folder / "quarantine.parquet"
    write_sessions(read.sessions, sessions)
    pq.write_table(read.quarantine, quarantine)
    return Outcome(
        files={"sessions.parquet": sessions, "quarantine.parquet": quarantine},
        figures={"objects": len(uris), **read.accounting.model_dump(mode="json")},
    )
