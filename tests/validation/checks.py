"""A night's check of rows given in Python, and what it left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from embft.clickstream.sessions import SCHEMA
from embft.validation.sessions import SessionsVerdict, check_sessions
from embft.validation.suites import Figures, SuiteRun
from embft.validation.verdicts import Verdict
from embft.validation.window import Before, Limits, PulledDay
from embft.validation_config import Expectation

WINDOW = (date(2011, 10, 1), date(2011, 10, 10))
ITEMS = pa.schema([("id", pa.string()), ("text", pa.string())])
Rows = list[dict[str, Any]]


def rule(type_: str, severity: str = "critical", name: str = "ours", why: str = "it matters", **kwargs: Any) -> Any:
    return Expectation(name=name, type=type_, kwargs=kwargs, severity=severity, why=why)  # type: ignore[arg-type]


def run_suite(
    frame: pd.DataFrame,
    *rules: Expectation,
    folder: Path,
    partitions: int = 1,
    figures: Figures | None = None,
    **options: Any,
) -> tuple[Verdict, dict[int, list[str]]]:
    """Run a suite `toy`, and give the broken rows by their position in the whole frame."""
    names = list(figures.frame.columns) if figures else []
    suite = SuiteRun("toy", rules, columns=list(frame.columns), figures=names, id_column="id", **options)
    step, broken = -(-max(len(frame), 1) // partitions), {}
    for first in range(0, max(len(frame), 1), step):
        found = suite.judge(frame.iloc[first : first + step])
        broken |= {first + row: names for row, names in found.items()}
    return suite.verdict(folder, figures), broken


@dataclass(frozen=True)
class Checked:
    """What `check_sessions` said, and its files read in."""

    verdict: SessionsVerdict
    clean: pa.Table = field(repr=False)
    items: pa.Table = field(repr=False)
    aside: Rows
    docs: Path

    @property
    def figures(self) -> dict[str, Any]:
        return self.verdict.figures

    @property
    def reasons(self) -> list[str]:
        return self.verdict.reasons

    @property
    def told(self) -> list[str]:
        """The reasons and the warnings."""
        return [*self.verdict.reasons, *self.verdict.figures["warnings"]]

    def broken_rules(self) -> set[str]:
        return {rule.name for verdict in self.verdict.verdicts for rule in verdict.rules if rule.success is False}


def check_rows(
    sessions: Rows,
    items: Rows,
    suites: Mapping[str, Sequence[Expectation]],
    folder: Path,
    *,
    before: Before | None = None,
    max_quarantined: float = 0.05,
    min_clients: int = 5,
    lines: Mapping[str, int] | None = None,
    refused: Mapping[date, str] | None = None,
    files_by: str = "day",
) -> Checked:
    """Check sessions as a night does: each row lies in the file of its day, or of its `file`."""
    folder.mkdir(parents=True, exist_ok=True)
    by_day: dict[date, Rows] = {}
    for row in sessions:
        by_day.setdefault(row.get("file", row[files_by]), []).append({k: v for k, v in row.items() if k != "file"})
    days = []
    for day, rows in sorted(by_day.items()):
        path = folder / f"pulled-{day}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)
        counted = {"lines": len(rows), "used": len(rows), "duplicates": 0, "quarantined": 0, "filtered": 0}
        days.append(PulledDay(day, lambda path=path: path, len(rows), lines or counted, (refused or {}).get(day)))
    verdict = check_sessions(
        days,
        pa.Table.from_pylist(items, schema=ITEMS),
        suites["sessions"],
        suites["catalogue"],
        limits=Limits(WINDOW, ZoneInfo("Europe/Berlin"), max_quarantined, min_clients, reference_days=42),
        before=before or Before(),
        folder=folder,
    )
    return Checked(
        verdict,
        pq.read_table(verdict.files["sessions.parquet"]),
        pq.read_table(verdict.files["items.parquet"]),
        pq.read_table(verdict.files["quarantine.parquet"]).to_pylist(),
        folder / "docs",
    )
