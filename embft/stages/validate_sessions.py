"""`validate_sessions`: the window's sessions and the catalogue under the suites `sessions` and `catalogue`."""

import logging
from collections import Counter
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from embft.clickstream.catalogue import CatalogueRead, read_catalogue
from embft.config import ModelConfig
from embft.errors import ConfigError, ObjectMissing
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

if TYPE_CHECKING:
    from embft.validation.profiles import DayProfile
    from embft.validation.window import Before, Limits, PulledDay

log = logging.getLogger(__name__)

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
    items = next((it.outputs["items.parquet"].sha256 for it in nights if "items.parquet" in it.outputs), None)
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
    from embft.validation.sessions import check_sessions

    config = spec.config
    catalogue = fetch_catalogue(storage, config, folder)
    verdict = check_sessions(
        [pulled_day(storage, result, folder, config.validation.max_quarantined) for result in pulled.values()],
        catalogue.items,
        config.validation.rules("sessions"),
        config.validation.rules("catalogue"),
        limits=limits_of(config, (spec.window[0].day, spec.window[-1].day)),
        before=fetch_before(storage, nights, folder),
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


def pulled_day(storage: Storage, result: StageResult, folder: Path, max_quarantined: float) -> "PulledDay":
    """Describe a log day to the check of sessions.

    Args:
        storage: S3.
        result: Of `pull`.
        folder: For the day's sessions.
        max_quarantined: Share of lines set aside above which the day must not be learned from.

    Returns:
        The day; its sessions are fetched when they are asked for.
    """
    from embft.validation.window import PulledDay

    return PulledDay(
        result.day,
        partial(storage.fetch, result.outputs["sessions.parquet"], folder / "pulled" / f"{result.day}.parquet"),
        result.figures["sessions"],
        _lines(result),
        _too_much_quarantined(result, max_quarantined),
    )


def limits_of(config: ModelConfig, window: tuple[date, date]) -> "Limits":
    """Pick out what the check of sessions needs of a config.

    Args:
        config: The model's.
        window: First and last day, both included.

    Returns:
        The limits.
    """
    from embft.validation.window import Limits

    return Limits(
        window=window,
        zone=config.zone,
        max_quarantined=config.validation.max_quarantined,
        min_clients=config.logs.privacy.min_clients,
        reference_days=config.validation.reference_days,
    )


def fetch_before(storage: Storage, nights: list[StageResult], folder: Path) -> "Before":
    """Fetch what earlier nights left to compare with.

    Args:
        storage: S3.
        nights: Accepted results of this stage, the newest first.
        folder: For the items of the newest.

    Returns:
        Profiles of log days, and the good items of the newest night whose items are still there.
    """
    from embft.validation.window import Before

    for night in nights:
        if "items.parquet" not in night.outputs:
            continue
        try:
            items = storage.fetch(night.outputs["items.parquet"], folder / "items_before.parquet")
            return Before(day_profiles(nights), pq.read_table(items))
        except ObjectMissing as error:
            log.warning("%s; an older night's items are taken to compare with", error)
    return Before(day_profiles(nights))


def day_profiles(nights: list[StageResult]) -> "dict[date, DayProfile]":
    """Read the profiles of the log days that nights learned from.

    Args:
        nights: Accepted results of this stage, the newest first.

    Returns:
        Day → profile.
    """
    from embft.validation.profiles import DayProfile

    profiles = {}
    for day, profile in profiles_of(nights).items():
        try:
            profiles[date.fromisoformat(day)] = DayProfile.model_validate(profile)
        except ValueError:  # pydantic's is one, too: another version of embft wrote it
            log.warning("the profile of %s cannot be read; it is no day to compare with", day)
    return profiles


def fetch_catalogue(storage: Storage, config: ModelConfig, folder: Path) -> CatalogueRead:
    """Fetch a model's catalogue.

    Args:
        storage: S3.
        config: The model's.
        folder: For the object.

    Returns:
        Its items, and what could not be read of it.
    """
    path = folder / "catalogue"
    storage.download(config.catalogue.uri, path)
    return read_catalogue(path, config.catalogue.uri, config.catalogue)


def _lines(pulled: StageResult) -> dict[str, int]:
    figures = pulled.figures
    return {**{key: figures[key] for key in _COUNTED}, "filtered": sum(figures["filtered"].values())}


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
        f"{bad} of {lines} log lines of {pulled.day} ({bad / lines:.1%}) could not be read, more than the "
        f"{limit:.1%} of validation.max_quarantined, most of them for {commonest!r} ({reasons[commonest]}); the "
        f"lines lie in {pulled.outputs['quarantine.parquet'].uri}"
    )
