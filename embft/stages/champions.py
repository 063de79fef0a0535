"""`embft history`: every change of champion, who served when, and whether MLflow and the vectors agree with it."""

from datetime import date, datetime, time
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from embft.errors import ConfigError, TemporaryError
from embft.promotion.aliases import misplaced_champion
from embft.promotion.history import History, Step, version_of
from embft.promotion.ledger import read_history
from embft.promotion.pointer import read_pointer
from embft.promotion.registry import Registry
from embft.promotion.vector_sets import VectorSet
from embft.results import Champion, Record
from embft.stages.models import registry_of
from embft.stages.stage import open_model


class Entry(Record):
    """One change, for people."""

    number: int
    at: datetime
    kind: Literal["promotion", "rollback"]
    forced: bool
    before: str | None = Field(description="Version that served before it.")
    to: str
    day: date = Field(description="The night that the version comes from.")
    who: str
    why: str
    took_effect: bool
    effect: str = Field(description="`serves` from then on, or why not.")


class Served(Record):
    """A version that served at the moment, or on the day, that was asked for."""

    version: str
    day: date
    since: datetime


class Champions(Record):
    """A model's history of champions."""

    model: str
    champion: str | None
    previous: str | None
    entries: tuple[Entry, ...]
    on: str | None = None
    served: tuple[Served, ...] = ()
    warnings: tuple[str, ...] = ()


def parse_moment(text: str) -> date | datetime:
    """Read what `--on` was given.

    Args:
        text: A day, or a day and a time.

    Returns:
        The day, or the moment, with its zone where it names one.

    Raises:
        ConfigError: It is neither.
    """
    try:
        return date.fromisoformat(text) if len(text) == len("2026-03-09") else datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--on is {text!r}; expected YYYY-MM-DD or YYYY-MM-DDTHH:MM") from None


def champions_of(model: str, *, include: Path, on: date | datetime | None = None) -> Champions:
    """Read a model's history of champions.

    Args:
        model: The model's name.
        include: The project's `include` folder.
        on: A day (every version that served on it) or a moment; a time without a zone is in that of the logs.

    Returns:
        The history, with warnings where MLflow's alias or the vectors name another version than it.

    Raises:
        ConfigError: The history cannot be read.
        StorageUnavailable: S3 did not answer.
    """
    config, storage, paths = open_model(model, include)
    history, zone = read_history(storage, paths), config.zone
    return Champions(
        model=model,
        champion=version_of(history.champion),
        previous=version_of(history.previous),
        entries=tuple(_entry(history, step, zone) for step in history.steps),
        on=None if on is None else on.isoformat(),
        served=() if on is None else _served(history, on, zone),
        warnings=_disagreements(model, history, registry_of(config), read_pointer(storage, paths)),
    )


def _entry(history: History, step: Step, zone: ZoneInfo) -> Entry:
    change = step.change
    return Entry(
        number=change.number,
        at=change.at_utc.astimezone(zone),
        kind=change.kind,
        forced=change.forced,
        before=version_of(step.before),
        to=change.to.version,
        day=change.to.day,
        who=change.who,
        why=change.why,
        took_effect=step.took_effect,
        effect="took effect" if step.took_effect else _hindered(history, step),
    )


def _hindered(history: History, step: Step) -> str:
    change, before = step.change, step.before
    if before is not None and before.version == change.to.version:
        return "none: it served already"
    if change.kind == "rollback" and change.leaves is None:
        return f"none: version {version_of(before)} had come to serve"
    if change.kind == "rollback":
        return f"none: version {change.leaves}, which it leaves, did not serve any more"
    if before is not None and change.to.day < before.day:
        return f"none: version {before.version} learned from the newer day {before.day}"
    return "none: these weights were rolled back"


def _served(history: History, on: date | datetime, zone: ZoneInfo) -> tuple[Served, ...]:
    """Give who served at a moment, or everyone who did on a day."""
    if isinstance(on, datetime):
        moment = on if on.tzinfo else on.replace(tzinfo=zone)
        return _distinct(history, [moment], zone)
    start = datetime.combine(on, time.min, zone)
    within = sorted(it.at_utc for it in history.changes if it.at_utc.astimezone(zone).date() == on)
    return _distinct(history, [start, *within], zone)


def _distinct(history: History, moments: list[datetime], zone: ZoneInfo) -> tuple[Served, ...]:
    served: list[Served] = []
    for moment in moments:
        champion = history.serving_on(moment)
        if champion is not None and (not served or served[-1].version != champion.version):
            since = _since(history, champion, moment).astimezone(zone)
            served.append(Served(version=champion.version, day=champion.day, since=since))
    return tuple(served)


def _since(history: History, champion: Champion, moment: datetime) -> datetime:
    """Give when a champion of a moment came to serve."""
    since = moment
    for change in sorted(history.changes, key=lambda it: it.at_utc, reverse=True):
        if change.at_utc <= moment:
            if version_of(history.serving_on(change.at_utc)) != champion.version:
                break
            since = change.at_utc
    return since


def _disagreements(model: str, history: History, registry: Registry, pointer: VectorSet | None) -> tuple[str, ...]:
    warnings = []
    try:
        aliases = registry.aliases()
    except (ConfigError, TemporaryError) as error:  # the history is S3's to tell
        warnings.append(f"whether MLflow agrees is not known: {error}")
    else:
        if misplaced := misplaced_champion(history, aliases):
            warnings.append(f"{misplaced}; {_remedy(model, history, aliases.get('champion'))}")
    serves = version_of(history.champion)
    if pointer is not None and pointer.version != serves:
        warnings.append(
            f"the published vectors are of version {pointer.version}, the history says {serves}: queries are to be "
            f"encoded with {pointer.version} until the next `embft publish`, or "
            f"`embft rollback --model {model} --to {serves}`"
        )
    return tuple(warnings)


def _remedy(model: str, history: History, named: str | None) -> str:
    serves = version_of(history.champion)
    back = f"`embft rollback --model {model} --to {serves}` moves it back" if serves else ""
    record = f"`embft rollback --model {model} --to {named}` makes that the record" if named else ""
    return ", ".join(filter(None, (back, record))) or "run a night, or delete the alias"
