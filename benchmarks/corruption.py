"""What the nightly checks catch: one kind of damage at a time, weak, middle and strong; and how often they cry wolf.

The real Best Buy days are damaged line by line, read as `pull` reads them and validated as `validate_sessions` does,
against profiles of the undamaged days before. What the real log does not have, shown lists, is damaged in a simulated
one. Damage is caught where every night that met it raised a reason or a warning, or set aside what was damaged. A
night on undamaged data must raise neither; single garbled rows may be set aside.
"""

import argparse
import gzip
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import yaml

from benchmarks import corruption_catalogue, corruption_lines, corruption_ranks, corruption_shown
from benchmarks.corruption_lines import Damaged, Kind, Log, Row
from benchmarks.corruption_nights import Line, Nights, NightVerdict, Part, Read, Shop
from benchmarks.corruption_results import STRENGTHS, Results, Seen
from benchmarks.figures import print_figure
from embft.clickstream.simulator import load_shop, simulate
from embft.log_config import Logs
from embft.validation.usual import MIN_DAYS
from tests import realdata

DEMO = Path(__file__).resolve().parents[1] / "include" / "demo"
REAL_DAYS = (date(2011, 9, 14), date(2011, 9, 20), date(2011, 10, 1))  # a Wednesday, the busiest Tuesday, a Saturday
DEV_FROM, CUT_OFF = date(2011, 10, 10), date(2011, 10, 20)  # the log's last day breaks off after 27 minutes
SIMULATED_FIRST, N_SIMULATED = date(2026, 1, 1), 28
SIMULATED_DAYS = (date(2026, 1, 22), date(2026, 1, 25), date(2026, 1, 28))
SEARCHES_PER_DAY, SEED = 400, 17
DATA = {
    "lines": f"Best Buy clicks, {', '.join(map(str, REAL_DAYS))} damaged",
    "shown": f"simulated log of {SEARCHES_PER_DAY} searches a day with shown lists, {len(SIMULATED_DAYS)} days damaged",
    "ranks": f"14 days of Best Buy clicks to {REAL_DAYS[1]}, 10 drawn items each, static model trained before",
    "catalogue": f"Best Buy's 437 items, night of {REAL_DAYS[1]}",
}
_SET_ASIDE = 0.9  # of the damaged rows; then they do no harm


def main(arguments: Sequence[str] | None = None) -> int:
    """Damage, validate, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corruption", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], help="kinds of damage; then no undamaged night is looked at")
    options = parser.parse_args(arguments)
    if not realdata.CLICKS.exists():
        print(f"corruption: no real clicks in {realdata.CLICKS}; set EMBFT_DATA", file=sys.stderr)
        return 0
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / shop for shop in ("real", "simulated", "ranks")]
        for folder in folders:
            folder.mkdir()
        real, simulated = Nights(_real_shop(), folders[0]), Nights(_simulated_shop(), folders[1])
        if not options.only:
            _report_false_alarms(real)
        cases = [
            *_cases("lines", corruption_lines.KINDS, real, REAL_DAYS),
            *_cases("shown", corruption_shown.KINDS, simulated, SIMULATED_DAYS),
            *_cases("catalogue", corruption_catalogue.KINDS, real, REAL_DAYS[1:2]),
        ]
        seen = [it.run() for it in cases if not options.only or it.kind.name in options.only]
        seen += corruption_ranks.see_all(real, REAL_DAYS[1], folders[2], only=options.only)
        results = Results(seen)
    results.print_table()
    results.print_figures(DATA)
    return 0


def _report_false_alarms(nights: Nights) -> None:
    days = sorted(nights.shop.days)[MIN_DAYS:]
    for name, chosen in (
        ("", [day for day in days if day < DEV_FROM]),
        (".late", [day for day in days if DEV_FROM <= day < CUT_OFF]),
    ):
        alarms = {day: verdict for day in chosen if (verdict := nights.night(day)).alarms}
        for day, verdict in alarms.items():
            print(f"corruption: alarm on the undamaged {day}: {' | '.join(verdict.alarms)}", file=sys.stderr)
        told = "".join(f"; {day}: {', '.join(sorted(it.rules))}" for day, it in alarms.items())
        print_figure(
            f"validation.false_alarm_days{name}",
            len(alarms),
            "days",
            baseline=None,
            n=len(chosen),
            data=f"undamaged Best Buy days {chosen[0]} to {chosen[-1]}, each as the newest of 14{told}",
        )


@dataclass(frozen=True)
class Case:
    """One kind of damage at one strength, on one night."""

    group: str
    kind: Kind
    strength: int
    nights: Nights
    day: date

    def run(self) -> Seen:
        """Damage, read and validate."""
        began = perf_counter()
        damaged = self.kind.damage(self._log(), self.kind.strengths[self.strength])
        before, after = self._undamaged(), self._read(damaged.lines)
        strength = STRENGTHS[self.strength]
        if after.rows == before.rows and after.counts == before.counts:
            return Seen(self.group, self.kind.name, strength, harmless=True)
        seen = self._judged(damaged, before, after)
        print(f"corruption: {seen.kind} {strength} {self.day}: {perf_counter() - began:.1f} s", file=sys.stderr)
        return seen

    def _judged(self, damaged: Damaged, before: Read, after: Read) -> Seen:
        quiet, verdict = _quiet(self.nights, self.day), self._night(after)
        good = self._good_rows(damaged, before)
        aside = {row: rules for row, rules in verdict.aside[self._part].items() if row not in quiet.aside[self._part]}
        n_through = len(after.rows - good - aside.keys())
        n_touched = len(damaged.touched)
        left_out = [name for name, n in after.by_name.items() if n > before.by_name.get(name, 0)]
        if after.counts["duplicates"] > before.counts["duplicates"]:
            left_out.append("duplicates")
        return Seen(
            self.group,
            self.kind.name,
            STRENGTHS[self.strength],
            caught=bool(set(verdict.alarms) - set(quiet.alarms))
            or (n_touched > 0 and n_through <= (1 - _SET_ASIDE) * n_touched),
            rules=[
                *sorted(verdict.rules - quiet.rules),
                *sorted({rule for rules in aside.values() for rule in rules}),
                *(f"pull: {name}" for name in left_out),
            ],
            touched=n_touched,
            right=len(aside.keys() - good) + len(after.bad_lines & damaged.touched),
            wrong=len(aside.keys() & good) + len(after.bad_lines - damaged.touched),
        )

    def _good_rows(self, damaged: Damaged, before: Read) -> frozenset[str]:
        """Give what would have come of the untouched lines alone."""
        untouched = [line for at, line in enumerate(damaged.lines) if at not in damaged.touched]
        if not untouched:
            return frozenset()
        return before.rows if untouched == self._lines else self._read(untouched).rows

    @property
    def _part(self) -> Part:
        return "catalogue" if self.group == "catalogue" else "sessions"

    @property
    def _lines(self) -> Sequence[Any]:
        return self.nights.shop.items if self._part == "catalogue" else self.nights.shop.days[self.day]

    def _log(self) -> Log:
        shop = self.nights.shop
        return Log(
            day=self.day,
            lines=self._lines,
            days=shop.days,
            item_ids=[it["id"] for it in shop.items],
            stranger=_home_depot_items() if self._part == "catalogue" else _home_depot_clicks(),
            chance=np.random.default_rng(SEED),
        )

    def _undamaged(self) -> Read:
        return self.nights.items if self._part == "catalogue" else self.nights.undamaged(self.day)

    def _read(self, lines: Sequence[Line]) -> Read:
        return self.nights.read_items(lines) if self._part == "catalogue" else self.nights.read_day(self.day, lines)

    def _night(self, read: Read) -> NightVerdict:
        if self._part == "catalogue":
            return self.nights.night(self.day, catalogue=read)
        return self.nights.night(self.day, newest=read)


def _cases(group: str, kinds: Sequence[Kind], nights: Nights, days: Sequence[date]) -> Iterator[Case]:
    for kind in kinds:
        for strength in range(len(STRENGTHS)):
            for day in days:
                yield Case(group, kind, strength, nights, day)


@cache
def _quiet(nights: Nights, day: date) -> NightVerdict:
    """Validate the undamaged night."""
    return nights.night(day)


def _real_shop() -> Shop:
    config = yaml.safe_load(realdata.CONFIG.format(bucket="shop", endpoint="http://s3", mlflow="http://mlflow"))
    with gzip.open(realdata.CLICKS / "clicks_train.jsonl.gz", "rt", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    items = (realdata.CLICKS / "items.jsonl").read_text(encoding="utf-8").splitlines()
    return Shop(Logs(**config["logs"]), _by_day(lines), [json.loads(line) for line in items])


def _simulated_shop() -> Shop:
    made = dict(
        simulate(
            load_shop(DEMO),
            first_day=SIMULATED_FIRST,
            days=N_SIMULATED,
            sessions_per_day=SEARCHES_PER_DAY,
            seed=SEED,
        )
    )
    items = made.pop("catalogue/items.jsonl").splitlines()
    lines = [json.loads(line) for packed in made.values() for line in gzip.decompress(packed).splitlines()]
    logs = Logs(uri="s3://shop/logs/dt={day}", noise={"max_sessions_per_client": 20})
    return Shop(logs, _by_day(lines), [json.loads(line) for line in items])


def _by_day(lines: Sequence[Row]) -> dict[date, list[Row]]:
    days: dict[date, list[Row]] = defaultdict(list)
    for line in lines:
        days[date.fromisoformat(line["time"][:10])].append(line)
    return dict(days)


@cache
def _home_depot_clicks() -> list[Row]:
    """Queries of another shop with ids of its items."""
    queries = (realdata.DATA / "home_depot" / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in queries[:2000]]
    return [{"query": text, "clicked": item["id"]} for text, item in zip(texts, _home_depot_items(), strict=False)]


@cache
def _home_depot_items() -> list[Row]:
    with gzip.open(realdata.DATA / "home_depot" / "items.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line, _ in zip(lines, range(2000), strict=False)]


if __name__ == "__main__":
    sys.exit(main())
