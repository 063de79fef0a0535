"""A bounded sample of a log: some of its newest objects, of each its first lines."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from embft.clickstream.inspection.listing import LogFile
from embft.clickstream.inspection.partitions import newest_day
from embft.clickstream.lines import GZIP_MAGIC, ZSTD_MAGIC, read_lines
from embft.clickstream.parquet_rows import PARQUET_MAGIC, as_json
from embft.clickstream.quarantine import BadLine
from embft.clickstream.ubi import ubi_document

MAX_OBJECTS = 12
MAX_BYTES = 16 << 20
MAX_LINES = 20_000

_MAX_PARQUET_BYTES = 64 << 20  # of all; its columns are told at its end, so an object is fetched whole or not at all
_MAX_INFLATION = 4  # unpacked bytes that are looked at, for each of MAX_BYTES
_BATCH = 4096
_CONTAINERS = {GZIP_MAGIC: "gzip", ZSTD_MAGIC: "zstd", PARQUET_MAGIC: "Parquet"}


@dataclass
class Sampled:
    """An object's part of the sample: a file with its first bytes, and its lines as objects.

    A line that is no object is None in `rows`; `fault` says why all are. `is_cut`: there is more of the object.
    """

    item: LogFile
    path: Path
    n_bytes: int
    container: str
    is_cut: bool
    rows: list[dict[str, Any] | None] = field(default_factory=list)
    fault: str | None = None

    @property
    def day(self) -> date | None:
        """The day in its key."""
        return self.item.placed.day if self.item.placed else None


def _folder(item: LogFile) -> str:
    return item.placed.template.partition("{")[0] if item.placed else item.key.rpartition("/")[0]


def choose(objects: Sequence[LogFile], today: date) -> list[LogFile]:
    """Choose the last objects of every folder's newest day, in turn; the small ones come first."""
    folders: dict[str, list[LogFile]] = defaultdict(list)
    for it in objects:
        folders[_folder(it)].append(it)
    newest = []
    for several in folders.values():
        day = newest_day((it.placed.day for it in several if it.placed), today)
        newest.append((day or date.min, [it for it in several if day is None or (it.placed and it.placed.day == day)]))
    newest.sort(key=lambda it: it[0], reverse=True)
    in_turn = [it for turn in zip_longest(*(several[::-1] for _, several in newest)) for it in turn if it is not None]
    return sorted(in_turn[:MAX_OBJECTS], key=lambda it: it.size_bytes)


def take_sample(objects: Sequence[LogFile], folder: Path) -> list[Sampled]:
    """Read the first lines of some objects; what the small ones, the first, leave of their share is the others'."""
    sample = []
    n_bytes, n_lines, n_parquet_bytes = MAX_BYTES, MAX_LINES, _MAX_PARQUET_BYTES
    for number, item in enumerate(objects):
        n_left = len(objects) - number
        found = _fetched(item, folder / f"{number:03d}", n_bytes // n_left, n_parquet_bytes)
        if found.container != "Parquet":
            _look_into_lines(found, n_lines // n_left, _MAX_INFLATION * n_bytes // n_left)
        elif not found.fault:
            n_parquet_bytes -= found.n_bytes
            _look_into_parquet(found, n_lines // n_left)
        n_bytes -= min(n_bytes // n_left, found.n_bytes)
        n_lines -= len(found.rows)
        sample.append(found)
    return sample


def _fetched(item: LogFile, path: Path, n_bytes: int, n_parquet_bytes: int) -> Sampled:
    head = item.head(n_bytes)
    container = next((name for magic, name in _CONTAINERS.items() if head.startswith(magic)), "JSON lines")
    fault = None
    if container == "Parquet" and item.size_bytes > n_bytes:
        if item.size_bytes <= n_parquet_bytes:
            head = item.head(item.size_bytes)
        else:
            fault = f"a Parquet object of {item.size_bytes >> 20} MB is too big for a sample"
    path.write_bytes(head)
    return Sampled(item, path, len(head), container, is_cut=len(head) < item.size_bytes, fault=fault)


def _look_into_lines(found: Sampled, n_lines: int, n_bytes: int) -> None:
    lines = []
    for line in read_lines(found.path, found.item.uri):
        lines.append(line)
        n_bytes -= len(line.raw)
        if len(lines) > n_lines or n_bytes < 0:
            found.is_cut = True
            break
    # The last line of a cut object is half a line, or the complaint that the stream breaks off.
    for line in lines[:-1] if found.is_cut else lines:
        try:
            if line.fault:
                raise line.fault
            found.rows.append(ubi_document(line.raw))
        except BadLine as bad:
            found.rows.append(None)
            found.fault = found.fault or bad.detail
    if any(found.rows):
        found.fault = None  # some bad lines: the accounting tells


def _look_into_parquet(found: Sampled, n_lines: int) -> None:
    try:
        with pq.ParquetFile(found.path) as file:
            found.is_cut = file.metadata.num_rows > n_lines
            rows = chain.from_iterable(batch.to_pylist() for batch in file.iter_batches(_BATCH))
            found.rows = [as_json(_with_times_as_texts(it)) for it in islice(rows, n_lines)]
    except (OSError, pa.ArrowException) as error:
        found.fault = f"the Parquet object cannot be read ({str(error)[:150]})"


def _with_times_as_texts(row: dict[str, Any]) -> dict[str, Any]:
    return {name: it.isoformat() if isinstance(it, datetime | date) else it for name, it in row.items()}
