"""From per-query figures to what an evaluation says: means of every set of queries, and how sure their differences are.

The figures lie in two tables, which `evaluate` writes and `gate` reads: `per_query.parquet`, a row for each held-out
session, and `guards.parquet`, a row for each query of each guard set. Neither needs torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embft.promotion.bootstrap import Pair, holm, resample
from embft.promotion.evaluation_record import Comparison, QuerySet
from embft.promotion_config import SHIFTS

LOWER_IS_BETTER = frozenset({"val_loss"})
Kind = Literal["slice", "guard"]
Numbers = NDArray[np.float64]
NO_GUARDS = pa.table({"guard": pa.array([], pa.string()), "query": pa.array([], pa.string())})


@dataclass(frozen=True)
class QueryFigures:
    """Every model's figures on one set of queries.

    Args:
        kind: Whether it is a slice of the held-out clicks or a guard set.
        name: Of the slice or guard.
        table: A row for each session (of a guard: each query), with `query` and `<model>.<measure>` columns.
    """

    kind: Kind
    name: str
    table: pa.Table

    @property
    def queries(self) -> list[str]:
        """The query of each row."""
        queries: list[str] = self.table["query"].to_pylist()
        return queries

    @property
    def measures(self) -> tuple[str, ...]:
        """What was measured, in the order of the columns."""
        columns = [name.partition(".") for name in self.table.column_names]
        return tuple(dict.fromkeys(measure for _, dot, measure in columns if dot))

    @property
    def models(self) -> tuple[str, ...]:
        """Who was measured, in the order of the columns."""
        columns = [name.partition(".") for name in self.table.column_names]
        return tuple(dict.fromkeys(model for model, dot, _ in columns if dot))

    def has(self, model: str, measure: str) -> bool:
        """Whether a measure was taken of a model; a look-up table has no loss."""
        return f"{model}.{measure}" in self.table.column_names

    def of(self, model: str, measure: str) -> Numbers:
        """Give a model's figures, float64 [rows]; NaN where a row has none, and for what was not measured of it."""
        if not self.has(model, measure):
            return np.full(self.table.num_rows, np.nan)
        figures: Numbers = self.table[f"{model}.{measure}"].to_numpy().astype(np.float64)
        return figures

    def errors(self, model: str, resamples: int) -> dict[str, float | None]:
        """Give the standard error of a model's means.

        Args:
            model: The model.
            resamples: Of the bootstrap over queries.

        Returns:
            Measure → standard error; None where there are too few queries.
        """
        figures = {name: (self.of(model, name), self.of(model, name)) for name in self.measures}
        drawn = resample(self.queries, figures, lower_is_better=LOWER_IS_BETTER, resamples=resamples)
        return {name: finite(pair.ours.standard_error) for name, pair in drawn.items()}

    def compared(self, candidate: str, opponent: str, resamples: int) -> dict[str, Pair]:
        """Compare two models by every measure that both have, with a bootstrap over the queries; see `resample`."""
        both = [name for name in self.measures if self.has(candidate, name) and self.has(opponent, name)]
        figures = {name: (self.of(candidate, name), self.of(opponent, name)) for name in both}
        return resample(self.queries, figures, lower_is_better=LOWER_IS_BETTER, resamples=resamples)


def per_query_table(sessions: Mapping[str, Sequence[Any]], values: Mapping[str, Mapping[str, Numbers]]) -> pa.Table:
    """Lay out every model's figures.

    Args:
        sessions: What a row is about: column → values, `query` among them, n of each.
        values: Model → measure → float64 [n].

    Returns:
        One row for each: those columns, and `<model>.<measure>` ones.
    """
    figures = {f"{model}.{name}": values for model, measures in values.items() for name, values in measures.items()}
    return pa.table({**sessions, **figures})


def figures_of(per_query: pa.Table, guards: pa.Table, slices: Sequence[str]) -> list[QueryFigures]:
    """Cut the two tables into sets of queries.

    Args:
        per_query: A row for each held-out session; its column `slices` lists those that the session is in.
        guards: A row for each query of each guard set, with the column `guard`.
        slices: Names, `all` first.

    Returns:
        The slices, then the guard sets; a slice without any session has no row.
    """
    sets = [QueryFigures("slice", name, per_query if name == "all" else _in_slice(per_query, name)) for name in slices]
    for name in pc.unique(guards["guard"]).to_pylist():
        sets.append(QueryFigures("guard", name, guards.filter(pc.equal(guards["guard"], name))))
    return sets


def described(figures: QueryFigures, notes: Sequence[str] = ()) -> QuerySet:
    """Take the means.

    Args:
        figures: Of one set.
        notes: What a person should know of it.

    Returns:
        Every model's means; rows without a figure are left out of its mean.
    """
    return QuerySet(
        kind=figures.kind,
        name=figures.name,
        n_queries=len(set(figures.queries)),
        n_sessions=figures.table.num_rows,
        models={
            model: {name: _mean(figures.of(model, name)) for name in figures.measures if figures.has(model, name)}
            for model in figures.models
        },
        notes=tuple(notes),
    )


def comparisons(
    sets: Sequence[QueryFigures], candidate: str, opponent: str, *, confidence: float, resamples: int
) -> tuple[Comparison, ...]:
    """Compare the candidate with its opponent by every measure on every set.

    The p values of a measure are corrected over all sets but the first (all queries), which stands for itself.

    Args:
        sets: All queries first.
        candidate: The model that wants to serve.
        opponent: The one that serves, or the look-up table.
        confidence: Of the intervals.
        resamples: Of the bootstrap.

    Returns:
        A comparison for each set and measure; distance shifts, being differences themselves, are left out, and what
        was not measured of both.
    """
    pairs = [it.compared(candidate, opponent, resamples) for it in sets]
    adjusted: dict[tuple[int, str], float] = {}
    for measure in dict.fromkeys(name for of_set in pairs for name in of_set if name not in SHIFTS):
        several = [number for number in range(1, len(sets)) if measure in pairs[number]]
        corrected = holm([pairs[number][measure].gain.p_no_difference() for number in several])
        adjusted |= {(number, measure): p for number, p in zip(several, corrected, strict=True)}
        adjusted[0, measure] = pairs[0][measure].gain.p_no_difference()
    return tuple(
        _comparison(sets[number], measure, pairs[number][measure], p, confidence)
        for (number, measure), p in sorted(adjusted.items())
        if isfinite(pairs[number][measure].ours.figure) and isfinite(pairs[number][measure].theirs.figure)
    )


def finite(figure: float) -> float | None:
    """Give a figure, or None for what JSON cannot tell: NaN and the infinite."""
    return figure if isfinite(figure) else None


def _comparison(figures: QueryFigures, measure: str, pair: Pair, p_adjusted: float, confidence: float) -> Comparison:
    gain = pair.gain
    low, high = gain.interval(confidence)
    return Comparison(
        kind=figures.kind,
        of=figures.name,
        measure=measure,
        n_queries=len(set(figures.queries)),
        figure=pair.ours.figure,
        opposed=pair.theirs.figure,
        gain=finite(gain.figure),
        low=finite(low),
        high=finite(high),
        p_adjusted=finite(p_adjusted),
        detectable=finite(gain.detectable(confidence)),
    )


def _in_slice(per_query: pa.Table, name: str) -> pa.Table:
    return per_query.filter(pa.array([name in names for names in per_query["slices"].to_pylist()], pa.bool_()))


def _mean(values: Numbers) -> float | None:
    known = values[~np.isnan(values)]
    return finite(float(known.mean())) if known.size else None
