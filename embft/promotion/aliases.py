"""MLflow's aliases, made to agree with the history of champions, which alone says who serves."""

import logging
from collections.abc import Collection, Mapping

from embft.errors import ConfigError
from embft.paths import Paths
from embft.promotion.history import History, version_of
from embft.promotion.ledger import read_history
from embft.promotion.registry import DIGEST_TAG, Registry, Version
from embft.results import Champion
from embft.storage import Storage

log = logging.getLogger(__name__)


def settle_aliases(registry: Registry, storage: Storage, paths: Paths) -> tuple[str, ...]:
    """Let `champion` and `previous` name what the history says, and `challenger` the newest version.

    Two at once agree in the end, whoever is last: all is read again until it did not change meanwhile.

    Args:
        registry: Of the model.
        storage: S3.
        paths: Of the model.

    Returns:
        What a person should know, a sentence each.

    Raises:
        ConfigError: Somebody deleted the champion in MLflow, its number is another model's there, or the history cannot
            be read.
        TemporaryError: MLflow or S3 is away; the same call again completes it.
    """
    warnings: list[str] = []
    settled = None
    while True:
        history = read_history(storage, paths)
        existing = {it.number: it for it in registry.versions()}
        seen = (history.changes, list(existing))
        if seen == settled:
            break
        warnings, settled = _settle(registry, history, existing), seen
    for warning in warnings:
        log.warning("%s", warning)
    return tuple(warnings)


def misplaced_champion(history: History, aliases: Mapping[str, str]) -> str | None:
    """Say where MLflow's alias names another version than the history: somebody moved it, or a run was killed.

    Args:
        history: Who serves.
        aliases: Alias → version.

    Returns:
        The beginning of a sentence; None where they agree.
    """
    named, serves = aliases.get("champion"), version_of(history.champion)
    if named == serves:
        return None
    names = f"names version {named}" if named else "is not there"
    return f"MLflow's alias champion {names}, the history says {serves or 'that nobody serves yet'}"


def missing_version(model: str, version: str, existing: Collection[str]) -> str:
    """Say that a version is not there, and which ones are.

    Args:
        model: Its name.
        version: The version.
        existing: Versions that there are.

    Returns:
        A sentence with the remedy.
    """
    there = f"there is {', '.join(existing)}" if existing else "there is no version any more: run a night"
    return (
        f"version {version} of {model} does not exist in MLflow, or somebody deleted it; choose another with "
        f"`embft rollback --model {model} --to …`: {there}"
    )


def problem_of(champion: Champion, existing: Mapping[str, Version]) -> str | None:
    """Say why MLflow cannot give a version of the history.

    Args:
        champion: The version, as the history has it.
        existing: Versions that there are in MLflow, by their numbers.

    Returns:
        A sentence with the remedy; None where it can.
    """
    found = existing.get(champion.version)
    if found is None:
        return missing_version(champion.model, champion.version, list(existing))
    if found.tags.get(DIGEST_TAG) == champion.digest:
        return None
    return (
        f"version {champion.version} of {champion.model} in MLflow is not the model that the history has under that "
        f"number (its tag {DIGEST_TAG} is another): the registry was set up anew, or `mlflow.tracking_uri` names "
        f"another one; correct that, or choose a version by `embft rollback --model {champion.model} --to …`"
    )


def _settle(registry: Registry, history: History, existing: Mapping[str, Version]) -> list[str]:
    present, warnings = registry.aliases(), []
    champion, previous = version_of(history.champion), version_of(history.previous)
    if history.champion and (problem := problem_of(history.champion, existing)):
        raise ConfigError(problem)
    if history.previous and problem_of(history.previous, existing):
        how = "is another model" if previous in existing else "was deleted"
        warnings.append(f"version {previous}, which served before, {how} in MLflow: no alias `previous` is left")
        previous = None
    wanted = {"champion": champion, "previous": previous, "challenger": next(reversed(list(existing)), None)}
    for alias, version in wanted.items():
        if version is None and alias in present and alias != "champion":
            registry.delete_alias(alias)
        elif version is not None and present.get(alias) != version:
            registry.set_alias(alias, version)
    return warnings
