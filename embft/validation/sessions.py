"""The catalogue and the window's sessions under their suites, and what must be set aside of them.

Rows that break a critical row-level rule go to quarantine. A log day that breaks a critical rule on its figures is not
learned from: where it is the night's own day the night stops, where it is an earlier one (its own night was stopped by
it, and nobody mended it since) the night goes on without it and says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.stats import binom

from embft.clickstream.anonymity import shareable_queries
from embft.clickstream.sessions import SCHEMA, read_sessions
from embft.validation import day_figures as of_days
from embft.validation import session_frame as of_sessions
from embft.validation.catalogue import CatalogueVerdict, check_catalogue
from embft.validation.docs import LogDays, write_index
from embft.validation.hashes import SeenBefore
from embft.validation.masking import Private
from embft.validation.profiles import LOOKBACK_DAYS, DayProfile, Profiler
from embft.validation.setting_aside import QUARANTINE, set_aside, too_many, without
from embft.validation.suites import SuiteRun
from embft.validation.verdicts import Excess, Verdict
from embft.validation.window import Before, Limits, PulledDay
from embft.validation.wording import figure
from embft.validation_config import Expectation

_CHANCE = 0.001
_PARTITION_ROWS = 200_000  # small days are judged together: each run of the library costs a part of a second


@dataclass(frozen=True)
class SessionsVerdict:
    """What may go on of a window's sessions and catalogue, and what may not.

    Args:
        files: `sessions.parquet` and `items.parquet`, what may go on, columns and order as given; `quarantine.parquet`,
            what was set aside, columns as in `QUARANTINE`: position, id, suite, names of rules, the row as JSON.
        verdicts: Of the suites `catalogue` and `sessions`.
        reasons: Why the run must stop, in sentences for the person on call, the cause before what follows from it.
        figures: JSON-able figures for people and for later stages.
    """

    files: dict[str, Path]
    verdicts: list[Verdict]
    reasons: list[str]
    figures: dict[str, Any]


def check_sessions(
    days: Sequence[PulledDay],
    items: pa.Table,
    rules_sessions: Sequence[Expectation],
    rules_catalogue: Sequence[Expectation],
    *,
    limits: Limits,
    before: Before,
    folder: Path,
    subject: str = "",
) -> SessionsVerdict:
    """Check the catalogue, then the sessions against what is left of it, one partition after the other.

    Args:
        days: The window's log days in the order of time.
        items: Columns id, text.
        rules_sessions: The suite `sessions`.
        rules_catalogue: The suite `catalogue`.
        limits: Of the config.
        before: What earlier nights left.
        folder: For the files, made if missing, and `docs/` with Data Docs, whose first page is `index.html`.
        subject: What the page's title begins with, such as "demo (synthetic data): ".

    Returns:
        The verdict; bad data is never an error here.

    Raises:
        ConfigError: A rule has an unknown type, a wrong argument, or an unknown column.
    """
    folder.mkdir(parents=True, exist_ok=True)
    docs, files = folder / "docs", {name: folder / f"{name}.parquet" for name in ("sessions", "items", "quarantine")}
    with pq.ParquetWriter(files["quarantine"], QUARANTINE) as quarantine:
        of_items = check_catalogue(
            items, rules_catalogue, last=before.items, max_quarantined=limits.max_quarantined, docs_folder=docs
        )
        quarantine.write_table(set_aside("catalogue", items, "id", of_items.broken, first_row=0))
        check = _Check(rules_sessions, of_items.clean["id"], limits, quarantine, folder)
        for partition in _partitions(days):
            check.judge(partition)
    pq.write_table(of_items.clean, files["items"])
    sessions = check.suite.verdict(
        docs, of_days.day_figures(check.profiles, before.days, reference_days=limits.reference_days)
    )
    found = _Findings(of_items, check, sessions, limits.window[1].isoformat(), {it.day: it.refused for it in days})
    _join([check.clean[it] for it in check.clean if it not in found.refused], files["sessions"])
    write_index(
        docs,
        f"{subject}Sessions of {limits.window[0]} to {limits.window[1]}",
        [of_items.verdict, sessions],
        found.reasons,
        found.cautions,
        excess=[*of_items.excess, *found.excess],
        days=LogDays(
            found.newest,
            check.profiles,
            of_days.usual_sessions(check.profiles, before.days, reference_days=limits.reference_days),
            found.left_out,
        ),
    )
    return SessionsVerdict(
        files={f"{name}.parquet": path for name, path in files.items()},
        verdicts=[of_items.verdict, sessions],
        reasons=found.reasons,
        figures=found.figures(),
    )


class _Check:
    """The window's sessions on their way through the suite: what is clean on disk, what is not in quarantine."""

    def __init__(
        self,
        rules: Sequence[Expectation],
        item_ids: pa.ChunkedArray,
        limits: Limits,
        quarantine: pq.ParquetWriter,
        folder: Path,
    ) -> None:
        self._private = Private("query", set()) if limits.min_clients > 1 else None
        self.suite = SuiteRun(
            "sessions",
            rules,
            columns=of_sessions.COLUMNS,
            figures=of_days.COLUMNS,
            id_column="session_id",
            examples=of_sessions.EXAMPLES,
            private=self._private,
        )
        self._item_ids, self._limits, self._quarantine, self._folder = item_ids, limits, quarantine, folder
        n_days = (limits.window[1] - limits.window[0]).days
        self._profiler = Profiler(limits.zone, lookback=min(LOOKBACK_DAYS, n_days))
        self._seen, self._n_rows = SeenBefore(), 0
        self.profiles: list[DayProfile] = []
        self.clean: dict[str, Path] = {}
        self.n_clean: dict[str, int] = {}
        self.n_clicked: dict[str, int] = {}
        self.n_broken: dict[str, int] = {}

    def judge(self, days: Sequence[PulledDay]) -> None:
        """Judge the rows of some days, and describe each day by what is left of it."""
        tables = [read_sessions(it.sessions()) for it in days]
        sessions = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
        if self._private:
            self._private.shareable.update(shareable_queries(sessions, self._limits.min_clients) or ())
        frame = of_sessions.session_frame(
            sessions,
            self._item_ids,
            window=self._limits.window,
            zone=self._limits.zone,
            n_earlier_copies=self._seen.earlier_copies(sessions["session_id"]),
        )
        broken = self.suite.judge(frame)
        shows_unknown = (frame["n_unknown_shown"] > 0).to_numpy(copy=True)
        shows_unknown[list(broken)] = False
        self._quarantine.write_table(set_aside("sessions", sessions, "session_id", broken, first_row=self._n_rows))
        first = 0
        for day, table in zip(days, tables, strict=True):
            of_day = {row - first: rules for row, rules in broken.items() if first <= row < first + table.num_rows}
            n_unknown_shown = int(shows_unknown[first : first + table.num_rows].sum())
            self._describe(day, without(table, of_day), len(of_day), n_unknown_shown)
            first += table.num_rows
        self._n_rows += sessions.num_rows

    def _describe(self, day: PulledDay, clean: pa.Table, n_broken: int, n_unknown_shown: int) -> None:
        name = day.day.isoformat()
        self.profiles.append(self._profiler.profile(day.day, clean, day.lines, n_unknown_shown=n_unknown_shown))
        self.n_broken[name], self.n_clean[name] = n_broken, clean.num_rows
        self.n_clicked[name] = pc.sum(pc.greater(pc.list_value_length(clean["clicked"]), 0)).as_py() or 0
        self.clean[name] = self._folder / f"clean-{name}.parquet"
        pq.write_table(clean, self.clean[name])

    def excess(self, verdict: Verdict, days: Sequence[str], rows_of: str) -> list[Excess]:
        """Say whether too much was set aside of some days. The few rows of a small day do not break it by chance."""
        limit = self._limits.max_quarantined
        n_broken = sum(self.n_broken[day] for day in days)
        n = n_broken + sum(self.n_clean[day] for day in days)
        is_chance = binom.sf(n_broken - 1, n, limit) > _CHANCE
        return [] if is_chance else too_many(verdict, rows_of, n_broken, n, limit)


class _Findings:
    """What the suites found, as people and later stages are told of it."""

    def __init__(
        self,
        items: CatalogueVerdict,
        check: _Check,
        sessions: Verdict,
        newest: str,
        unread: Mapping[date, str | None],
    ) -> None:
        self._items, self._check, self._sessions, self.newest = items, check, sessions, newest
        self._suites = (items.verdict, sessions)
        self.refused = {day.isoformat(): [why] for day, why in unread.items() if why}
        for day, sentences in sessions.days_broken("critical").items():
            self.refused.setdefault(day, []).extend(sentences)
        # By day: one broken delivery must neither hide behind a window's good days, nor stop every night after it.
        of_days = {day: check.excess(sessions, [day], f"sessions of {day}") for day in check.clean}
        for day, excess in of_days.items():
            if excess and day != newest:
                self.refused[day] = [*(it.found for it in excess), *self.refused.get(day, ())]
        self._kept = [day for day in check.clean if day not in self.refused]
        self.excess = of_days.get(newest, []) or check.excess(sessions, self._kept, "sessions")

    @property
    def left_out(self) -> dict[str, list[str]]:
        """Earlier days that the night goes on without → why."""
        return {day: sentences for day, sentences in self.refused.items() if day != self.newest}

    @property
    def reasons(self) -> list[str]:
        """Why the run must stop. Without a good catalogue every session looks bad: its fault comes first."""
        return [
            *self._items.reasons,
            *(it.sentence for it in self.excess),
            *(f"the sessions of {self.newest}: {sentence}" for sentence in self.refused.get(self.newest, ())),
            *(f"sessions: {sentence}" for sentence in self._sessions.rejections),
            *self._of_nothing(),
        ]

    def _of_nothing(self) -> Iterator[str]:
        """Say what no rule can: those on the set see the days that are left out, too."""
        n_left = self._check.n_clean.get(self.newest, 0)
        if not n_left:
            yield (
                f"{self.newest} has no good session, so there is nothing to hold a new model against; next: look for "
                "its log objects under logs.uri, and at what was set aside"
            )
        elif 2 * len(self.left_out) > len(self._check.clean):
            yield (
                f"{len(self.left_out)} of {len(self._check.clean)} days of the window are left out, too many to learn "
                f"without them; the first is {min(self.left_out)}: {self.left_out[min(self.left_out)][0]}"
            )
        elif not any(self._check.n_clicked[day] for day in self._kept):
            yield (
                "the days that are left have no session with a click, so there is nothing to learn; next: look at the "
                "days that are left out, and mend their logs"
            )

    @property
    def cautions(self) -> list[str]:
        """What a person should know, without the days that are left out."""
        of_newest = self._sessions.days_broken("warning").get(self.newest, ())
        return [
            *(f"{it.suite}: {sentence}" for it in self._suites for sentence in it.warnings),
            *(f"the sessions of {self.newest}: {sentence}" for sentence in of_newest),
        ]

    def figures(self) -> dict[str, Any]:
        """Give the stage's figures."""
        check, sessions = self._check, self._sessions
        return {
            "items": {"checked": self._items.verdict.rows, "set_aside": self._items.verdict.n_broken},
            "sessions": {
                "checked": sessions.rows,
                "set_aside": sessions.n_broken,
                "left_out": sum(check.n_clean[day] for day in self.refused),
                "clicked": sum(check.n_clicked[day] for day in self._kept),
            },
            "set_aside_by_rule": {
                f"{it.suite}: {rule.name}": rule.broken_rows
                for it in self._suites
                for rule in it.rules
                if rule.kind == "row" and rule.severity == "critical" and rule.broken_rows
            },
            "days_left_out": self.refused,
            "warnings": [*self.cautions, *self._without_days()],
            "notes": [f"{it.suite}: {sentence}" for it in self._suites for sentence in it.notes],
            "profiles": {it.day.isoformat(): it.model_dump(mode="json") for it in check.profiles},
        }

    def _without_days(self) -> list[str]:
        return [
            f"{day} is left out of this night with its {figure(self._check.n_clean[day])} sessions: {'; '.join(told)}"
            for day, told in self.left_out.items()
        ]


def _partitions(days: Sequence[PulledDay]) -> Iterator[list[PulledDay]]:
    """Put small days together; there is one partition even where there is no day."""
    partition: list[PulledDay] = []
    for day in days:
        if partition and sum(it.n_sessions for it in partition) + day.n_sessions > _PARTITION_ROWS:
            yield partition
            partition = []
        partition.append(day)
    yield partition


def _join(parts: Sequence[Path], path: Path) -> None:
    """Write one file of many, holding one of them in memory at a time."""
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for part in parts:
            writer.write_table(pq.read_table(part, schema=SCHEMA))
