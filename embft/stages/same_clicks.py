"""The clicks of the day monitored before, ranked by what serves now: a fall there is no matter of who searched what."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from embft.errors import DataRejected, ObjectMissing
from embft.monitoring.day import SameClicks
from embft.monitoring.summary import pairs_of
from embft.stages.monitored import newest_measured_before
from embft.stages.stage import Context

if TYPE_CHECKING:
    from embft.finetuning.catalogue import RankedCatalogue

log = logging.getLogger(__name__)

PER_QUERY = "per_query.parquet"


def same_clicks_again(context: Context, ranked: RankedCatalogue, cutoffs: Sequence[int]) -> SameClicks | None:
    """Rank them again.

    Args:
        context: Of the monitoring.
        ranked: What users get now.
        cutoffs: The k of nDCG@k, MRR@k and Recall@k.

    Returns:
        What they showed on their day, and show now; None where no day was measured before, or its table is gone.
    """
    from embft.monitoring.measuring import ranking_with_misses

    found = newest_measured_before(context.storage, context.paths, context.run.day)
    if found is None:
        return None
    result, before = found
    try:
        path = context.storage.fetch(result.output(PER_QUERY), context.folder / f"before-{PER_QUERY}")
    except (ObjectMissing, DataRejected) as error:
        log.warning("the clicks of %s are not ranked again: %s", before.day, error)
        return None
    table = pq.read_table(path)
    now = ranking_with_misses(ranked, table["searched"].to_pylist(), table["clicked"].to_pylist(), cutoffs=cutoffs)
    slices = [it.name for it in before.sets if it.name != "all"]
    return SameClicks(day=before.day, slices=pairs_of(table, now, slices))
