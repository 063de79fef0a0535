"""A window's log days: their objects as listed, what their sessions depend on, and which of them need pulling."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

from embft.clickstream.days import DayPattern, Role, objects_of
from embft.config import ModelConfig
from embft.paths import Paths
from embft.results import LogDay, digest_of
from embft.stages.stage import Draft, standing_result
from embft.storage import Storage, StoredObject

# What changes where and how a day is read, or who may see it, changes none of its sessions.
_WITHOUT_EFFECT: Any = {"max_task_bytes": True, "privacy": {"min_clients"}}


@dataclass(frozen=True)
class ListedDay:
    """A log day's objects, as listed.

    Args:
        day: The log day.
        objects: Its own, then those of the next day's first hours; each with what it is to the day.
        parts: First and last object of each part, the last not included; one part for an ordinary day.
    """

    day: date
    objects: tuple[tuple[StoredObject, Role], ...]
    parts: tuple[tuple[int, int], ...]

    @property
    def has_logs(self) -> bool:
        """Whether there is an object of the day itself."""
        return any(role is not Role.NEXT for _, role in self.objects)

    def log_day(self) -> LogDay:
        """Sum the objects up: their number, size, and a digest that changes when any of them does."""
        return LogDay(
            day=self.day,
            objects=len(self.objects) if self.has_logs else 0,
            size_bytes=sum(it.size_bytes for it, _ in self.objects),
            listing_digest=self.digest(0, len(self.objects)),
        )

    def digest(self, first: int, end: int) -> str:
        """Name some of the objects by what they hold."""
        listed = [[it.uri, it.size_bytes, it.etag, role.value] for it, role in self.objects[first:end]]
        return digest_of([first, listed])


def no_logs(config: ModelConfig, day: date) -> str:
    """Say that a day has no log, and where it was looked for; the beginning of a sentence."""
    places = [DayPattern.of(it, day).prefix for it in config.logs.uri]
    return f"there is no log object for {day} below {', '.join(places)}"


def list_day(storage: Storage, config: ModelConfig, day: date) -> ListedDay:
    """List the objects in which lines of a day may lie.

    Args:
        storage: S3.
        config: Where logs lie.
        day: The log day.

    Returns:
        The objects, and the parts that they are read in.
    """
    found = objects_of(day, config.logs, partial(storage.objects, is_folder=False), lambda it: it.uri)
    parts: list[tuple[int, int]] = []
    first = size = 0
    for number, (item, _) in enumerate(found):
        if size and size + item.size_bytes > config.logs.max_task_bytes:
            parts.append((first, number))
            first, size = number, 0
        size += item.size_bytes
    return ListedDay(day, tuple(found), (*parts, (first, len(found))))


def sessions_of_day(paths: Paths, config: ModelConfig, client_key: str | None, day: date) -> str:
    """Say where a log day's sessions are kept: apart from those that were read with other settings, or another key.

    Args:
        paths: Of the model.
        config: The frozen config.
        client_key: Fingerprint of the key of client hashes.
        day: The log day.

    Returns:
        The prefix.
    """
    return paths.sessions(day, digest_of(_settings(config, client_key)))


def _settings(config: ModelConfig, client_key: str | None) -> list[Any]:
    # Sessions of one key must not meet those of another: the same client would be two.
    return [config.logs.model_dump(mode="json", exclude=_WITHOUT_EFFECT), client_key]


def pull_draft(paths: Paths, config: ModelConfig, client_key: str | None, day: LogDay) -> Draft:
    """Say what a log day's sessions depend on, and where they are kept.

    Args:
        paths: Of the model.
        config: The frozen config.
        client_key: Fingerprint of the key of client hashes.
        day: The log day as listed.

    Returns:
        The draft of its result.
    """
    return Draft(
        stage="pull",
        model=config.name,
        day=day.day,
        prefix=sessions_of_day(paths, config, client_key, day.day),
        inputs={"listing": day.listing_digest},
        settings=_settings(config, client_key),
    )


def days_to_pull(
    storage: Storage, paths: Paths, config: ModelConfig, client_key: str | None, days: Sequence[ListedDay]
) -> list[str]:
    """Find the log days that were never pulled, or have changed since.

    Args:
        storage: S3.
        paths: Of the model.
        config: The frozen config.
        client_key: Fingerprint of the key of client hashes.
        days: The window, as listed.

    Returns:
        What `pull` is to be run for, in order: a day, or `<day> <part>` for each part of a big one.
    """
    drafts = {it: pull_draft(paths, config, client_key, it.log_day()) for it in days if it.has_logs}
    needed = (it for it, draft in drafts.items() if standing_result(storage, draft) is None)
    return [name for it in needed for name in _names_of_parts(it)]


def _names_of_parts(day: ListedDay) -> list[str]:
    name = day.day.isoformat()
    return [name] if len(day.parts) == 1 else [f"{name} {number}" for number in range(1, len(day.parts) + 1)]


def log_day_and_part(name: str) -> tuple[date, int | None]:
    """Read a name that `days_to_pull` gave."""
    day, _, part = name.partition(" ")
    return date.fromisoformat(day), int(part) if part else None
