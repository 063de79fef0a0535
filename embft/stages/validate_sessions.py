"""`validate_sessions`: the window's sessions and the catalogue under the suites `sessions` and `catalogue`."""

from collections import Counter
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from embft.clickstream.catalogue import CatalogueRead, read_catalogue
from embft.errors import ConfigError
from embft.paths import Paths
from embft.results import LogDay, RunSpec, StageResult, digest_of
from embft.stages.earlier_nights import accepted_before, profiles_of
from embft.stages.log_days import pull_draft
from embft.stages.retention import remove_old_pages
from embft.stages.stage import (
    Draft,
    Outcome,
    commit,
    docs_link,
    files_below,
    open_model,
    output_digests,
    read_run,
)
from embft.storage import Storage

_COUNTED = ("lines", "used", "duplicates", "quarantined")


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
    nights = accepted_before(storage, paths, day, "validate_sessions", spec.config.validation.reference_days)
    draft = Draft(
        stage="validate_sessions",
        model=model,
        day=day,
        prefix=paths.stage(day, "validate_sessions"),
        inputs={**output_digests(pulled), "catalogue": catalogue.etag, "before": _digest_of_before(nights)},
        settings=[
            spec.config.catalogue,
            [spec.config.validation.max_quarantined, spec.config.validation.reference_days],
            [rule.effect for suite in ("catalogue", "sessions") for rule in spec.config.validation.rules(suite)],
            spec.config.window,
            spec.config.logs.privacy.min_clients,
            spec.subject,
        ],
        pages_prefix=paths.pages(day, "validate_sessions"),
    )

    def work(folder: Path, attempt_uri: str) -> Outcome:
        return _validate(storage, spec, pulled, nights, folder, docs_link(spec.config, draft.pages_prefix, attempt_uri))

    result = commit(storage, draft, work, force=force)
    if not result.reused:
        remove_old_pages(storage, paths, spec.config.validation.keep_pages_days, now=datetime.now(UTC))
    return result


def _digest_of_before(nights: list[StageResult]) -> str:
    items = nights[0].outputs["items.parquet"].sha256 if nights else None
    return digest_of([profiles_of(nights), items])


def _pulled(storage: Storage, paths: Paths, spec: RunSpec, log_day: LogDay) -> StageResult:
    result = storage.read_result(pull_draft(paths, spec.config, spec.client_key, log_day).prefix)
    if result is None:
        raise ConfigError(
            f"the log day {log_day.day} was not pulled; "
            f"run `embft pull --model {spec.model} --day {spec.day} --log-day {log_day.day}`"
        )
    return result


def _validate(
    storage: Storage,
    spec: RunSpec,
    pulled: dict[str, StageResult],
    nights: list[StageResult],
    folder: Path,
    links: dict[str, str],
) -> Outcome:
    from embft.validation.profiles import DayProfile
    from embft.validation.sessions import Before, Limits, PulledDay, check_sessions

    config = spec.config
    catalogue = _catalogue(storage, spec, folder)
    items = storage.fetch(nights[0].outputs["items.parquet"], folder / "items_before.parquet") if nights else None
    verdict = check_sessions(
        [
            PulledDay(
                result.day,
                partial(storage.fetch, result.outputs["sessions.parquet"], folder / "pulled" / f"{day}.parquet"),
                result.figures["sessions"],
                _lines(result),
                _too_much_quarantined(result, config.validation.max_quarantined),
            )
            for day, result in pulled.items()
        ],
        catalogue.items,
        config.validation.rules("sessions"),
        config.validation.rules("catalogue"),
        limits=Limits(
            window=(spec.window[0].day, spec.window[-1].day),
            zone=config.zone,
            max_quarantined=config.validation.max_quarantined,
            min_clients=config.logs.privacy.min_clients,
            reference_days=config.validation.reference_days,
        ),
        before=Before(
            {date.fromisoformat(day): DayProfile(**profile) for day, profile in profiles_of(nights).items()},
            pq.read_table(items) if items else None,
        ),
        folder=folder / "checked",
        subject=spec.subject,
    )
    unread = folder / "catalogue_quarantine.parquet"
    pq.write_table(catalogue.quarantine, unread)
    return Outcome(
        files={**verdict.files, "catalogue_quarantine.parquet": unread},
        figures={
            "pulled": _accounting(pulled),
            "catalogue": catalogue.accounting.model_dump(mode="json"),
            "reasons": verdict.reasons,
            **verdict.figures,
            "rules": [
                {"suite": it.suite, **rule.model_dump(mode="json")} for it in verdict.verdicts for rule in it.rules
            ],
        },
        status="rejected" if verdict.reasons else "done",
        reason=verdict.reasons[0] if verdict.reasons else None,
        links=links,
        pages=files_below(folder / "checked" / "docs", "docs"),
    )


def _lines(pulled: StageResult) -> dict[str, int]:
    figures = pulled.figures
    return {**{key: figures[key] for key in _COUNTED}, "filtered": sum(figures["filtered"].values())}


def _catalogue(storage: Storage, spec: RunSpec, folder: Path) -> CatalogueRead:
    uri = spec.config.catalogue.uri
    path = folder / "catalogue"
    storage.download(uri, path)
    return read_catalogue(path, uri, spec.config.catalogue)


def _accounting(pulled: dict[str, StageResult]) -> dict[str, Any]:
    """Sum the accounting of the window's days."""
    totals: Counter[str] = Counter()
    for result in pulled.values():
        totals.update({**_lines(result), "sessions": result.figures["sessions"]})
    return dict(totals)


def _too_much_quarantined(pulled: StageResult, limit: float) -> str | None:
    """Say why a log day that lost more lines than the config allows must not be learned from."""
    lines, bad = pulled.figures["lines"], pulled.figures["quarantined"]
    if not lines or bad / lines <= limit:
        return None
    reasons = pulled.figures["quarantined_by_reason"]
    commonest = max(reasons, key=reasons.get)
    return (
        f"{bad} of {lines} log lines of {pulled.day} ({bad / lines:.1%}) could not be read, most of them for "
        f"{commonest!r} ({reasons[commonest]}); the limit is {limit:.1%} (validation.max_quarantined); the "
        f"lines lie in {pulled.outputs['quarantine.parquet'].uri}"
    )
