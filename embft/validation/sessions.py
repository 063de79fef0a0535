"""The catalogue and the window's sessions under their suites, and what must be set aside of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa

from embft.clickstream.anonymity import shareable_queries
from embft.config import Expectation
from embft.validation.catalogue import catalogue_frame
from embft.validation.docs import write_index
from embft.validation.masking import Private
from embft.validation.session_frame import EXAMPLES, session_frame
from embft.validation.suites import run_suite
from embft.validation.verdicts import Verdict
from embft.validation.wording import examples_in_words, figure, percent

QUARANTINE = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.string()),
        ("suite", pa.string()),
        ("rules", pa.list_(pa.string())),
        ("raw", pa.string()),
    ]
)


@dataclass(frozen=True)
class SessionsVerdict:
    """What may go on of a window's sessions and catalogue, and what may not.

    Args:
        clean: Sessions that break no critical row-level rule, columns and order as given.
        clean_items: Items likewise.
        quarantine: What was set aside, columns as in `QUARANTINE`: position, id, suite, rules, the row as JSON.
        verdicts: Of the suites `catalogue` and `sessions`.
        reason: Why, in a sentence for the person on call; None where the run goes on.
        figures: JSON-able figures for people and for later stages.
    """

    clean: pa.Table
    clean_items: pa.Table
    quarantine: pa.Table
    verdicts: list[Verdict]
    reason: str | None
    figures: dict[str, Any]

    @property
    def rejected(self) -> bool:
        """Whether the run must stop."""
        return self.reason is not None


def check_sessions(
    sessions: pa.Table,
    items: pa.Table,
    rules_sessions: Sequence[Expectation],
    rules_catalogue: Sequence[Expectation],
    *,
    window: tuple[date, date],
    zone: ZoneInfo,
    max_quarantined: float,
    min_clients: int,
    docs_folder: Path,
    subject: str = "",
) -> SessionsVerdict:
    """Check the catalogue, then the sessions against what is left of it.

    Args:
        sessions: Columns session_id, day, time, client, query, shown, clicked.
        items: Columns id, text.
        rules_sessions: The suite `sessions`.
        rules_catalogue: The suite `catalogue`.
        window: First and last day, both included.
        zone: Zone in which the log's days begin and end.
        max_quarantined: Share of rows set aside above which the run stops, 0 … 1.
        min_clients: Clients that must have searched for a query before a page, a figure or the reason shows it.
        docs_folder: Folder for Data Docs; `index.html` is the first page.
        subject: What the page's title begins with, such as "demo (synthetic data): ".

    Returns:
        The verdict; bad data is never an error here.

    Raises:
        ConfigError: A rule has an unknown type, a wrong argument, or an unknown column.
    """
    catalogue = run_suite("catalogue", catalogue_frame(items), rules_catalogue, id_column="id", docs_folder=docs_folder)
    clean_items = _without(items, catalogue)
    frame = session_frame(sessions, clean_items["id"], window=window, zone=zone)
    shareable = shareable_queries(sessions, min_clients)
    checked = run_suite(
        "sessions",
        frame,
        rules_sessions,
        id_column="session_id",
        docs_folder=docs_folder,
        examples=EXAMPLES,
        private=None if shareable is None else Private("query", shareable),
    )
    # Without a good catalogue every session looks bad: the catalogue's fault comes first.
    reasons = [*_reasons(catalogue, "items", max_quarantined), *_reasons(checked, "sessions", max_quarantined)]
    reason = reasons[0] if reasons else None
    write_index(docs_folder, f"{subject}Sessions of {window[0]} to {window[1]}", [catalogue, checked], reason)
    return SessionsVerdict(
        clean=_without(sessions, checked),
        clean_items=clean_items,
        quarantine=pa.concat_tables(
            [_quarantine(items, "id", catalogue), _quarantine(sessions, "session_id", checked)]
        ),
        verdicts=[catalogue, checked],
        reason=reason,
        figures=_figures(catalogue, checked, frame),
    )


def _reasons(verdict: Verdict, noun: str, limit: float) -> list[str]:
    """List why the run must stop, the cause before what follows from it."""
    n_broken = len(verdict.broken)
    rejections = [f"{verdict.suite}: {sentence}" for sentence in verdict.rejections]
    if not verdict.rows or n_broken / verdict.rows <= limit:
        return rejections
    worst = max(
        (rule for rule in verdict.rules if rule.kind == "row" and rule.severity == "critical"),
        key=lambda rule: rule.broken_rows,
    )
    return [
        f"{figure(n_broken)} of {figure(verdict.rows)} {noun} ({percent(n_broken / verdict.rows)}) were set aside, "
        f"more than validation.max_quarantined allows ({percent(limit)}). The rule that most of them break, "
        f"{figure(worst.broken_rows)}, is “{worst.rule}”{examples_in_words(worst.examples)}: {worst.why}",
        *rejections,
    ]


def _without(table: pa.Table, verdict: Verdict) -> pa.Table:
    if not verdict.broken:
        return table
    keep = np.ones(table.num_rows, dtype=bool)
    keep[list(verdict.broken)] = False
    return table.filter(pa.array(keep))


def _quarantine(table: pa.Table, id_column: str, verdict: Verdict) -> pa.Table:
    rows = list(verdict.broken)
    raw = table.take(pa.array(rows, pa.int64())).to_pylist()
    return pa.table(
        {
            "row": rows,
            "id": [row[id_column] for row in raw],
            "suite": [verdict.suite] * len(rows),
            "rules": list(verdict.broken.values()),
            "raw": [json.dumps(row, ensure_ascii=False, default=str) for row in raw],
        },
        schema=QUARANTINE,
    )


def _figures(catalogue: Verdict, sessions: Verdict, frame: pd.DataFrame) -> dict[str, Any]:
    return {
        "items": {"checked": catalogue.rows, "set_aside": len(catalogue.broken)},
        "sessions": {
            "checked": sessions.rows,
            "set_aside": len(sessions.broken),
            "clicked": int(frame["has_click"].drop(index=list(sessions.broken)).sum()),
        },
        "set_aside_by_rule": {
            f"{verdict.suite}: {rule.rule}": rule.broken_rows
            for verdict in (catalogue, sessions)
            for rule in verdict.rules
            if rule.kind == "row" and rule.severity == "critical" and rule.broken_rows
        },
        "warnings": [f"{it.suite}: {sentence}" for it in (catalogue, sessions) for sentence in it.warnings],
        "notes": [f"{it.suite}: {sentence}" for it in (catalogue, sessions) for sentence in it.notes],
    }
