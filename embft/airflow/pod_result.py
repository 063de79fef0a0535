"""The result file decides: whether the stage of a pod has done its work, whatever the cluster says of the pod."""

import os
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from embft.airflow.outcome import parse_result
from embft.config import MONITOR, STAGES, ModelConfig
from embft.errors import TemporaryError
from embft.paths import Paths
from embft.results import StageResult

if TYPE_CHECKING:
    from embft.storage import Storage

# The pod's clock and the cluster's differ a little.
_CLOCKS_DIFFER = timedelta(seconds=60)


def printed_result(lines: Iterable[str]) -> StageResult | None:
    """Find the result that a stage printed at the end of its pod's log, which carries stdout and stderr alike.

    Args:
        lines: The end of the log.

    Returns:
        The last result in it, if there is one.
    """
    results = [parse_result(block) for block in printed_blocks(lines)]
    return next(filter(None, reversed(results)), None)


def printed_blocks(lines: Iterable[str]) -> list[str]:
    """Find the indented JSON objects in a pod's log.

    Args:
        lines: The end of the log.

    Returns:
        Each object's text, in their order.
    """
    found: list[str] = []
    block: list[str] | None = None
    for line in (it.rstrip() for it in lines):
        if line == "{":
            block = []
        # What a log takes down from stderr may stand between the lines that stdout brought.
        if block is None or not (line in ("{", "}") or line.startswith(" ")):
            continue
        block.append(line)
        if line == "}":
            found.append("\n".join(block))
            block = None
    return found


def find_result(
    config: ModelConfig, stage: str, day: date, printed: StageResult | None, since: datetime
) -> StageResult | None:
    """Read the stage's committed result, if it is this run's.

    Args:
        config: The model's config.
        stage: The stage.
        day: The night's day.
        printed: What the stage printed, if its log could be read. It tells a result that was reused from one that
            this run failed to write; it is believed only where S3 holds the same.
        since: When the pod was made.

    Returns:
        The result that S3 holds, if the stage printed the same, or wrote it since then.

    Raises:
        TemporaryError: It is this run's, but not whole, or made from inputs that have changed since. Or S3 is away.
        ConfigError: S3 refuses.
    """
    # Only here: boto3 has no place in the parsing of a DAG.
    from embft.storage import Storage

    paths, storage = Paths(config.storage.artifacts, config.name), Storage(config.storage)
    # A pulled log day is kept outside the night; only its print says where.
    usual = paths.monitoring(day) if stage == MONITOR else paths.stage(day, stage)
    place = paths.all_sessions if stage == "pull" else usual
    if printed and not printed.uri.startswith(f"{place}/"):
        # Whatever printed it, it was not this stage.
        printed = None
    prefix = os.path.dirname(printed.uri) if printed else usual
    stored = storage.read_result(prefix)
    if stored is None or stored.stage != stage:
        return None
    if printed and printed.attempt == stored.attempt:
        stored = printed
    elif stored.started_utc < since - _CLOCKS_DIFFER:
        return None
    _must_fit(stored, storage, paths, day)
    return stored


def _must_fit(result: StageResult, storage: "Storage", paths: Paths, day: date) -> None:
    missing = storage.missing_output(result)
    if missing:
        raise TemporaryError(
            f"{result.uri} names {missing.uri} with {missing.size_bytes} bytes, but S3 holds no such object; "
            "the stage runs again"
        )
    if result.stage == MONITOR:
        # It looks at what serves: inputs of other nights than its day's.
        return
    known: dict[str, StageResult | None] = {}
    for name, digest in result.inputs.items():
        stage, _, output = name.partition("/")
        if stage not in STAGES:
            continue
        if stage not in known:
            known[stage] = storage.read_result(paths.stage(day, stage))
        earlier = known[stage]
        artifact = earlier.outputs.get(output) if earlier else None
        if artifact is None or artifact.sha256 != digest:
            raise TemporaryError(
                f"{result.uri} was made from {name} with sha256 {digest}, but {stage} of {day} now has "
                f"{artifact.sha256 if artifact else 'no such output'}; the stage runs again"
            )
