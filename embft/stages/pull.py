"""`pull`: one day's log objects in S3 → that day's sessions, with every line accounted for.

The result is kept by log day and by the settings it was read with, not by night: every night whose window holds the
day shares it.

A day that is bigger than `logs.max_task_bytes` is read in parts, each by a task of its own. Whichever part is the last
to commit puts the day together; the same sessions come out as from one task.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from embft.clickstream.days import Role, objects_of
from embft.clickstream.privacy import CLIENT_KEY, ClientHash
from embft.clickstream.reader import DayReader, LogObject, ReadCounts
from embft.config import ModelConfig
from embft.errors import ConfigError
from embft.paths import Paths
from embft.results import LogDay, StageResult, digest_of
from embft.stages.stage import Draft, Outcome, commit, open_model, read_run, standing_result
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


def run(
    model: str, day: date, *, include: Path, force: bool = False, log_day: date | None = None, part: int | None = None
) -> StageResult:
    """Pull one log day of a night's window, or a part of one.

    Args:
        model: The model's name.
        day: The night's day.
        include: The project's `include` folder.
        force: Read again even where the day's sessions are up to date.
        log_day: The log day; the night's own when left out.
        part: Which part of a day that is read in parts, from 1.

    Returns:
        The log day's result; that of the part, where other parts are still to come.

    Raises:
        ConfigError: The log day is not in the night's window, or has no such part.
    """
    _, storage, paths = open_model(model, include)
    spec = read_run(storage, paths, day)
    wanted = log_day or day
    if wanted not in {it.day for it in spec.window}:
        raise ConfigError(
            f"--log-day {wanted} is not in the window of {day}, {spec.window[0].day} to {spec.window[-1].day}"
        )
    # Listed again, not taken from the plan: objects may have arrived since, and the result must name what it read.
    client_hash = ClientHash.from_environment()
    if client_hash.fingerprint != spec.client_key:
        raise ConfigError(
            f"{CLIENT_KEY} is not the one that the night was planned with, so its client hashes would not fit; give "
            "every stage the same key, or run plan again (in Airflow: clear it)"
        )
    pull = _Pull(storage, paths, spec.config, client_hash, list_day(storage, spec.config, wanted))
    if part is None:
        return pull.day(force=force)
    n_parts = len(pull.listed.parts)
    if not 1 <= part <= n_parts:
        raise ConfigError(
            f"--part {part}: the log day {wanted} has {n_parts} parts by now; run plan again (in Airflow: clear it)"
        )
    result = pull.part(part, force=force)
    others_stand = all(standing_result(storage, pull.part_draft(it)) for it in range(1, n_parts + 1) if it != part)
    return pull.day(force=force) if others_stand else result


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
    # Sessions of one key must not meet those of another: the same client would be two.
    settings = [config.logs.model_dump(mode="json", exclude=_WITHOUT_EFFECT), client_key]
    return Draft(
        stage="pull",
        model=config.name,
        day=day.day,
        prefix=paths.sessions(day.day, digest_of(settings)),
        inputs={"listing": day.listing_digest},
        settings=settings,
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


class _Pull:
    """The work on one log day."""

    def __init__(
        self, storage: Storage, paths: Paths, config: ModelConfig, client_hash: ClientHash, listed: ListedDay
    ) -> None:
        self.listed = listed
        self._storage = storage
        self._config = config
        self._client_hash = client_hash
        self._draft = pull_draft(paths, config, client_hash.fingerprint, listed.log_day())
        self._by_uri = {item.uri: item for item, _ in listed.objects}

    def day(self, *, force: bool) -> StageResult:
        return commit(self._storage, self._draft, self._build, force=force)

    def part(self, number: int, *, force: bool) -> StageResult:
        return commit(self._storage, self.part_draft(number), partial(self._read_part, number), force=force)

    def part_draft(self, number: int) -> Draft:
        first, end = self.listed.parts[number - 1]
        return Draft(
            stage="pull",
            model=self._draft.model,
            day=self._draft.day,
            prefix=Paths.part(self._draft.prefix, number, len(self.listed.parts)),
            inputs={"listing": self.listed.digest(first, end)},
            settings=self._draft.settings,
        )

    def _read_part(self, number: int, folder: Path, _: str) -> Outcome:
        files = {name: folder / name for name in ("records.parquet", "bad.parquet")}
        with self._reader(folder) as reader:
            reader.read(range(*self.listed.parts[number - 1]), self._fetch)
            counts = reader.save(*files.values())
        figures = {"lines": counts.lines, "filtered": dict(counts.filtered), "s3_retries": self._storage.retries}
        return Outcome(files=files, figures=figures)

    def _build(self, folder: Path, _: str) -> Outcome:
        files = {name: folder / name for name in ("sessions.parquet", "quarantine.parquet")}
        with self._reader(folder) as reader:
            for number, (first, end) in enumerate(self.listed.parts, 1):
                is_part = len(self.listed.parts) > 1
                standing = standing_result(self._storage, self.part_draft(number)) if is_part else None
                if standing:
                    self._load(reader, standing, folder / f"part-{number}")
                else:
                    reader.read(range(first, end), self._fetch)
            accounting = reader.build(*files.values())
        accounting.check()
        figures: dict[str, Any] = {
            "objects": len(self.listed.objects),
            **accounting.model_dump(mode="json"),
            "s3_retries": self._storage.retries,
        }
        return Outcome(files=files, figures=figures)

    def _reader(self, folder: Path) -> DayReader:
        objects = [LogObject(item.uri, role) for item, role in self.listed.objects]
        return DayReader(self.listed.day, self._config.logs, self._client_hash, objects, folder)

    def _fetch(self, item: LogObject, path: Path, stop: Event) -> Path:
        self._storage.download_listed(self._by_uri[item.uri], path, stop)
        return path

    def _load(self, reader: DayReader, part: StageResult, folder: Path) -> None:
        records, bad = (
            self._storage.fetch(part.outputs[name], folder / name) for name in ("records.parquet", "bad.parquet")
        )
        reader.load(records, bad, ReadCounts(part.figures["lines"], Counter(part.figures["filtered"])))
