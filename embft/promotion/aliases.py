"""MLflow's aliases, made to agree with the history of champions, which alone says who serves."""

import logging
from collections.abc import Collection, Mapping

from embft.errors import ConfigError
from embft.paths import Paths
from embft.promotion.history import History, version_of
from embft.promotion.ledger import read_history
from embft.promotion.registry import Registry
from embft.storage import Storage

log = logging.getLogger(__name__)


def settle_aliases(registry: Registry, storage: Storage, paths: Paths) -> tuple[str, ...]:
    """Let `champion` and `previous` name what the history says, and `challenger` the newest version.

    Two at once agree in the end, whoever is last: the history is read again until it did not change meanwhile.

    Args:
        registry: Of the model.
        storage: S3.
        paths: Of the model.

    Returns:
        What a person should know, a sentence each.

    Raises:
        ConfigError: Somebody deleted the champion in MLflow, or the history cannot be read.
        TemporaryError: MLflow or S3 is away; the same call again completes it.
    """
    history = read_history(storage, paths)
    while True:
        warnings = _settle(registry, history)
        before, history = history, read_history(storage, paths)
        if history.changes == before.changes:
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


def _settle(registry: Registry, history: History) -> list[str]:
    existing = [it.number for it in registry.versions()]
    present, warnings = registry.aliases(), []
    champion, previous = version_of(history.champion), version_of(history.previous)
    if champion is not None and champion not in existing:
        raise ConfigError(missing_version(registry.model, champion, existing))
    if previous is not None and previous not in existing:
        warnings.append(f"version {previous}, which served before, was deleted in MLflow: no alias `previous` is left")
        previous = None
    wanted = {"champion": champion, "previous": previous, "challenger": existing[-1] if existing else None}
    for alias, version in wanted.items():
        if version is None and alias in present and alias != "champion":
            registry.delete_alias(alias)
        elif version is not None and present.get(alias) != version:
            registry.set_alias(alias, version)
    return warnings
