"""Evaluations of made-up figures, for tests of the gate and of what tells its decisions."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

from embft.promotion.evaluation import QueryFigures, comparisons, described, figures_of, per_query_table
from embft.promotion.evaluation_record import MOST_CLICKED, Costs, Evaluation

DAY = date(2026, 3, 10)
COSTS = {name: Costs(model_mb=30.0, encode_ms=1.0) for name in ("base", "champion", "challenger", "interpolation")}


def evaluated(
    values: Mapping[str, Mapping[str, Any]],
    *,
    queries: Sequence[str] | None = None,
    slices: Mapping[str, Sequence[str]] | None = None,
    guards: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
    costs: Mapping[str, Costs] = COSTS,
    resamples: int = 1000,
) -> tuple[Evaluation, list[QueryFigures]]:
    """Give the evaluation of figures: model → measure → a figure for each session, or one for all."""
    n = max(np.size(it) for measures in values.values() for it in measures.values())
    queries = queries or [f"query {number}" for number in range(n)]
    slices = slices or {}
    told = [[name for name, of_slice in slices.items() if query in of_slice] for query in queries]
    per_query = per_query_table(
        {
            "session_id": [f"s{number}" for number in range(n)],
            "query": queries,
            "clicked": [["i1"]] * n,
            "slices": pa.array(told, pa.list_(pa.string())),
        },
        {model: {name: _full(it, n) for name, it in measures.items()} for model, measures in values.items()},
    )
    tables = [pa.table({"guard": pa.array([], pa.string()), "query": pa.array([], pa.string())})]
    for name, models in (guards or {}).items():
        size = max(np.size(it) for measures in models.values() for it in measures.values())
        columns = {"guard": [name] * size, "query": [f"judged {number}" for number in range(size)]}
        figures = {model: {key: _full(it, size) for key, it in them.items()} for model, them in models.items()}
        tables.append(per_query_table(columns, figures))
    sets = figures_of(per_query, pa.concat_tables(tables[1:] or tables), ["all", *slices])
    candidate = "interpolation" if "interpolation" in values else "challenger"
    opponent = "champion" if "champion" in values else "base"
    evaluation = Evaluation(
        model="shop",
        day=DAY,
        test_from=DAY,
        inputs_sha256="0" * 64,
        loss_func="in_batch_softmax",
        n_items=40,
        candidate=candidate,
        opponent=opponent,
        new_share=0.5 if candidate == "interpolation" else None,
        sets=tuple(described(it) for it in sets),
        costs={name: costs[name] for name in values if name != MOST_CLICKED},
        confidence=0.95,
        resamples=resamples,
        comparisons=comparisons(sets, candidate, opponent, confidence=0.95, resamples=resamples),
        against_most_clicked=comparisons(sets[:1], candidate, MOST_CLICKED, confidence=0.95, resamples=resamples)
        if MOST_CLICKED in values
        else (),
    )
    return evaluation, sets


def _full(figure: Any, n: int) -> Any:
    return np.broadcast_to(np.asarray(figure, dtype=float), (n,)).copy()
