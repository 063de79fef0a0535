"""What a monitored day's log and catalogue looked like, and what the night's validation said of it."""

import logging

import pyarrow.parquet as pq

from embft.errors import DataRejected, ObjectMissing
from embft.monitoring.day import Traffic
from embft.results import StageResult
from embft.stages.monitored import newest_before
from embft.stages.monitored_clicks import ClickedDay
from embft.stages.stage import Context

log = logging.getLogger(__name__)

ITEMS = "items.parquet"


def traffic_of(
    context: Context, pulled: StageResult, day: ClickedDay, ids: set[str], n_lost: int, cautions: list[str]
) -> Traffic:
    """Describe a day.

    Args:
        context: Of the monitoring.
        pulled: Result of the day's log.
        day: Its clicks.
        ids: Of the catalogue.
        n_lost: Clicked sessions none of whose items is in what is ranked.
        cautions: Of the measuring.

    Returns:
        The description.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    before = _ids_before(context)
    return Traffic(
        lines=pulled.figures["lines"],
        quarantined=pulled.figures["quarantined"],
        sessions=pulled.figures["sessions"],
        clicked_sessions=day.sessions.num_rows,
        lost_sessions=n_lost,
        unseen_share=day.unseen_share,
        items=len(ids),
        items_added=None if before is None else len(ids - before),
        items_removed=None if before is None else len(before - ids),
        warnings=(*_of_validation(context), *day.cautions, *cautions),
    )


def _ids_before(context: Context) -> set[str] | None:
    """Give the ids of the catalogue on the last day that was monitored before this one."""
    result = newest_before(context.storage, context.paths, context.run.day)
    if result is None or ITEMS not in result.outputs:
        return None
    try:
        path = context.storage.fetch(result.outputs[ITEMS], context.folder / "items_before.parquet")
    except (ObjectMissing, DataRejected) as error:
        log.warning("what the catalogue gained and lost is not known: %s", error)
        return None
    return set(pq.read_table(path, columns=["id"])["id"].to_pylist())


def _of_validation(context: Context) -> list[str]:
    """Say what the night found of the data, where it came so far. Its rows are not judged again: that is its task."""
    night = context.storage.read_result(context.paths.stage(context.run.day, "validate_sessions"))
    if night is None:
        return []
    return [*night.figures.get("reasons", ()), *night.figures.get("warnings", ())]
