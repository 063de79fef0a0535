"""A run's frozen facts, as they are found now: what `plan` writes down, and what the monitoring of a day goes by."""

from datetime import date, timedelta
from typing import Literal

from embft.clickstream.privacy import ClientHash
from embft.config import ModelConfig
from embft.errors import ConfigError
from embft.paths import Paths
from embft.promotion.ledger import read_history
from embft.promotion_config import Evaluation
from embft.results import RunSpec, digest_of
from embft.stages.log_days import ListedDay, list_day
from embft.storage import Storage


def frozen_run(
    storage: Storage, paths: Paths, config: ModelConfig, day: date, *, promote: Literal["auto", "never", "force"]
) -> tuple[RunSpec, list[ListedDay]]:
    """Look up all that a run of a day goes by.

    Args:
        storage: S3.
        paths: Of the model.
        config: The model's.
        day: The newest day of the window.
        promote: As of `plan`.

    Returns:
        The facts, and the window's days as listed.

    Raises:
        ConfigError: The window begins before the calendar does, the history of champions cannot be read, or an object
            that models are to be judged by is missing.
    """
    if day.toordinal() < config.window.days:
        raise ConfigError(f"--day {day}: its window of {config.window.days} days begins before the calendar does")
    days = [day - timedelta(days=back) for back in reversed(range(config.window.days))]
    listed = [list_day(storage, config, it) for it in days]
    spec = RunSpec(
        model=config.name,
        day=day,
        config=config,
        promote=promote,
        window=tuple(it.log_day() for it in listed),
        champion=read_history(storage, paths).champion_before(day),
        base_model_sha256=_base_model_digest(storage, config.training.base_model),
        judged_by_sha256=_judged_by_digest(storage, config.evaluation),
        client_key=ClientHash.from_environment().fingerprint,
    )
    return spec, listed


def _base_model_digest(storage: Storage, source: str) -> str | None:
    """Name what a base model in S3 is made of now: where other weights are put there, a night trains anew."""
    if not source.startswith("s3://"):
        return None
    return digest_of([[it.uri, it.size_bytes, it.etag] for it in storage.objects(source)])


def _judged_by_digest(storage: Storage, evaluation: Evaluation) -> str | None:
    """Name what the slices and guard sets in S3 hold now: where one is changed, a night is judged anew."""
    places = [(f"evaluation.slices {it.name!r}", it.uri) for it in evaluation.slices]
    for guard in evaluation.guards:
        places += [(f"evaluation.guards {guard.name!r}", uri) for uri in (guard.uri, guard.items)]
    listed = [_described(storage, uri, where) for where, uri in places if uri]
    return digest_of(listed) if listed else None


def _described(storage: Storage, uri: str, where: str) -> list[str | int]:
    """Describe an object.

    Raises:
        ConfigError: There is none.
    """
    found = storage.head(uri)
    if found is None:
        raise ConfigError(f"{uri} of {where} does not exist; correct its address in the config, or put it there")
    return [found.uri, found.size_bytes, found.etag]
