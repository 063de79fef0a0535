"""What the suite `ranks` speaks about: one row a session, and by how much its clicked results are nearer."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from embft.validation.lists import flat, isin_own_list, lengths
from embft.validation.wording import figure

COLUMNS = (
    "row",
    "part",
    "session_id",
    "n_earlier_copies",
    "n_results",
    "n_ranks",
    "n_missing",
    "n_not_finite",
    "n_out_of_range",
    "out_of_range",
    "rank_min",
    "rank_max",
    "rank_spread",
    "n_clicked",
    "n_not_clicked",
    "n_clicked_without_rank",
)
EXAMPLES = {"n_out_of_range": "out_of_range"}
_ROUNDING = 1e-3  # float32, and a length of a vector that is not quite one


@dataclass(frozen=True)
class Ranking:
    """How the ranks came about.

    Args:
        limits: Smallest and greatest value that the ranker can give; None where that is not known.
        is_similarity: Whether a bigger rank is closer.
        is_champions: Whether the champion gave them, and not the base model, which has learned from no click.
    """

    limits: tuple[float, float] | None
    is_similarity: bool
    is_champions: bool


def mean_lead(sessions: pa.Table, *, is_similarity: bool) -> float | None:
    """Say by how much clicked results are nearer than the others, on average over sessions.

    Args:
        sessions: Columns session_id, results, clicked, ranks (aligned to results).
        is_similarity: Whether a bigger rank is closer.

    Returns:
        In units of the ranker; None where no session has ranks on both sides.
    """
    leads = RankedSessions(sessions).leads(is_similarity=is_similarity)
    return float(leads.mean()) if len(leads) else None


class RankedSessions:
    """The ranks of some sessions as flat arrays, so that a million of them cost no Python loop.

    Args:
        sessions: Columns session_id, results, clicked, ranks (aligned to results).
    """

    def __init__(self, sessions: pa.Table) -> None:
        self._ids = sessions["session_id"].to_pandas()
        self._n_results = lengths(sessions["results"])
        self._n_ranks = lengths(sessions["ranks"])
        self._n_clicked = lengths(sessions["clicked"])
        self._parents, ranks = flat(sessions["ranks"])
        self._is_missing = ranks.is_null().to_numpy(zero_copy_only=False)
        self._values = ranks.cast(pa.float64()).to_numpy(zero_copy_only=False)
        self._is_finite = np.isfinite(self._values)
        self._look_up_clicks(sessions)

    def _look_up_clicks(self, sessions: pa.Table) -> None:
        results = flat(sessions["results"])
        clicked = flat(sessions["clicked"])
        is_click = isin_own_list(*results, *clicked)
        self._n_clicked_results = self._count_by(results[0], is_click)
        self._n_clicked_without_rank = self._count_by(clicked[0], ~isin_own_list(*clicked, *results))
        # A rank belongs to the result in its place only where a session has as many of one as of the other.
        aligned = self._n_ranks == self._n_results
        self._has_result = aligned[self._parents]
        self._is_click = np.zeros(len(self._values), dtype=bool)
        self._is_click[self._has_result] = is_click[aligned[results[0]]]

    @property
    def finite(self) -> NDArray[np.float64]:
        """Every finite rank."""
        return np.asarray(self._values[self._is_finite])

    @property
    def n_with_ranks(self) -> int:
        """Sessions with at least one finite rank."""
        return len(np.unique(self._parents[self._is_finite]))

    def leads(self, *, is_similarity: bool) -> NDArray[np.float64]:
        """Say by how much a session's clicked results are nearer than the others, in units of the ranker.

        Args:
            is_similarity: Whether a bigger rank is closer.

        Returns:
            Difference of the mean ranks, float64, for each session that has ranks on both sides.
        """
        usable = self._is_finite & self._has_result
        clicked, others = self._mean(usable & self._is_click), self._mean(usable & ~self._is_click)
        leads = clicked - others if is_similarity else others - clicked
        return np.asarray(leads[np.isfinite(leads)])

    def frame(self, part: str, n_earlier_copies: NDArray[np.int64], ranking: Ranking, first_row: int) -> pd.DataFrame:
        """Describe each session.

        Args:
            part: train, validation or test.
            n_earlier_copies: Earlier sessions with the same id, for each session.
            ranking: Of the ranks.
            first_row: Position of the first session.

        Returns:
            The columns that the header of `include/expectations/ranks.yaml` lists.
        """
        n = len(self._ids)
        lowest, highest = self._extremes()
        is_outside = self._is_outside(ranking.limits)
        return pd.DataFrame(
            {
                "row": np.arange(first_row, first_row + n),
                "part": part,
                "session_id": self._ids,
                "n_earlier_copies": n_earlier_copies,
                "n_results": self._n_results,
                "n_ranks": self._n_ranks,
                "n_missing": self._count_by(self._parents, self._is_missing),
                "n_not_finite": self._count_by(self._parents, ~self._is_finite & ~self._is_missing),
                "n_out_of_range": self._count_by(self._parents, is_outside),
                "out_of_range": self._first_outside(is_outside, ranking.limits),
                "rank_min": lowest,
                "rank_max": highest,
                "rank_spread": np.where(self._n_ranks > 1, highest - lowest, np.nan),
                "n_clicked": self._n_clicked,
                "n_not_clicked": self._n_results - self._n_clicked_results,
                "n_clicked_without_rank": self._n_clicked_without_rank,
            },
            columns=list(COLUMNS),
        )

    def _extremes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        lowest, highest = np.full(len(self._ids), np.inf), np.full(len(self._ids), -np.inf)
        np.minimum.at(lowest, self._parents[self._is_finite], self.finite)
        np.maximum.at(highest, self._parents[self._is_finite], self.finite)
        has_none = np.isinf(lowest)
        return np.where(has_none, np.nan, lowest), np.where(has_none, np.nan, highest)

    def _is_outside(self, limits: tuple[float, float] | None) -> NDArray[np.bool_]:
        if limits is None:
            return np.zeros(len(self._values), dtype=bool)
        low, high = limits
        is_outside = (self._values < low - _ROUNDING) | (self._values > high + _ROUNDING)
        return np.asarray(self._is_finite & is_outside)

    def _first_outside(self, is_outside: NDArray[np.bool_], limits: tuple[float, float] | None) -> NDArray[np.object_]:
        """Say of each session that has one which rank lies outside."""
        told = np.full(len(self._ids), "", dtype=object)
        if limits:
            between = f"between {figure(limits[0])} and {figure(limits[1])}"
            sessions, first = np.unique(self._parents[is_outside], return_index=True)
            ranks = self._values[is_outside][first].tolist()
            told[sessions] = [f"{figure(rank)}, not {between}" for rank in ranks]
        return told

    def _mean(self, mark: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Mean of the marked ranks of each session; NaN where it has none."""
        sums = np.bincount(self._parents[mark], self._values[mark], minlength=len(self._ids))
        counts = np.bincount(self._parents[mark], minlength=len(self._ids))
        return np.asarray(np.divide(sums, counts, out=np.full(len(self._ids), np.nan), where=counts > 0))

    def _count_by(self, parents: NDArray[np.int64], mark: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(parents[mark], minlength=len(self._ids)).astype(np.int64)
