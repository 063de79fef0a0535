"""One look at a log, from its address to what is told of it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel

from embft.clickstream.inspection.detection import Detected, detect
from embft.clickstream.inspection.keys import Seen, example_of, paths_of
from embft.clickstream.inspection.listing import LogFile, list_log
from embft.clickstream.inspection.partitions import missing_days, templates_of
from embft.clickstream.inspection.sampling import Sampled, choose, take_sample
from embft.clickstream.inspection.suggestion import suggest
from embft.clickstream.inspection.times import times_of
from embft.clickstream.inspection.trial import try_reading
from embft.clickstream.privacy import private_parts
from embft.log_config import Logs

_N_OTHER_KEYS = 60
_UNREAD: dict[str, Any] = {"read_day": None, "sessions": [], "accounting": None, "reasons": {}}


class KeySeen(BaseModel, frozen=True):
    """A key of the lines: its types, in how many lines of all it is, and the field that it seems to be."""

    path: str
    types: list[str]
    share: float
    field: str | None
    example: str | None


class Inspection(BaseModel, frozen=True):
    """What a look at a log gave. All texts in it are as the log has them: escape them before they are shown."""

    uri: str
    objects: int
    size_bytes: int
    sampled_objects: int
    sampled_bytes: int
    sampled_lines: int
    containers: dict[str, int]
    format: str | None
    keys: list[KeySeen]
    missing: list[str]
    actions: dict[str, list[str]]
    other_actions: dict[str, int]
    templates: list[str]
    first_day: date | None
    last_day: date | None
    missing_days: list[date]
    earliest: datetime | None
    latest: datetime | None
    read_day: date | None
    sessions: list[dict[str, Any]]
    accounting: dict[str, Any] | None
    reasons: dict[str, str]
    notes: list[str]
    problem: str | None
    config: dict[str, Any]
    config_yaml: str


def inspect_log(uri: str, *, today: date) -> Inspection:
    """Look at a log.

    Args:
        uri: s3://bucket/prefix or an object, reached as the AWS_* environment says; or a local folder or file.
        today: Its objects may still grow, so that an earlier day is preferred.

    Returns:
        What was found; `problem` says why it is not enough to read the log.

    Raises:
        ConfigError: There is nothing to look at, or it cannot be read.
        StorageRefused: S3 said no.
        StorageUnavailable: S3 did not answer.
    """
    root, listed = list_log(uri)
    objects = [it for it in listed if it.placed] or listed
    placed = [it.placed for it in objects if it.placed]
    days = {it.day for it in placed}
    templates = [root + it for it in templates_of(placed)]
    with TemporaryDirectory(prefix="embft-inspect-") as name:
        folder = Path(name)
        sample = take_sample(choose(objects, today), folder)
        # A line that was delivered twice says nothing new: its ids would look as if they named several things.
        rows = {repr(row): row for it in sample for row in it.rows if row is not None}.values()
        seen = paths_of(rows)
        detected = detect(seen)
        times = times_of(sample, detected.fields.get("time"), may_be_late=detected.format != "sessions")
        suggestion = suggest(detected, seen, templates, root, times)
        problem = _problem(sample, detected, n_rows=len(rows))
        trial = None if problem else try_reading(sample, Logs.model_validate(suggestion.logs), times, folder)
    return Inspection(
        uri=uri,
        **_about_objects(objects, sample),
        **_about_fields(seen, detected, len(rows)),
        templates=templates,
        first_day=min(days, default=None),
        last_day=max(days, default=None),
        missing_days=missing_days(days),
        earliest=min(times.known, default=None),
        latest=max(times.known, default=None),
        format=None if problem else detected.format,
        **(trial._asdict() if trial else _UNREAD),
        notes=[*_notes(len(listed) - len(objects), sample, detected), *times.notes, *suggestion.notes],
        problem=problem,
        config={"logs": suggestion.logs},
        config_yaml=suggestion.yaml,
    )


def _about_objects(objects: Sequence[LogFile], sample: Sequence[Sampled]) -> dict[str, Any]:
    return {
        "objects": len(objects),
        "size_bytes": sum(it.size_bytes for it in objects),
        "sampled_objects": len(sample),
        "sampled_bytes": sum(it.n_bytes for it in sample),
        "sampled_lines": sum(len(it.rows) for it in sample),
        "containers": dict(Counter(it.container for it in sample)),
    }


def _about_fields(seen: Mapping[str, Seen], detected: Detected, n_rows: int) -> dict[str, Any]:
    fields = {path: name for name, path in detected.fields.items()}
    keys = [
        KeySeen(
            path=path,
            types=[name for name, _ in it.types.most_common()],
            share=len(it.values) / n_rows,
            field=fields.get(path),
            example=example_of(fields[path], it) if path in fields else None,
        )
        for path, it in seen.items()
    ]
    order = {path: at for at, path in enumerate(fields)}
    keys.sort(key=lambda it: (order.get(it.path, len(order)), -it.share, it.path))
    return {
        "keys": keys[: len(fields) + _N_OTHER_KEYS],
        "missing": detected.missing,
        "actions": detected.actions,
        "other_actions": detected.other_actions,
    }


def _problem(sample: Sequence[Sampled], detected: Detected, *, n_rows: int) -> str | None:
    if not n_rows:
        return (
            f"none of the {sum(len(it.rows) for it in sample)} lines that were looked at is a JSON object, so this is "
            "no log that embft reads: it takes JSON lines (plain, gzip, zstd) or Parquet"
        )
    if detected.missing:
        return (
            f"the log's format cannot be told: no field was found for {', '.join(detected.missing)} "
            f"(nearest format: {detected.format}); fill in logs.fields in the config"
        )
    return None


def _notes(n_other: int, sample: Sequence[Sampled], detected: Detected) -> Iterator[str]:
    if n_other:
        yield f"no day stands in the keys of {n_other} other objects: they are no part of the log"
    yield from (f"{it.item.uri}: {it.fault}" for it in sample if it.fault)
    yield from (f"{name}: {private_parts(why)}" for name, why in detected.refused.items())
    if detected.format == "ubi" and "action" not in detected.fields:
        yield "no UBI events are in the sample: if they lie below another prefix, name it in uri too"
    if detected.format != "sessions":
        yield (
            "events are joined within the sample: where a search's other events lie outside it, it looks incomplete "
            "(no_search, nothing_shown, click_without_impression)"
        )
