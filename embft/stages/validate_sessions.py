"""`validate_sessions`: the window's sessions and the catalogue under the suites `sessions` and `catalogue`."""

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from embft.clickstream.catalogue import CatalogueRead, read_catalogue
from embft.clickstream.sessions import read_sessions
from embft.errors import ConfigError
from embft.paths import Paths
from embft.results import LogDay, RunSpec, StageResult
from embft.stages.log_days import pull_draft
from embft.stages.stage import (
    Draft,
    Outcome,
    commit,
    files_below,
    open_model,
    output_digests,
    read_run,
)
from embft.storage import Storage


def run(model: str, day: date, *, include: Path, force: bool = False) -> StageResult:
    """Validate a night's sessions and catalogue.

    Args:
        model: The model's name.
        day: The night's day.
        include: The project's `include` folder.
        force: Validate even where the verdict is up to date.

    Returns:
        The result; `rejected` where a critical rule is broken or too much was set aside.

    Raises:
        ConfigError: A day of the window was not pulled, or the catalogue does not exist.
    """
    _, storage, paths = open_model(model, include)
    spec = read_run(storage, paths, day)
    pulled = {it.day.isoformat(): _pulled(storage, paths, spec, it) for it in spec.window if it.objects}
    catalogue = storage.head(spec.config.catalogue.uri)
    if catalogue is None:
        raise ConfigError(f"catalogue.uri: {spec.config.catalogue.uri} does not exist")
    draft = Draft(
        stage="validate_sessions",
        model=model,
        day=day,
        prefix=paths.stage(day, "validate_sessions"),
        inputs={**output_digests(pulled), "catalogue": catalogue.etag},
        settings=[
            spec.config.catalogue,
            spec.config.validation,
            spec.config.window,
            spec.config.logs.privacy.min_clients,
            spec.subject,
        ],
    )

    def work(folder: Path, attempt_uri: str) -> Outcome:
        return _validate(storage, spec, pulled, folder, attempt_uri)

    return commit(storage, draft, work, force=force)


def _pulled(storage: Storage, paths: Paths, spec: RunSpec, log_day: LogDay) -> StageResult:
    result = storage.read_result(pull_draft(paths, spec.config, spec.client_key, log_day).prefix)
    if result is None:
        raise ConfigError(
            f"the log day {log_day.day} was not pulled; "
            f"run `embft pull --model {spec.model} --day {spec.day} --log-day {log_day.day}`"
        )
    return result


def _validate(
    storage: Storage, spec: RunSpec, pulled: dict[str, StageResult], folder: Path, attempt_uri: str
) -> Outcome:
    from embft.validation.sessions import check_sessions

    config = spec.config
    sessions = _window_sessions(storage, pulled, folder)
    catalogue = _catalogue(storage, spec, folder)
    docs = folder / "docs"
    verdict = check_sessions(
        sessions,
        catalogue.items,
        config.validation.suites["sessions"],
        config.validation.suites["catalogue"],
        window=(spec.window[0].day, spec.window[-1].day),
        zone=config.zone,
        max_quarantined=config.validation.max_quarantined,
        min_clients=config.logs.privacy.min_clients,
        docs_folder=docs,
        subject=spec.subject,
    )
    tables = {
        "sessions.parquet": verdict.clean,
        "items.parquet": verdict.clean_items,
        "quarantine.parquet": verdict.quarantine,
        "catalogue_quarantine.parquet": catalogue.quarantine,
    }
    files = {name: _written(table, folder / name) for name, table in tables.items()}
    files |= files_below(docs, "docs")
    pull_reason = _too_much_quarantined(pulled, config.validation.max_quarantined)
    docs_url = config.storage.page_of(f"{attempt_uri}/docs/index.html")
    return Outcome(
        files=files,
        figures={
            "pulled": _accounting(pulled),
            "catalogue": catalogue.accounting.model_dump(mode="json"),
            "rules": [
                {"suite": it.suite, **rule.model_dump(mode="json")} for it in verdict.verdicts for rule in it.rules
            ],
            **verdict.figures,
        },
        status="rejected" if verdict.rejected or pull_reason else "done",
        reason=pull_reason or verdict.reason,
        links={"Data Docs": docs_url} if docs_url else {},
    )


def _window_sessions(storage: Storage, pulled: dict[str, StageResult], folder: Path) -> pa.Table:
    tables = [
        read_sessions(storage.fetch(result.outputs["sessions.parquet"], folder / "pulled" / f"{day}.parquet"))
        for day, result in pulled.items()
    ]
    return pa.concat_tables(tables)


def _catalogue(storage: Storage, spec: RunSpec, folder: Path) -> CatalogueRead:
    uri = spec.config.catalogue.uri
    path = folder / "catalogue"
    storage.download(uri, path)
    return read_catalogue(path, uri, spec.config.catalogue)


def _written(table: pa.Table, path: Path) -> Path:
    pq.write_table(table, path)
    return path


def _accounting(pulled: dict[str, StageResult]) -> dict[str, Any]:
    """Sum the accounting of the window's days."""
    figures = [result.figures for result in pulled.values()]
    totals: dict[str, Any] = {
        key: sum(it[key] for it in figures) for key in ("lines", "used", "sessions", "duplicates", "quarantined")
    }
    totals["filtered"] = sum(sum(it["filtered"].values()) for it in figures)
    return totals


def _too_much_quarantined(pulled: dict[str, StageResult], limit: float) -> str | None:
    """Say which log day lost more lines than the config allows.

    Judged by day: one broken delivery must not hide behind the good days of a long window.
    """
    for day, result in pulled.items():
        lines, bad = result.figures["lines"], result.figures["quarantined"]
        if lines and bad / lines > limit:
            reasons = result.figures["quarantined_by_reason"]
            commonest = max(reasons, key=reasons.get)
            return (
                f"{bad} of {lines} log lines of {day} ({bad / lines:.1%}) could not be read, most of them for "
                f"{commonest!r} ({reasons[commonest]}); the limit is {limit:.1%} (validation.max_quarantined); the "
                f"lines lie in {result.outputs['quarantine.parquet'].uri}"
            )
    return None
