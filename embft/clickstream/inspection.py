"""A look at a log that nobody has described yet: a bounded sample of it → what it is, and the config that reads it."""

import math
import os
import secrets
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from itertools import chain, islice, zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from embft.clickstream.days import Day
from embft.clickstream.detection import (
    days_between,
    detect,
    example_of,
    paths_of,
    place,
    templates_of,
)
from embft.clickstream.lines import Line, read_lines
from embft.clickstream.privacy import ClientHash, private_parts
from embft.clickstream.quarantine import BadLine, Reason
from embft.clickstream.reader import DayReader, LogObject
from embft.clickstream.sessions import read_sessions
from embft.clickstream.times import microseconds, parse_time
from embft.clickstream.values import json_object, value_at
from embft.config import StorageConfig
from embft.errors import ConfigError, ObjectChanged, StorageUnavailable
from embft.log_config import FORMAT_FIELDS, Logs
from embft.storage import Storage, StoredObject, split_uri

MAX_OBJECTS = 12
MAX_BYTES = 16 << 20
MAX_LINES = 20_000

_MAX_PARQUET_BYTES = 64 << 20  # its columns are told at its end: it is fetched whole or not at all
_MAX_INFLATION = 4  # unpacked bytes that are looked at, for each of MAX_BYTES
_FIRST_OBJECTS = 3
_N_SESSIONS = 10
_N_CLICKED = 5
_N_OTHER_KEYS = 60
_LINE = 80  # characters; a longer list has a line for each of its values
_YOUR_BUCKET = "s3://your-bucket/"
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PAR1": "Parquet"}
_BULK_KEYS = {"index", "create", "update", "delete"}
# Their details quote the value that tells who searched.
_UNTOLD = {Reason.CLIENT_TYPE: "who searched (logs.fields.client)", Reason.TEXT_FIELD_TYPE: "the user agent or the IP"}


class _Shown(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KeySeen(_Shown):
    """A key of the lines: its types, in how many lines of all it is, and the field that it seems to be."""

    path: str
    types: list[str]
    share: float
    field: str | None = None
    example: str | None = None


class Inspection(_Shown):
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
    times_without_zone: float | None
    read_day: date | None
    sessions: list[dict[str, Any]]
    accounting: dict[str, Any] | None
    reasons: dict[str, str]
    notes: list[str]
    problem: str | None
    config: dict[str, Any]
    config_yaml: str


@dataclass(frozen=True)
class _Object:
    """An object of the log; `fetch` puts its first bytes into a file."""

    uri: str
    key: str
    size_bytes: int
    fetch: Callable[[Path, int], None]


class _Listing(NamedTuple):
    objects: list[_Object]
    root: str  # what a template of keys begins with, in the config
    folder: str  # of all objects, in the config


@dataclass
class _Sampled:
    """An object's part of the sample: its lines as objects, and a file that the day's reader can read."""

    uri: str
    place: str  # where it and its like lie: a template, or a folder
    day: date | None
    path: Path
    container: str = "JSON lines"
    rows: list[dict[str, Any] | None] = field(default_factory=list)
    fault: str | None = None
    is_cut: bool = False


class _Sampler(Storage):
    """Storage that can stop in the middle of an object."""

    def fetch_start(self, listed: StoredObject, path: Path, n_bytes: int) -> None:
        """Download an object, or its first bytes only if it is bigger.

        Args:
            listed: As `objects` gives it.
            path: Where to.
            n_bytes: How many are enough.
        """
        if listed.size_bytes <= n_bytes:
            self.download_listed(listed, path)
            return
        again = self._patience.retrying(_may_pass, self._count_retry)
        again(self._fetch_start_once, listed, path, n_bytes)

    def _fetch_start_once(self, listed: StoredObject, path: Path, n_bytes: int) -> None:
        with path.open("wb") as file, closing(self._read_from(listed, 0)) as pieces:
            for _, piece in pieces:
                file.write(piece[: n_bytes - file.tell()])
                if file.tell() >= n_bytes:
                    return


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, StorageUnavailable) and not isinstance(error, ObjectChanged)


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
    listing = _listed_in_s3(uri) if uri.startswith("s3://") else _listed_on_disk(uri)
    objects = [it for it in listing.objects if it.size_bytes and not it.key.rsplit("/", 1)[-1].startswith(("_", "."))]
    if not objects:
        n_other = len(listing.objects)
        raise ConfigError(
            f"{ascii(uri)[1:-1]} holds no log objects: "
            + (f"all {n_other} are empty or hidden" if n_other else "there is nothing below it; check the address")
        )
    with TemporaryDirectory(prefix="embft-inspect-") as folder:
        return _Look(uri, listing, objects, Path(folder), today).result()


def _listed_in_s3(uri: str) -> _Listing:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    try:
        config = StorageConfig(artifacts=uri, endpoint_url=endpoint, region=region)
    except ValidationError as error:
        fault = error.errors()[0]
        what = "AWS_ENDPOINT_URL" if fault["loc"] == ("endpoint_url",) else ascii(uri)[1:-1]
        raise ConfigError(f"{what}: {fault['msg'].removeprefix('Value error, ')}") from None
    storage = _Sampler(config)
    bucket, key = split_uri(config.artifacts)
    found = storage.objects(config.artifacts, is_folder=False)
    exact = [it for it in found if it.uri == config.artifacts]
    # logs also begins logs2/…: meant is the folder, where there is one.
    found = exact or [it for it in found if it.uri.startswith(config.artifacts + "/")] or found
    objects = [
        _Object(it.uri, split_uri(it.uri)[1], it.size_bytes, partial(storage.fetch_start, it))
        for it in sorted(found, key=lambda it: it.uri)
    ]
    folder = key.rpartition("/")[0] if exact else key
    return _Listing(objects, f"s3://{bucket}/", f"s3://{bucket}/{folder}".rstrip("/"))


def _listed_on_disk(uri: str) -> _Listing:
    path = Path(uri)
    if "://" in uri:
        raise ConfigError(f"{ascii(uri)[1:-1]}: expected s3://bucket/prefix, or a folder or file of this machine")
    try:
        if not path.exists():
            raise ConfigError(f"{ascii(uri)[1:-1]}: no such folder or file")
        path = path.resolve()
        files = sorted(it for it in path.rglob("*") if it.is_file()) if path.is_dir() else [path]
        base = path if path.is_dir() else path.parent
        if not any(place(it.relative_to(base).as_posix()) for it in files):
            # Given the folder of one day, its own name tells the day.
            base = base.parents[min(2, len(base.parents) - 1)] if place("/".join(base.parts[-3:])) else base
        objects = [
            _Object(str(it), it.relative_to(base).as_posix(), it.stat().st_size, partial(_copy_start, it))
            for it in files
        ]
    except OSError as error:
        raise ConfigError(f"{ascii(uri)[1:-1]} cannot be read: {error.strerror}") from None
    return _Listing(objects, _YOUR_BUCKET, _YOUR_BUCKET.rstrip("/"))


def _copy_start(source: Path, path: Path, n_bytes: int) -> None:
    try:
        with source.open("rb") as file, path.open("wb") as copy:
            copy.write(file.read(n_bytes))
    except OSError as error:
        raise ConfigError(f"{ascii(str(source))[1:-1]} cannot be read: {error.strerror}") from None


class _Look:
    """One look at a log."""

    def __init__(self, uri: str, listing: _Listing, objects: list[_Object], folder: Path, today: date) -> None:
        self._uri, self._listing, self._objects, self._folder = uri, listing, objects, folder
        self._notes: list[str] = []
        self._placed = {it.key: found for it in objects if (found := place(it.key))}
        if self._placed and (n_other := len(objects) - len(self._placed)):
            self._notes.append(f"no day stands in the keys of {n_other} other objects: they are no part of the log")
            self._objects = [it for it in objects if it.key in self._placed]
        self._day = self._newest_day(today)
        self._sample = list(self._sampled())
        # A line that was delivered twice says nothing new: its ids would look as if they named several things.
        self._rows = list({repr(row): row for it in self._sample for row in it.rows if row is not None}.values())
        self._seen = paths_of(self._rows)
        self._detected = detect(self._seen)
        self._zone, self._settle_hours = "UTC", 0

    def result(self) -> Inspection:
        """Put together what was found."""
        problem = self._problem()
        times, without_zone = self._times()
        self._judge_times(times, without_zone)
        if problem is None and self._detected.format == "ubi":
            self._tell_queries_and_events()
        templates = templates_of(list(self._placed.values()))
        config, text = self._config([self._listing.root + it for it in templates])
        sessions: list[dict[str, Any]] = []
        accounting: dict[str, Any] | None = None
        reasons: dict[str, str] = {}
        if problem is None:
            sessions, accounting, reasons = self._read(Logs.model_validate(config), times)
        days = [it.day for it in self._placed.values()]
        instants = [it for several in times for it in several if it is not None]
        return Inspection(
            uri=self._uri,
            objects=len(self._objects),
            size_bytes=sum(it.size_bytes for it in self._objects),
            sampled_objects=len(self._sample),
            sampled_bytes=sum(it.path.stat().st_size for it in self._sample),
            sampled_lines=sum(len(it.rows) for it in self._sample),
            containers=dict(Counter(it.container for it in self._sample)),
            format=None if problem else self._detected.format,
            keys=self._keys(),
            missing=list(self._detected.missing),
            actions={it: list(names) for it, names in self._detected.actions.items()},
            other_actions=self._detected.other_actions,
            templates=[self._listing.root + it for it in templates],
            first_day=min(days, default=None),
            last_day=max(days, default=None),
            missing_days=days_between(days) if days else [],
            earliest=min(instants, default=None),
            latest=max(instants, default=None),
            times_without_zone=without_zone,
            read_day=self._day,
            sessions=sessions,
            accounting=accounting,
            reasons=reasons,
            notes=self._notes,
            problem=problem,
            config={"logs": config},
            config_yaml=text,
        )

    def _newest_day(self, today: date) -> date | None:
        days = {it.day for it in self._placed.values()}
        return max((it for it in days if it < today), default=max(days, default=None))

    def _chosen(self) -> list[_Object]:
        """Choose some of the first objects and some of the newest, of every template."""
        groups: dict[str, list[_Object]] = defaultdict(list)
        for it in self._objects:
            groups[self._placed[it.key].template if it.key in self._placed else ""].append(it)
        firsts = [it[0] for it in groups.values()]
        newest = [
            [it for it in several if it.key not in self._placed or self._placed[it.key].day == self._day][::-1]
            for several in groups.values()
        ]
        in_turn = (it for turn in zip_longest(*newest) for it in turn if it is not None)
        order = {it.key: it for it in chain(firsts[:_FIRST_OBJECTS], in_turn)}
        return sorted(islice(order.values(), MAX_OBJECTS), key=lambda it: it.size_bytes)

    def _sampled(self) -> Iterator[_Sampled]:
        chosen = self._chosen()
        n_bytes, n_lines = MAX_BYTES, MAX_LINES
        # The small ones first: what they leave of their part is the others'.
        for number, item in enumerate(chosen):
            part = len(chosen) - number
            found = self._fetched(item, self._folder / f"{number:03d}", n_bytes // part)
            _look_into(found, item, n_lines // part, _MAX_INFLATION * n_bytes // part)
            n_bytes -= min(n_bytes, found.path.stat().st_size)
            n_lines -= len(found.rows)
            if found.fault:
                self._notes.append(f"{item.uri}: {found.fault}")
            yield found

    def _fetched(self, item: _Object, path: Path, n_bytes: int) -> _Sampled:
        item.fetch(path, n_bytes)
        with path.open("rb") as file:
            head = file.read(4)
        placed = self._placed.get(item.key)
        where = placed.template if placed else item.key.rpartition("/")[0] or item.key
        found = _Sampled(item.uri, self._listing.root + where, placed.day if placed else None, path)
        found.container = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), found.container)
        found.is_cut = item.size_bytes > n_bytes
        if found.container == "Parquet" and found.is_cut:
            if item.size_bytes <= _MAX_PARQUET_BYTES:
                item.fetch(path, item.size_bytes)
            else:
                found.fault = f"a Parquet object of {item.size_bytes >> 20} MB is too big for a sample; name another"
        return found

    def _problem(self) -> str | None:
        n_lines = sum(len(it.rows) for it in self._sample)
        if not self._rows:
            return (
                f"none of the {n_lines} lines that were looked at is a JSON object, so this is no log that embft "
                "reads: it takes JSON lines (plain, gzip, zstd) or Parquet"
            )
        if not self._detected.missing:
            return None
        self._notes += [f"{name}: {private_parts(why)}" for name, why in self._detected.refused.items()]
        return (
            f"the log's format cannot be told: no field was found for {', '.join(self._detected.missing)} "
            f"(nearest format: {self._detected.format}); fill in logs.fields in the config"
        )

    def _keys(self) -> list[KeySeen]:
        fields = {path: name for name, path in self._detected.fields.items()}
        if self._detected.format == "ubi" and "query_response_hit_ids" not in self._seen:
            fields["query_response_object_ids"] = fields.get("query_response_hit_ids", "shown")
        found = [
            KeySeen(
                path=path,
                types=[name for name, _ in seen.types.most_common()],
                share=len(seen.values) / len(self._rows),
                field=fields.get(path),
                example=example_of(fields[path], seen) if path in fields else None,
            )
            for path, seen in self._seen.items()
        ]
        order = {name: at for at, name in enumerate(self._detected.fields)}
        found.sort(key=lambda it: (order.get(it.field or "", len(order)), -it.share, it.path))
        return found[: len(fields) + _N_OTHER_KEYS]

    def _times(self) -> tuple[list[list[datetime | None]], float | None]:
        """Give the time of each line of each object, and the share of those without a zone."""
        path = self._detected.fields.get("time")
        if path is None:
            return [[None] * len(it.rows) for it in self._sample], None
        values = [[None if row is None else _value(row, path) for row in it.rows] for it in self._sample]
        n_all, n_without = 0, 0
        for value in chain.from_iterable(values):
            n_all += value is not None
            n_without += _has_no_zone(value)
        return [[_instant(it) for it in several] for several in values], n_without / max(1, n_all)

    def _tell_queries_and_events(self) -> None:
        """Say where the documents of ubi_queries and of ubi_events lie: they are two indexes."""
        action = self._detected.fields.get("action", FORMAT_FIELDS["ubi"]["action"])
        places: dict[bool, set[str]] = {True: set(), False: set()}
        for sampled in self._sample:
            for row in filter(None, sampled.rows):
                places[_value(row, action) is not None].add(sampled.place)
        events, queries = places[True], places[False]
        if not events or not queries:
            self._notes.append(
                f"the sample holds {'events' if events else 'queries'} alone: name the other prefix in uri too, unless "
                f"{'the events tell their query themselves' if events else 'there are no events yet'}"
            )
        elif events & queries:
            self._notes.append("UBI queries and events lie in the same objects or prefix")
        else:
            self._notes.append(
                f"UBI queries and events lie in two prefixes: {', '.join(sorted(queries))} and "
                f"{', '.join(sorted(events))}"
            )

    def _judge_times(self, times: list[list[datetime | None]], without_zone: float | None) -> None:
        if without_zone:
            self._notes.append(
                f"{without_zone:.0%} of the times state no zone and are taken as UTC: if they are local, set timezone"
            )
        hours = [
            (it - datetime.combine(sampled.day, time(), UTC)) / timedelta(hours=1)
            for sampled, several in zip(self._sample, times, strict=True)
            if sampled.day
            for it in several
            if it is not None
        ]
        if not hours or (min(hours) >= 0 and max(hours) < 24):
            return
        low, high = min(hours), max(hours)
        outside = sum(not 0 <= it < 24 for it in hours) / len(hours)
        what = f"{outside:.1%} of the lines are not of their key's day in UTC (from {low:+.1f} h to {high - 24:+.1f} h)"
        shift = next((it for it in sorted(range(-14, 13), key=abs) if low >= it and high < it + 24), None)
        is_late = self._detected.format != "sessions" and low >= 0 and high < 48
        if shift is not None and not without_zone:
            self._zone = f"Etc/GMT{shift:+d}"
            self._notes.append(
                f"{what}: the log's days seem to begin at {shift % 24:02d}:00 UTC, so timezone is set to {self._zone}; "
                "name your own zone, such as Europe/Berlin"
            )
        elif is_late:
            self._settle_hours = min(24, math.ceil(high - 24 + 1e-9))
            self._notes.append(f"{what}: events come after midnight, so settle_hours is set to {self._settle_hours}")
        else:
            self._notes.append(
                f"{what}: those lines are set aside as other_day unless timezone is right; lay each line under the day "
                "of its own time"
            )

    def _config(self, uris: list[str]) -> tuple[dict[str, Any], str]:
        guessed = dict(self._detected.guesses)
        config: dict[str, Any] = {"uri": uris[0] if len(uris) == 1 else uris}
        comments: dict[str, str] = {}
        if not uris:
            config["uri"] = f"{self._listing.folder}/dt={{day}}"
            comments["uri"] = "FILL IN: no day stands in the keys; lay each day's objects below a prefix of their own"
            self._notes.append(
                "no day stands in the keys: embft reads a log whose objects lie below a prefix for each day"
            )
        elif self._listing.root == _YOUR_BUCKET:
            comments["uri"] = "FILL IN: the bucket that these files come from"
        config |= self._detected.settings(self._seen)
        for name in self._detected.missing:
            fields = config.setdefault("fields", {})
            fields[name] = FORMAT_FIELDS[self._detected.format][name]
            guessed[name] = "FILL IN: not found in the sample"
        if self._zone != "UTC":
            config["timezone"], comments["timezone"] = self._zone, "guessed from the times"
        if self._settle_hours:
            config["settle_hours"], comments["settle_hours"] = self._settle_hours, "guessed from the times"
        comments |= {f"fields.{name}": why for name, why in guessed.items()}
        comments |= {
            f"fields.{name}": "what has that name in the log is no such field"
            for name, path in config.get("fields", {}).items()
            if path is None
        }
        try:
            return config, _yaml_of(config, comments)
        except ValidationError as error:
            # A key that no config can name, as with a question mark in it: the person is told, and gets the rest.
            fault = error.errors()[0]
            self._notes.append(f"uri: {fault['msg'].removeprefix('Value error, ')}; the keys hold what no config takes")
            config["uri"] = f"{_YOUR_BUCKET}dt={{day}}"
            comments["uri"] = "FILL IN: the keys of this log cannot be written in a config"
            return config, _yaml_of(config, comments)

    def _read(
        self, logs: Logs, times: list[list[datetime | None]]
    ) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, str]]:
        """Read the newest day of the sample as `pull` would."""
        if self._day is None:
            self._day = _fullest_day(times)
        assert self._day is not None
        day = Day.of(self._day, logs)
        chosen = []
        for sampled, several in zip(self._sample, times, strict=True):
            if sampled.day in (None, self._day) and sampled.rows:
                instants = several if sampled.day is None else [None] * len(several)
                wanted = [it is None or day.settles(microseconds(it)) for it in instants]
                chosen.append(_for_reader(sampled, wanted, self._folder))
        n_of_day = sum(it.day == self._day for it in self._placed.values()) or len(self._objects)
        if len(chosen) < n_of_day or any(it.is_cut for it in self._sample):
            self._notes.append(
                f"of {self._day}, {len(chosen)} of {n_of_day} objects were read, "
                f"{'some of them in part' if any(it.is_cut for it in self._sample) else 'each of them whole'}"
            )
        if logs.format != "sessions":
            self._notes.append(
                "events are joined within the sample: where a search's other events lie outside it, it looks "
                "incomplete (no_search, nothing_shown, click_without_impression)"
            )
        client_hash = ClientHash(secrets.token_hex(16))
        sessions, bad = self._folder / "sessions.parquet", self._folder / "bad.parquet"
        objects = [LogObject(uri) for uri, _ in chosen]
        with DayReader(self._day, logs, client_hash, objects, self._folder / "scratch") as reader:
            paths = dict(chosen)
            reader.read(range(len(chosen)), lambda item, path, stop: shutil.copyfile(paths[item.uri], path))
            accounting = reader.build(sessions, bad)
        accounting.check()
        return _some_sessions(sessions), accounting.model_dump(), _examples_of(pq.read_table(bad))


def _look_into(found: _Sampled, item: _Object, n_lines: int, n_bytes: int) -> None:
    """Read a sampled object's lines: as many as allowed, and no more bytes of them, once unpacked, than allowed."""
    if found.fault:
        return
    if found.container == "Parquet":
        _look_into_parquet(found, n_lines)
        return
    lines = _some_lines(found, item.uri, n_lines, n_bytes)
    # The last line of a cut object is half a line, or the complaint that the stream breaks off.
    whole = lines[:-1] if found.is_cut else lines
    for line in whole:
        try:
            if line.fault:
                raise line.fault
            found.rows.append(_row(line.raw))
        except BadLine as bad:
            found.rows.append(None)
            found.fault = found.fault or bad.detail
    if found.fault and lines and lines[0].raw.lstrip().startswith(b"["):
        found.fault = "a JSON array; expected JSON lines, one object a line"
    if any(found.rows):
        found.fault = None  # some bad lines: the accounting tells
    elif found.fault and b"\0" in lines[0].raw[:1000]:
        found.container = "unknown binary"


def _some_lines(found: _Sampled, uri: str, n_lines: int, n_bytes: int) -> list[Line]:
    """Read the first lines, and one more where there are more."""
    lines: list[Line] = []
    for line in read_lines(found.path, uri):
        lines.append(line)
        n_bytes -= len(line.raw)
        if len(lines) > n_lines or n_bytes < 0:
            found.is_cut = True
            break
    return lines


def _row(raw: bytes) -> dict[str, Any] | None:
    """Read a line, in the wrappings that OpenSearch's exports have too.

    Raises:
        BadLine: It is no JSON object.
    """
    if raw.startswith(b"ubi_"):
        raw = raw.partition(b"\t")[2] or raw
    row = json_object(raw)
    if len(row) == 1 and _BULK_KEYS & row.keys():
        return None
    source = row.get("_source")
    return dict(source) if isinstance(source, dict) else row


def _look_into_parquet(found: _Sampled, n_lines: int) -> None:
    try:
        with pq.ParquetFile(found.path) as file:
            found.is_cut = file.metadata.num_rows > n_lines
            for batch in file.iter_batches(min(n_lines, 4096)):
                found.rows += [_nested(it) for it in batch.to_pylist()][: n_lines - len(found.rows)]
                if len(found.rows) >= n_lines:
                    break
    except (OSError, pa.ArrowException) as error:
        found.fault = f"the Parquet object cannot be read ({str(error)[:150]})"


def _nested(row: dict[str, Any]) -> dict[str, Any]:
    """Give a row as a line of JSON: a dotted column as a path, a time as its text."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        *parents, leaf = name.split(".")
        node = found
        for key in parents:
            node = node.setdefault(key, {})
        if isinstance(value, float) and math.isnan(value):
            continue
        node[leaf] = value.isoformat() if isinstance(value, datetime | date) else value
    return found


def _value(row: dict[str, Any], path: str) -> Any:
    try:
        return value_at(row, path)
    except BadLine:
        return None


_UTC = ZoneInfo("UTC")


def _instant(value: Any) -> datetime | None:
    try:
        return parse_time(value, _UTC, "time").astimezone(UTC)
    except (BadLine, OverflowError):
        return None


def _has_no_zone(value: Any) -> bool:
    """Whether a text is a time that states no zone."""
    if type(value) is not str or value.strip().isdigit():
        return False
    try:
        return datetime.fromisoformat(value.strip()).tzinfo is None
    except ValueError:
        return False


def _fullest_day(times: list[list[datetime | None]]) -> date | None:
    """Give the day that has most lines."""
    counts = Counter(it.date() for several in times for it in several if it is not None)
    return max(counts, key=lambda it: (counts[it], it), default=None)


def _for_reader(found: _Sampled, wanted: list[bool], folder: Path) -> tuple[str, Path]:
    """Give an object's URI and a file with its wanted lines: its own bytes, where that is all of it."""
    if all(wanted) and not found.is_cut:
        return found.uri, found.path
    path = folder / f"{found.path.name}.part"
    if found.container == "Parquet":
        table = pq.read_table(found.path).slice(0, len(wanted)).filter(pa.array(wanted))
        pq.write_table(table, path)
        return found.uri, path
    with path.open("wb") as file:
        for line, is_wanted in zip(read_lines(found.path, found.uri), wanted, strict=False):
            if is_wanted:
                file.write(line.raw + b"\n")
    # It is plain now, and a name that says otherwise would be a fault.
    return found.uri.removesuffix(".gz").removesuffix(".zst"), path


def _some_sessions(path: Path) -> list[dict[str, Any]]:
    rows = read_sessions(path).slice(0, _N_SESSIONS).to_pylist()
    return [
        {
            "time": it["time"].isoformat(),
            "query": private_parts(it["query"]),
            "shown": None if it["shown"] is None else len(it["shown"]),
            "clicked": it["clicked"][:_N_CLICKED] + ["…"] * (len(it["clicked"]) > _N_CLICKED),
            "client": it["client"],
        }
        for it in rows
    ]


def _examples_of(bad: pa.Table) -> dict[str, str]:
    """Give a detail for each reason; never who searched."""
    found: dict[str, str] = {}
    for row in bad.to_pylist():
        reason = Reason(row["reason"])
        told = f"{_UNTOLD[reason]} is of another type than text" if reason in _UNTOLD else private_parts(row["detail"])
        found.setdefault(reason.value, f"line {row['line']} of {row['object']}: {told}")
    return found


def _yaml_of(config: dict[str, Any], comments: dict[str, str]) -> str:
    """Write the section `logs`, and make sure that it is read as it was meant."""
    text = "\n".join(_yaml_lines({"logs": config}, comments)) + "\n"
    read = yaml.safe_load(text)["logs"]
    assert read == config, text
    Logs.model_validate(read)
    return text


def _yaml_lines(config: dict[str, Any], comments: dict[str, str], path: str = "", indent: str = "") -> Iterator[str]:
    for key, value in config.items():
        here = f"{path}.{key}".removeprefix(".").removeprefix("logs.")
        comment = f"  # {' '.join(ascii(comments[here])[1:-1].split())}" if here in comments else ""
        if isinstance(value, dict):
            yield f"{indent}{key}:{comment}"
            yield from _yaml_lines(value, comments, here, indent + "  ")
        else:
            # Escaped where it is not ASCII: it is pasted from a terminal.
            text = yaml.safe_dump(value, default_flow_style=True, width=math.inf).removesuffix("...\n").strip()
            if isinstance(value, list) and len(text) > _LINE:
                yield f"{indent}{key}:{comment}"
                yield from (f"{indent}  - {yaml.safe_dump([it], width=math.inf)[2:].strip()}" for it in value)
            else:
                yield f"{indent}{key}: {text}{comment}"


__all__ = ["MAX_BYTES", "MAX_LINES", "MAX_OBJECTS", "Inspection", "KeySeen", "inspect_log"]
