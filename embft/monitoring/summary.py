"""From a day's figures of every session to what its record tells: means of slices, their errors, the worst queries."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from math import isfinite
from typing import Any

import pyarrow as pa

from embft.monitoring.day import BASE, CHAMPION, QueryFigure
from embft.monitoring_config import MAIN_MEASURE
from embft.promotion.evaluation import NO_GUARDS, described, figures_of

# A standard error is known to 2 % then, and a monitored day has many of them.
RESAMPLES = 1000
_EXAMPLES = 10


def summary_of(per_query: pa.Table, slices: Sequence[str]) -> dict[str, Any]:
    """Take the means and their errors.

    Args:
        per_query: A row for each clicked session, as `evaluate` writes it.
        slices: Names, without `all`.

    Returns:
        `sets` and `errors` of `MonitoredDay`.
    """
    figures = figures_of(per_query, NO_GUARDS, ["all", *slices])
    return {
        "sets": tuple(described(it) for it in figures),
        "errors": {it.name: it.errors(CHAMPION, RESAMPLES) for it in figures if it.table.num_rows},
    }


def worst_queries(
    per_query: pa.Table, queries: Sequence[str], shareable: Collection[str] | None
) -> tuple[QueryFigure, ...]:
    """Name the queries whose searchers lost most.

    Args:
        per_query: A row for each clicked session.
        queries: The query of each, as the log has it.
        shareable: Those that may be named; None: all.

    Returns:
        At most ten, the one that lost most first; those that lost nothing are not among them.
    """
    columns = (per_query[f"{model}.{MAIN_MEASURE}"].to_pylist() for model in (CHAMPION, BASE))
    of_query: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for query, ours, base in zip(queries, *columns, strict=True):
        if (shareable is None or query in shareable) and isfinite(ours):
            of_query[query].append((ours, base))
    lost = {query: sum(1 - ours for ours, _ in rows) for query, rows in of_query.items()}
    worst = sorted((query for query in lost if lost[query] > 0), key=lambda it: (-lost[it], it))[:_EXAMPLES]
    return tuple(_figure(query, of_query[query]) for query in worst)


def _figure(query: str, rows: Sequence[tuple[float, float]]) -> QueryFigure:
    ours, base = (sum(values) / len(rows) for values in zip(*rows, strict=True))
    return QueryFigure(query=query, n_sessions=len(rows), ndcg=ours, base_ndcg=base if isfinite(base) else None)
