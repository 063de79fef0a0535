"""A log's days as the night meets them: read by `pull`'s reader, then judged against what earlier nights saw."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from embft.clickstream.catalogue import read_catalogue
from embft.clickstream.privacy import ClientHash
from embft.clickstream.reader import DayReader, LogObject
from embft.clickstream.sessions import read_sessions
from embft.config import Catalogue
from embft.log_config import Logs
from embft.validation.profiles import LOOKBACK_DAYS, Profiler
from embft.validation.sessions import SessionsVerdict, check_sessions
from embft.validation.window import Before, Limits, PulledDay
from embft.validation_config import Validation, load_suite

Line = dict[str, Any] | str
"""A log line: a JSON object, or text that is none."""

Part = Literal["sessions", "catalogue"]

WINDOW_DAYS = 14
_KEY = ClientHash("of a benchmark alone")
EXPECTATIONS = Path(__file__).resolve().parents[1] / "include" / "expectations"
_DEFAULTS = Validation()
LIMIT = "max_quarantined"


@dataclass(frozen=True)
class Shop:
    """A shop's log and catalogue, undamaged.

    Args:
        logs: How the log is read.
        days: Log day → its lines.
        items: The lines of the catalogue.
    """

    logs: Logs
    days: Mapping[date, Sequence[Line]]
    items: Sequence[Line]


@dataclass(frozen=True)
class Read:
    """A log day or a catalogue after its reading.

    Args:
        table: What was read.
        bad_lines: Positions of the lines that could not be read.
        counts: Where the lines went: lines, duplicates, quarantined; of a day, filtered too.
        by_name: Rules that left lines out → lines.
    """

    table: pa.Table
    bad_lines: frozenset[int]
    counts: Mapping[str, int]
    by_name: Mapping[str, int]

    @cached_property
    def rows(self) -> frozenset[str]:
        """Each row as JSON, as the quarantine keeps it."""
        return frozenset(json.dumps(row, ensure_ascii=False, default=str) for row in self.table.to_pylist())


@dataclass(frozen=True)
class NightVerdict:
    """What a night made of its newest day.

    Args:
        alarms: Reasons and warnings, in sentences.
        rules: Names of the rules behind them.
        aside: Row that was set aside, as JSON → rules that it breaks; of sessions, those of the newest day.
    """

    alarms: list[str]
    rules: frozenset[str]
    aside: dict[Part, dict[str, list[str]]]


class Nights:
    """The nights of one shop.

    Args:
        shop: The shop.
        folder: For files; what a night leaves there the next one overwrites.
    """

    def __init__(self, shop: Shop, folder: Path) -> None:
        self.shop, self._folder = shop, folder
        self._zone = ZoneInfo(shop.logs.timezone)
        self._rules = {name: load_suite(EXPECTATIONS, name) for name in ("sessions", "catalogue")}
        self._days = {day: self.read_day(day, lines) for day, lines in sorted(shop.days.items())}
        self._files = {day: _saved(read, folder / f"{day}.parquet") for day, read in self._days.items()}
        profiler = Profiler(self._zone, LOOKBACK_DAYS)
        self._profiles = {day: profiler.profile(day, read.table, read.counts) for day, read in self._days.items()}
        self._items = self.read_items(shop.items)

    def undamaged(self, day: date) -> Read:
        """Give a day as it came."""
        return self._days[day]

    @property
    def items(self) -> Read:
        """The catalogue as it came."""
        return self._items

    def read_day(self, day: date, lines: Sequence[Line]) -> Read:
        """Read a day's lines as `pull` does.

        Args:
            day: The log day.
            lines: In the object's order.

        Returns:
            The day.
        """
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            log = _written(lines, folder / "log.jsonl")
            sessions, bad = folder / "sessions.parquet", folder / "bad.parquet"
            with DayReader(day, self.shop.logs, _KEY, [LogObject("s3://shop/log.jsonl")], folder) as reader:
                reader.read([0], lambda *_: log)
                counted = reader.build(sessions, bad)
            bad_lines = frozenset(line - 1 for line in pq.read_table(bad)["line"].to_pylist())
            table = read_sessions(sessions)
        counts = {"lines": counted.lines, "duplicates": counted.duplicates, "quarantined": counted.quarantined}
        counts["filtered"] = sum(counted.filtered.values())
        return Read(table, bad_lines, counts, {**counted.filtered, **counted.quarantined_by_reason})

    def read_items(self, lines: Sequence[Line]) -> Read:
        """Read a catalogue as `validate_sessions` does.

        Args:
            lines: In the object's order.

        Returns:
            The catalogue.
        """
        uri = "s3://shop/items.jsonl"
        read = read_catalogue(_written(lines, self._folder / "items.jsonl"), uri, Catalogue(uri=uri))
        bad_lines = frozenset(line - 1 for line in read.quarantine["line"].to_pylist())
        counted = read.accounting
        counts = {"lines": counted.lines, "duplicates": counted.duplicates, "quarantined": counted.quarantined}
        return Read(read.items, bad_lines, counts, counted.quarantined_by_reason)

    def night(self, day: date, *, newest: Read | None = None, catalogue: Read | None = None) -> NightVerdict:
        """Validate a night.

        Args:
            day: The night's day.
            newest: That day as damaged; None leaves it as it is.
            catalogue: The catalogue as damaged; None leaves it as it is.

        Returns:
            What the night made of it.
        """
        file = _saved(newest, self._folder / "damaged.parquet") if newest else self._files[day]
        newest, catalogue = newest or self._days[day], catalogue or self._items
        window = [day - timedelta(days=back) for back in range(WINDOW_DAYS - 1, -1, -1)]
        out = self._folder / "checked"
        out.mkdir(exist_ok=True)
        verdict = check_sessions(
            [
                *(_pulled(it, self._days[it], self._files[it]) for it in window[:-1] if it in self._days),
                _pulled(day, newest, file),
            ],
            catalogue.table,
            self._rules["sessions"],
            self._rules["catalogue"],
            limits=Limits(
                window=(window[0], day),
                zone=self._zone,
                max_quarantined=_DEFAULTS.max_quarantined,
                min_clients=self.shop.logs.privacy.min_clients,
                reference_days=_DEFAULTS.reference_days,
            ),
            before=Before({it: profile for it, profile in self._profiles.items() if it < day}, self._items.table),
            folder=out,
        )
        aside: dict[Part, dict[str, list[str]]] = {"sessions": {}, "catalogue": {}}
        for row in pq.read_table(verdict.files["quarantine.parquet"]).to_pylist():
            if row["suite"] == "catalogue" or row["raw"] in newest.rows:
                aside[row["suite"]][row["raw"]] = row["rules"]
        refused = {LIMIT} if _refused(newest) else set()
        alarms = [*verdict.reasons, *verdict.figures["warnings"]]
        return NightVerdict(alarms, refused | set(_spoken_up(verdict, day)), aside)


def _pulled(day: date, read: Read, file: Path) -> PulledDay:
    return PulledDay(day, lambda: file, read.table.num_rows, read.counts, _refused(read))


def _refused(read: Read) -> str | None:
    """As `validate_sessions` refuses a day that lost too many lines."""
    share = read.counts["quarantined"] / max(1, read.counts["lines"])
    return f"{share:.1%} of the lines could not be read" if share > _DEFAULTS.max_quarantined else None


def _spoken_up(verdict: SessionsVerdict, day: date) -> Iterator[str]:
    """Name the rules that the newest day or the set breaks, and the limit on what is set aside."""
    for suite in verdict.verdicts:
        for rule in suite.rules:
            if (
                rule.success is False
                and rule.kind != "row"
                and (not rule.broken_days or day.isoformat() in rule.broken_days)
            ):
                yield rule.name
    if any("validation.max_quarantined allows" in reason for reason in verdict.reasons):
        yield LIMIT


def _saved(read: Read, path: Path) -> Path:
    pq.write_table(read.table, path)
    return path


def _written(lines: Iterable[Line], path: Path) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write((line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)) + "\n")
    return path
