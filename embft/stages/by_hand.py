"""One suite on one table, by hand: what a night would say of it. Nothing is written to S3."""

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from embft.clickstream.accounting import CatalogueAccounting
from embft.clickstream.catalogue import ITEMS_SCHEMA, CatalogueRead, read_catalogue
from embft.clickstream.quarantine import Quarantine
from embft.clickstream.sessions import SCHEMA
from embft.errors import ConfigError
from embft.paths import Paths
from embft.results import Record, StageResult
from embft.stages.given_table import GivenTable
from embft.stages.rank_reference import rank_reference
from embft.stages.stage import read_run
from embft.stages.validate_ranks import RANGES
from embft.stages.validate_sessions import fetch_catalogue, limits_of, pulled_day
from embft.validation.catalogue import check_catalogue
from embft.validation.docs import write_index
from embft.validation.outcomes import outcome_of
from embft.validation.rank_frame import Ranking
from embft.validation.ranks import FIGURES, PARTS, check_ranks
from embft.validation.sessions import check_sessions
from embft.validation.suites import Figures
from embft.validation.verdicts import RuleOutcome
from embft.validation.window import PulledDay
from embft.validation.wording import figure
from embft.validation_config import Expectation, SuiteName

_RANKS = pa.schema(
    [
        pa.field("session_id", pa.string(), nullable=False),
        pa.field("results", pa.list_(pa.string()), nullable=False),
        pa.field("clicked", pa.list_(pa.string()), nullable=False),
        pa.field("ranks", pa.list_(pa.float64()), nullable=False),
    ]
)
_VECTORS = pa.schema([("id", pa.string()), ("vector", pa.list_(pa.float32(), 1))])
_OF_ONE_PART = ("rank_mean", "rank_stdev", "train_lead")
_OF_NIGHT = re.compile(rf"\b({'|'.join(it for it in FIGURES if it not in _OF_ONE_PART)})\b")
_NO_NIGHT = "one table shows neither the other parts nor the vectors; the s3:// result.json of preprocess-ranks does"
_OF_CATALOGUE = re.compile(r"\b(n_unknown_clicked|unknown_clicked|n_unknown_shown)\b")
_NO_CATALOGUE = "no catalogue to look ids up in; --model names one"
_PARQUET = b"PAR1"


class JudgedRule(RuleOutcome):
    """One rule after its run, and the suite that it is of."""

    suite: str


class Judgement(Record):
    """What a suite says of a table that a person gave it."""

    suite: SuiteName
    input: str
    model: str | None
    rows: int = Field(description="Rows that were examined.")
    reasons: list[str] = Field(description="Why a night would stop; empty where it would go on.")
    warnings: list[str]
    notes: list[str] = Field(description="What else a person should know.")
    rules: list[JudgedRule] = Field(description="Those that could not be judged say why in `skipped`.")
    figures: dict[str, Any]


def judge_by_hand(suite: SuiteName, source: str, *, model: str | None, include: Path, docs: Path | None) -> Judgement:
    """Run one suite on one table.

    Args:
        suite: The suite's name.
        source: A file, s3:// object, or the s3:// `result.json` of the stage that wrote the table.
        model: Whose rules, limits, catalogue and earlier nights to take; None for the shared rules alone.
        include: The project's `include` folder.
        docs: Folder to leave Data Docs in; None keeps none.

    Returns:
        The suite's word; bad data is never an error here.

    Raises:
        ConfigError: The table cannot be read, or a rule cannot be run.
    """
    with tempfile.TemporaryDirectory(prefix="embft-validate-") as scratch:
        table = GivenTable(source, model, include, Path(scratch))
        judge = {"catalogue": _judge_catalogue, "sessions": _judge_sessions, "ranks": _judge_ranks}[suite]
        judgement = judge(table)
        if docs:
            _leave(table.folder / "docs", docs)
    return judgement


def _leave(pages: Path, docs: Path) -> None:
    try:
        shutil.copytree(pages, docs, dirs_exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--docs: {docs} cannot be written: {error.strerror or error}") from None


def _judge_catalogue(table: GivenTable) -> Judgement:
    read = _read_catalogue(table)
    before = table.before(None)
    validation = table.config.validation
    docs = table.folder / "docs"
    checked = check_catalogue(
        read.items,
        validation.rules("catalogue"),
        last=before.items,
        max_quarantined=validation.max_quarantined,
        docs_folder=docs,
    )
    verdict = checked.verdict
    warnings = [f"catalogue: {sentence}" for sentence in verdict.warnings]
    write_index(docs, f"{table.config.subject}Catalogue", [verdict], checked.reasons, warnings)
    return Judgement(
        suite="catalogue",
        input=table.source,
        model=table.model,
        rows=verdict.rows,
        reasons=checked.reasons,
        warnings=warnings,
        notes=_unread(read),
        rules=_of_suite("catalogue", verdict.rules),
        figures={
            "catalogue": read.accounting.model_dump(mode="json"),
            "items": {"checked": verdict.rows, "set_aside": verdict.n_broken},
        },
    )


def _judge_sessions(table: GivenTable) -> Judgement:
    config = table.config
    days = _days(table)
    window = (days[0].day, days[-1].day)
    rules: tuple[Expectation, ...] = config.validation.rules("sessions")
    skipped: tuple[Expectation, ...] = ()
    catalogue = None
    if table.model:
        catalogue = fetch_catalogue(table.storage, config, table.folder)
    else:
        rules, skipped = _without(rules, _OF_CATALOGUE)
    checked = check_sessions(
        days,
        catalogue.items if catalogue else ITEMS_SCHEMA.empty_table(),
        rules,
        config.validation.rules("catalogue") if catalogue else (),
        limits=limits_of(config, window),
        before=table.before(window[1]),
        folder=table.folder,
        subject=config.subject,
    )
    verdicts = [it for it in checked.verdicts if catalogue or it.suite == "sessions"]
    told = ("warnings", "notes")
    return Judgement(
        suite="sessions",
        input=table.source,
        model=table.model,
        rows=verdicts[-1].rows,
        reasons=checked.reasons,
        warnings=checked.figures["warnings"],
        notes=_unread(catalogue) if catalogue else [],
        rules=[
            *(rule for it in verdicts for rule in _of_suite(it.suite, it.rules)),
            *_not_judged("sessions", skipped, _NO_CATALOGUE),
        ],
        figures={name: value for name, value in checked.figures.items() if name not in told},
    )


def _judge_ranks(table: GivenTable) -> Judgement:
    config = table.config
    prepared = table.result if table.result and table.result.stage == "preprocess_ranks" else None
    ranks = _ranks_of_night(table, prepared) if prepared else _ranks_of_table(table)
    rules: tuple[Expectation, ...] = config.validation.rules("ranks")
    skipped: tuple[Expectation, ...] = ()
    if not prepared:
        rules, skipped = _without(rules, _OF_NIGHT)
    settings = config.training.settings
    checked = check_ranks(
        ranks.parts,
        rules,
        vectors=ranks.vectors,
        ranking=Ranking(RANGES.get(str(settings.ranker)), settings.is_similarity, ranks.are_champions),
        reference=ranks.reference,
        docs_folder=table.folder / "docs",
        subject=config.subject,
    )
    told = ("reasons", "warnings", "notes")
    return Judgement(
        suite="ranks",
        input=table.source,
        model=table.model,
        rows=checked.verdict.rows,
        reasons=checked.reasons,
        warnings=checked.figures["warnings"],
        notes=[],
        rules=[*_of_suite("ranks", checked.verdict.rules), *_not_judged("ranks", skipped, _NO_NIGHT)],
        figures={name: value for name, value in checked.figures.items() if name not in told},
    )


@dataclass(frozen=True)
class _Ranks:
    """What the suite `ranks` looks at."""

    parts: dict[str, Path]
    vectors: Path
    are_champions: bool
    reference: Mapping[str, Any] | str


def _ranks_of_night(table: GivenTable, prepared: StageResult) -> _Ranks:
    """Fetch what `preprocess_ranks` left, and what the night compares it with."""

    def fetch(name: str) -> Path:
        return table.storage.fetch(table.output(name), table.folder / name)

    parts = {part: fetch(f"inputs/{part}.parquet") for part in PARTS}
    vectors = fetch("items/vectors.parquet")
    reference: Mapping[str, Any] | str = "no model is named"
    if table.model:
        paths = Paths(table.config.storage.artifacts, table.config.name)
        reference = rank_reference(table.storage, paths, read_run(table.storage, paths, prepared.day))
    return _Ranks(parts, vectors, prepared.figures.get("ranked_by") == "champion", reference)


def _ranks_of_table(table: GivenTable) -> _Ranks:
    """Take one table as the train part; the others, and the vectors, are empty."""
    path = table.path("ranks")
    for name in _RANKS.names:  # one after the other, as all of them may not fit into memory
        table.read(path, _RANKS, columns=[name])  # says what is wrong with the file
    none, vectors = table.folder / "none.parquet", table.folder / "vectors.parquet"
    pq.write_table(_RANKS.empty_table(), none)
    pq.write_table(_VECTORS.empty_table(), vectors)
    return _Ranks({part: path if part == "train" else none for part in PARTS}, vectors, False, _NO_NIGHT)


def _without(
    rules: Sequence[Expectation], names: re.Pattern[str]
) -> tuple[tuple[Expectation, ...], tuple[Expectation, ...]]:
    """Part the rules that name nothing of the sort from those that do."""
    out = tuple(rule for rule in rules if names.search(repr(rule.kwargs)))
    return tuple(rule for rule in rules if rule not in out), out


def _not_judged(suite: str, rules: Sequence[Expectation], reason: str) -> list[JudgedRule]:
    return _of_suite(suite, [outcome_of(rule, None, "set", Figures(), reason, 0) for rule in rules])


def _read_catalogue(table: GivenTable) -> CatalogueRead:
    path = table.path("catalogue")
    with path.open("rb") as file:
        is_parquet = file.read(len(_PARQUET)) == _PARQUET
    if not is_parquet:
        return read_catalogue(path, table.source, table.config.catalogue)
    items = table.read(path, ITEMS_SCHEMA, may_have_nulls=True)
    # An empty text breaks the same rule as none at all.
    columns = {name: pc.fill_null(items[name], "") for name in ITEMS_SCHEMA.names}
    accounting = CatalogueAccounting(
        lines=items.num_rows, items=items.num_rows, duplicates=0, quarantined=0, quarantined_by_reason={}
    )
    return CatalogueRead(pa.table(columns, schema=ITEMS_SCHEMA), Quarantine().table(), accounting)


def _days(table: GivenTable) -> list[PulledDay]:
    """Cut the sessions by day; none are one empty day. A day as `pull` left it says what became of its lines, too."""
    if table.result and table.result.stage == "pull":
        for name in ("sessions.parquet", "quarantine.parquet"):
            table.output(name)  # says what is wrong with the result
        limit = table.config.validation.max_quarantined
        return [pulled_day(table.storage, table.result, table.folder, limit)]
    path = table.path("sessions")
    days = table.read(path, SCHEMA, columns=["day"])["day"]
    if not len(days):
        return [PulledDay(table.today, lambda: path, 0, {})]
    counts = {it["values"]: it["counts"] for it in pc.value_counts(days).to_pylist()}
    return [PulledDay(day, partial(_of_day, table, path, day), counts[day], {}) for day in sorted(counts)]


def _of_day(table: GivenTable, path: Path, day: date) -> Path:
    sessions = table.read(path, SCHEMA, filters=[("day", "=", day)])
    one = table.folder / "day.parquet"  # each is read before the next one is asked for
    pq.write_table(sessions, one)
    return one


def _unread(read: CatalogueRead) -> list[str]:
    lines = read.accounting
    if not lines.quarantined:
        return []
    reasons = ", ".join(f"{reason} {figure(n)}" for reason, n in lines.quarantined_by_reason.items())
    return [f"{figure(lines.quarantined)} of {figure(lines.lines)} lines of the catalogue cannot be read: {reasons}"]


def _of_suite(suite: str, rules: Sequence[RuleOutcome]) -> list[JudgedRule]:
    return [JudgedRule(suite=suite, **rule.model_dump()) for rule in rules]
