"""From a day's figures of every session to what its record tells: means of slices, their errors, the worst queries."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from math import isfinite, nan
from typing import Any

import pyarrow as pa

from embft.monitoring.day import BASE, CHAMPION, Pair, QueryFigure
from embft.monitoring_config import MAIN_MEASURE
from embft.promotion.bootstrap import Pair as Compared
from embft.promotion.bootstrap import resample
from embft.promotion.evaluation import LOWER_IS_BETTER, NO_GUARDS, Numbers, QueryFigures, described, figures_of, finite

# A standard error is known to 2 % then, and a monitored day has many of them.
RESAMPLES = 1000
_EXAMPLES = 10
_NOW = "now"


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


def pairs_of(per_query: pa.Table, now: Mapping[str, Numbers], slices: Sequence[str]) -> dict[str, Pair]:
    """Hold a former day's figures against those that its clicks have now.

    Args:
        per_query: That day's, a row for each clicked session.
        now: Measure → its figures now, float64 [sessions].
        slices: That day's, without `all`.

    Returns:
        Slice → both means, and the standard error of their difference: the same queries are drawn for both. Measures
        that the day did not have are left out, and slices without a session.
    """
    table = per_query
    measures = [name for name in now if f"{CHAMPION}.{name}" in per_query.column_names]
    for name in measures:
        table = table.append_column(f"{_NOW}.{name}", pa.array(now[name]))
    sets = figures_of(table, NO_GUARDS, ["all", *slices])
    return {it.name: _pair(it, measures) for it in sets if it.table.num_rows}


def _pair(figures: QueryFigures, measures: Sequence[str]) -> Pair:
    of = {name: (figures.of(_NOW, name), figures.of(CHAMPION, name)) for name in measures}
    drawn = resample(figures.queries, of, lower_is_better=LOWER_IS_BETTER, resamples=RESAMPLES)
    return Pair(
        n_queries=len(set(figures.queries)),
        before={name: finite(it.theirs.figure) for name, it in drawn.items()},
        now={name: finite(it.ours.figure) for name, it in drawn.items()},
        errors={name: finite(_error_of_difference(it)) for name, it in drawn.items()},
    )


def _error_of_difference(pair: Compared) -> float:
    return float((pair.ours.resampled - pair.theirs.resampled).std()) if pair.ours.is_sure else nan


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
