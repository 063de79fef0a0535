"""The fine-tuning inputs under the suite `ranks`: present, finite, in range, complete, and not drifted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from embft.validation.catalogue import earlier_copies
from embft.validation.docs import write_index
from embft.validation.drift import distance, drift, summarise
from embft.validation.lists import flat, isin_own_list, lengths
from embft.validation.suites import Figures, SuiteRun
from embft.validation.verdicts import Verdict
from embft.validation_config import Expectation

COLUMNS = (
    "row",
    "part",
    "session_id",
    "n_earlier_copies",
    "n_results",
    "n_ranks",
    "n_missing",
    "n_not_finite",
    "rank_min",
    "rank_max",
    "n_clicked",
    "n_not_clicked",
    "n_clicked_without_rank",
)
FIGURES = ("rank_mean", "rank_stdev", "clicked_minus_not_clicked", "rank_distance", "rank_drift")
NO_REFERENCE = "no earlier run to compare with"


@dataclass(frozen=True)
class RanksVerdict:
    """What the suite `ranks` says about a night's fine-tuning inputs.

    Args:
        verdict: The suite's verdict; `verdict.broken` names sessions by position, train before test.
        reason: Why, in a sentence for the person on call; None where the run goes on.
        figures: JSON-able; `distribution` is what a later night takes as its `reference`.
    """

    verdict: Verdict
    reason: str | None
    figures: dict[str, Any]

    @property
    def rejected(self) -> bool:
        """Whether the run must stop."""
        return self.reason is not None


def check_ranks(
    train: pa.Table,
    test: pa.Table,
    rules: Sequence[Expectation],
    *,
    reference: Mapping[str, Any] | None,
    docs_folder: Path,
    subject: str = "",
) -> RanksVerdict:
    """Check the ranks of train and test.

    A broken rank is a fault of the model or of ours, not of a shopper: one broken session rejects the night,
    where a critical rule says so.

    Args:
        train: Columns session_id, results, clicked, ranks (aligned to results).
        test: The same columns.
        rules: The suite `ranks`.
        reference: `figures["distribution"]` of an earlier night; None where there is none.
        docs_folder: Folder for Data Docs; `index.html` is the first page.
        subject: What the page's title begins with, such as "demo (synthetic data): ".

    Returns:
        The verdict; bad ranks are never an error here.

    Raises:
        ConfigError: A rule has an unknown type, a wrong argument, or an unknown column.
    """
    columns = ["session_id", "results", "clicked", "ranks"]
    ranks = _Ranks(pa.concat_tables([train.select(columns), test.select(columns)]))
    distribution = summarise(ranks.finite, ranks.n_sessions_with_ranks)
    figures = _figures(ranks, distribution, reference)
    frame = ranks.frame(n_train=train.num_rows)
    suite = SuiteRun(
        "ranks",
        rules,
        columns=COLUMNS,
        figures=FIGURES,
        id_column="session_id",
        critical_rows="reject",
    )
    suite.judge(frame)
    verdict = suite.verdict(docs_folder, figures)
    reasons = [f"ranks: {sentence}" for sentence in verdict.rejections]
    warnings = [f"ranks: {sentence}" for sentence in verdict.warnings]
    write_index(docs_folder, f"{subject}Ranks of the fine-tuning inputs", [verdict], reasons, warnings)
    return RanksVerdict(
        verdict=verdict,
        reason=reasons[0] if reasons else None,
        figures={
            **{str(name): None if np.isnan(it) else float(it) for name, it in figures.frame.iloc[0].items()},
            "sessions": {"train": train.num_rows, "test": test.num_rows, "broken": verdict.n_broken},
            "distribution": distribution,
            "reasons": reasons,
            "warnings": warnings,
            "notes": verdict.notes,
        },
    )


class _Ranks:
    """All ranks of some sessions as flat arrays, so that a million of them cost no Python loop."""

    def __init__(self, sessions: pa.Table) -> None:
        self.ids = sessions["session_id"].to_pandas()
        self.n_results = lengths(sessions["results"])
        self.n_ranks = lengths(sessions["ranks"])
        self.n_clicked = lengths(sessions["clicked"])
        self._parents, ranks = flat(sessions["ranks"])
        self._missing = ranks.is_null().to_numpy(zero_copy_only=False)
        self._values = ranks.cast(pa.float64()).to_numpy(zero_copy_only=False)
        self._is_finite = np.isfinite(self._values)
        self._set_clicks(sessions)

    def _set_clicks(self, sessions: pa.Table) -> None:
        results = flat(sessions["results"])
        clicked = flat(sessions["clicked"])
        is_click = isin_own_list(*results, *clicked)
        self._n_clicked_results = np.bincount(results[0][is_click], minlength=len(self.ids))
        lost = ~isin_own_list(*clicked, *results)
        self._n_clicked_without_rank = np.bincount(clicked[0][lost], minlength=len(self.ids))
        # A rank belongs to the result in its place only where a session has as many of one as of the other.
        aligned = self.n_ranks == self.n_results
        clicked_there = is_click[aligned[results[0]]]
        ranks_there = aligned[self._parents]
        values, usable = self._values[ranks_there], self._is_finite[ranks_there]
        self.of_clicked = values[usable & clicked_there]
        self.of_not_clicked = values[usable & ~clicked_there]

    @property
    def finite(self) -> NDArray[np.float64]:
        """Every finite rank."""
        return np.asarray(self._values[self._is_finite])

    @property
    def n_sessions_with_ranks(self) -> int:
        """Sessions with at least one finite rank."""
        return len(np.unique(self._parents[self._is_finite]))

    def frame(self, n_train: int) -> pd.DataFrame:
        """Describe each session: the columns that the header of `include/expectations/ranks.yaml` lists."""
        n_sessions = len(self.ids)
        lowest, highest = np.full(n_sessions, np.inf), np.full(n_sessions, -np.inf)
        np.minimum.at(lowest, self._parents[self._is_finite], self.finite)
        np.maximum.at(highest, self._parents[self._is_finite], self.finite)
        return pd.DataFrame(
            {
                "row": np.arange(n_sessions),
                "part": np.where(np.arange(n_sessions) < n_train, "train", "test"),
                "session_id": self.ids,
                "n_earlier_copies": earlier_copies(self.ids),
                "n_results": self.n_results,
                "n_ranks": self.n_ranks,
                "n_missing": self._count(self._missing),
                "n_not_finite": self._count(~self._is_finite & ~self._missing),
                "rank_min": np.where(np.isinf(lowest), np.nan, lowest),
                "rank_max": np.where(np.isinf(highest), np.nan, highest),
                "n_clicked": self.n_clicked,
                "n_not_clicked": self.n_results - self._n_clicked_results,
                "n_clicked_without_rank": self._n_clicked_without_rank,
            }
        )

    def _count(self, mark: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(self._parents[mark], minlength=len(self.ids)).astype(np.int64)


def _figures(ranks: _Ranks, distribution: Mapping[str, Any], reference: Mapping[str, Any] | None) -> Figures:
    comparable = bool(distribution["n"] and reference and reference.get("n"))
    gap = None
    if len(ranks.of_clicked) and len(ranks.of_not_clicked):
        gap = float(ranks.of_clicked.mean() - ranks.of_not_clicked.mean())
    values: dict[str, float | None] = {
        "rank_mean": distribution["mean"],
        "rank_stdev": distribution["stdev"],
        "clicked_minus_not_clicked": gap,
        "rank_distance": distance(distribution, reference) if comparable and reference else None,
        "rank_drift": drift(distribution, reference) if comparable and reference else None,
    }
    unknown = {}
    if not comparable:
        unknown = dict.fromkeys(("rank_distance", "rank_drift"), NO_REFERENCE if distribution["n"] else "no ranks")
    if gap is None:
        unknown["clicked_minus_not_clicked"] = "no ranks on both sides"
    return Figures.of_set(values, unknown)
