"""`pull`: one day's log objects in S3 → that day's sessions, with every line accounted for.

The result is kept by log day and by the settings it was read with, not by night: every night whose window holds the
day shares it.

A day that is bigger than `logs.max_task_bytes` is read in parts, each by a task of its own. Whichever part is the last
to commit puts the day together; the same sessions come out as from one task.
"""

from collections import Counter
from datetime import date
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from embft.clickstream.privacy import CLIENT_KEY, ClientHash
from embft.clickstream.reader import DayReader, LogObject, ReadCounts
from embft.config import ModelConfig
from embft.errors import ConfigError
from embft.paths import Paths
from embft.results import StageResult
from embft.stages.log_days import ListedDay, list_day, pull_draft
from embft.stages.stage import Draft, Outcome, commit, open_model, read_run, standing_result
from embft.storage import Storage


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


def pull_day(
    storage: Storage, paths: Paths, config: ModelConfig, client_hash: ClientHash, listed: ListedDay
) -> StageResult:
    """Give a log day's sessions, whatever night or monitoring asks for them; read where that was not done yet.

    Args:
        storage: S3.
        paths: Of the model.
        config: How the log is read.
        client_hash: Hashes the clients.
        listed: The log day as listed; it has objects.

    Returns:
        The log day's result.
    """
    return _Pull(storage, paths, config, client_hash, listed).day(force=False)


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
