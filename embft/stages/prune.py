"""`embft prune`: remove what neither a night, nor a registered version, nor the history of champions needs any more."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from pathlib import Path

from pydantic import Field

from embft.config import ModelConfig
from embft.errors import ConfigError
from embft.paths import Paths
from embft.promotion.history import History
from embft.promotion.ledger import read_history
from embft.promotion.registry import DAY_TAG, DIGEST_TAG
from embft.results import Record
from embft.stages.fates import Fates
from embft.stages.stage import open_model
from embft.storage import StoredObject

Registered = Callable[[], Mapping[str, Mapping[str, str]]]
"""Asks MLflow for the model's versions: version → its tags."""


class Pile(Record):
    """Objects that are removed, or stay, for one reason."""

    what: str
    objects: int
    size_bytes: int


class Pruning(Record):
    """What was removed, or would be, and what stays."""

    model: str
    removed: bool = Field(description="False: a dry run, nothing was touched.")
    goes: tuple[Pile, ...]
    stays: tuple[Pile, ...]


def prune(model: str, *, include: Path, registered: Registered, now: datetime, remove: bool) -> Pruning:
    """List what nobody needs any more, and remove it where that is wanted.

    Killed in the middle, the same call again removes the rest. It may run beside a night.

    Args:
        model: The model's name.
        include: The project's `include` folder.
        registered: Asks MLflow; where it fails, nothing is removed.
        now: The time of day, with its zone.
        remove: Remove it; else nothing is touched.

    Returns:
        What goes and what stays.

    Raises:
        ConfigError: The history cannot be read, or MLflow knows none of the versions that it names.
        TemporaryError: MLflow or S3 is away.
    """
    config, storage, paths = open_model(model, include)
    listed = storage.objects(paths.root)
    # Read last: what became a version or a champion meanwhile keeps what it needs.
    history = read_history(storage, paths)
    days = _registered_days(config, history, registered())
    fates = Fates(config, storage, paths, listed, history, days, now)
    found = [(fates.of(it), it) for it in listed]
    if remove:
        going = [it.uri for fate, it in found if fate.goes]
        # Results first: none shall name files that are gone.
        storage.remove(sorted(going, key=lambda uri: uri != Paths.result(uri.rpartition("/")[0])))
    return Pruning(
        model=model,
        removed=remove,
        goes=_piles((fate.what, it) for fate, it in found if fate.goes),
        stays=_piles((fate.what, it) for fate, it in found if not fate.goes),
    )


def _registered_days(config: ModelConfig, history: History, versions: Mapping[str, Mapping[str, str]]) -> set[date]:
    named = [change.to for change in history.changes]
    # Another registry has versions of these numbers, too, but of other models.
    if named and not any(versions.get(it.version, {}).get(DIGEST_TAG) == it.digest for it in named):
        raise ConfigError(
            f"MLflow knows no version that the history of {config.name} names, such as {named[-1].version}, so nothing "
            "was removed; check `mlflow.tracking_uri`, and that the registry was not set up anew"
        )
    days = set()
    for version, tags in versions.items():
        if DAY_TAG in tags:
            try:
                days.add(date.fromisoformat(tags[DAY_TAG]))
            except ValueError:
                raise ConfigError(
                    f"version {version} of {config.name} has the tag {DAY_TAG} {tags[DAY_TAG]!r}, which is no day "
                    "(YYYY-MM-DD), so what it needs is not known; correct the tag in MLflow"
                ) from None
    return days


def _piles(objects: Iterable[tuple[str, StoredObject]]) -> tuple[Pile, ...]:
    sizes: dict[str, list[int]] = defaultdict(list)
    for what, it in objects:
        sizes[what].append(it.size_bytes)
    return tuple(Pile(what=what, objects=len(of), size_bytes=sum(of)) for what, of in sorted(sizes.items()))
