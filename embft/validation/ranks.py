"""The fine-tuning inputs under the suite `ranks`: present, finite, in range, complete, pointing the right way."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embft.validation import item_vectors as of_vectors
from embft.validation.docs import write_index
from embft.validation.drift import distance, drift, summarise
from embft.validation.hashes import SeenBefore
from embft.validation.item_vectors import VectorFigures, vector_figures
from embft.validation.rank_frame import COLUMNS, EXAMPLES, RankedSessions, Ranking
from embft.validation.suites import Figures, SuiteRun
from embft.validation.verdicts import Verdict
from embft.validation_config import Expectation

PARTS = ("train", "validation", "test")
FIGURES = (
    "smallest_part",
    "rank_mean",
    "rank_stdev",
    *(f"{part}_lead" for part in PARTS),
    "test_lead_z",
    "champion_test_lead_z",
    "rank_distance",
    "rank_drift",
    "lead_ratio",
    *of_vectors.FIGURES,
)
_MIN_LEADS = 10  # of fewer sessions a spread says little
# In more sessions a lead of a hundredth of its spread would be certain, and still be no fault.
_MAX_LEADS = 2_500
_MIN_LEAD_BEFORE = 0.05
_MIN_FOR_RATIO = 100


@dataclass(frozen=True)
class RanksVerdict:
    """What the suite `ranks` says about a night's fine-tuning inputs.

    Args:
        verdict: The suite's verdict.
        reasons: Why the run must stop, in sentences for the person on call; none where it goes on.
        figures: JSON-able figures for people.
    """

    verdict: Verdict
    reasons: list[str]
    figures: dict[str, Any]


def check_ranks(
    parts: Mapping[str, Path],
    rules: Sequence[Expectation],
    *,
    vectors: Path,
    ranking: Ranking,
    reference: Mapping[str, Any] | str,
    docs_folder: Path,
    subject: str = "",
    sessions_at_a_time: int = 100_000,
) -> RanksVerdict:
    """Check the ranks of train, validation and test, and the item vectors that they come from.

    A broken rank is a fault of the model or of ours, not of a shopper: one broken session rejects the night,
    where a critical rule says so.

    Args:
        parts: Each of `PARTS`, as Parquet: session_id, results, clicked, ranks (aligned to results).
        rules: The suite `ranks`.
        vectors: Of the items that were ranked, as Parquet: id, vector.
        ranking: How the ranks came about.
        reference: What `summarise` made of the same model's test ranks on an earlier night; or why there is none.
        docs_folder: Folder for Data Docs; `index.html` is the first page.
        subject: What the page's title begins with, such as "demo (synthetic data): ".
        sessions_at_a_time: Sessions held in memory at once.

    Returns:
        The verdict; bad ranks are never an error here.

    Raises:
        ConfigError: A rule has an unknown type, a wrong argument, or an unknown column.
    """
    suite = SuiteRun(
        "ranks",
        rules,
        columns=COLUMNS,
        figures=FIGURES,
        id_column="session_id",
        critical_rows="reject",
        examples=EXAMPLES,
    )
    inputs = _Inputs(parts, ranking, sessions_at_a_time)
    for partition in _put_together(inputs.frames(), sessions_at_a_time):
        suite.judge(partition)
    distribution = summarise(np.concatenate(inputs.test_ranks), inputs.n_ranked_test_sessions)
    figures = _figures(inputs, _compared(distribution, inputs.leads["test"], reference), vector_figures(vectors))
    verdict = suite.verdict(docs_folder, figures)
    reasons = [f"ranks: {sentence}" for sentence in verdict.rejections]
    warnings = [f"ranks: {sentence}" for sentence in verdict.warnings]
    write_index(docs_folder, f"{subject}Ranks of the fine-tuning inputs", [verdict], reasons, warnings)
    return RanksVerdict(
        verdict=verdict,
        reasons=reasons,
        figures={
            **{str(name): float(it) if np.isfinite(it) else None for name, it in figures.frame.iloc[0].items()},
            "sessions": {**inputs.n_sessions, "broken": verdict.n_broken},
            "distribution": distribution,
            "reasons": reasons,
            "warnings": warnings,
            "notes": verdict.notes,
        },
    )


class _Inputs:
    """The inputs on their way through the suite: described for it session by session, and summed up for the figures.

    Of the test part every rank stays, in four bytes: so the quantiles are exact for any ranker, and two days of half
    a million sessions are 40 MB. A histogram would need to know between which values a ranker's ranks lie.
    """

    def __init__(self, parts: Mapping[str, Path], ranking: Ranking, sessions_at_a_time: int) -> None:
        self._parts, self._ranking, self._sessions_at_a_time = parts, ranking, sessions_at_a_time
        self.n_sessions = dict.fromkeys(PARTS, 0)
        self.ranks = _Moments()
        self.leads = {part: _Moments() for part in PARTS}
        self.test_ranks: list[NDArray[np.float32]] = [np.empty(0, dtype=np.float32)]
        self.n_ranked_test_sessions = 0

    def frames(self) -> Iterator[pd.DataFrame]:
        """Describe the sessions, some of them at a time; there is a frame even where there is no session."""
        seen, first_row = SeenBefore(), 0
        for part in PARTS:
            for table in _batches(self._parts[part], self._sessions_at_a_time):
                sessions = RankedSessions(table)
                self._add(part, sessions, table.num_rows)
                yield sessions.frame(part, seen.earlier_copies(table["session_id"]), self._ranking, first_row)
                first_row += table.num_rows

    def _add(self, part: str, sessions: RankedSessions, n_sessions: int) -> None:
        self.n_sessions[part] += n_sessions
        self.ranks.add(sessions.finite)
        self.leads[part].add(sessions.leads(is_similarity=self._ranking.is_similarity))
        if part == "test":
            self.test_ranks.append(sessions.finite.astype(np.float32))
            self.n_ranked_test_sessions += sessions.n_with_ranks

    @property
    def is_champions(self) -> bool:
        """Whether the champion gave the ranks."""
        return self._ranking.is_champions


class _Moments:
    """Mean and standard deviation of numbers that come in portions.

    Sums are of the distance to the first number: so the spread of numbers that are all the same is 0, not rounding.
    """

    def __init__(self) -> None:
        self.n = 0
        self._origin = self._sum = self._squares = 0.0

    def add(self, values: NDArray[np.float64]) -> None:
        if not len(values):
            return
        if not self.n:
            self._origin = float(values[0])
        shifted = values - self._origin
        self.n += len(values)
        self._sum += float(shifted.sum())
        self._squares += float(shifted @ shifted)

    @property
    def mean(self) -> float | None:
        return self._origin + self._sum / self.n if self.n else None

    @property
    def stdev(self) -> float | None:
        return math.sqrt(max(0.0, self._squares / self.n - (self._sum / self.n) ** 2)) if self.n else None


def _batches(path: Path, n_rows: int) -> Iterator[pa.Table]:
    file = pq.ParquetFile(path)
    columns = ["session_id", "results", "clicked", "ranks"]
    if not file.metadata.num_rows:
        yield file.schema_arrow.empty_table().select(columns)
    for batch in file.iter_batches(n_rows, columns=columns):
        yield pa.Table.from_batches([batch])


def _put_together(frames: Iterable[pd.DataFrame], n_rows: int) -> Iterator[pd.DataFrame]:
    """Put small frames together: each run of the library costs a part of a second."""
    waiting: list[pd.DataFrame] = []
    for frame in frames:
        if waiting and sum(map(len, waiting)) + len(frame) > n_rows:
            yield pd.concat(waiting, ignore_index=True)
            waiting = []
        waiting.append(frame)
    yield pd.concat(waiting, ignore_index=True)


def _compared(
    distribution: Mapping[str, Any], lead: _Moments, reference: Mapping[str, Any] | str
) -> dict[str, float] | str:
    """Compare the test part's ranks with those of an earlier night, or say why not."""
    if isinstance(reference, str):
        return reference
    if not distribution["n"] or not reference["n"]:
        return "no ranks"
    of_spread = {"rank_distance": distance(distribution, reference), "rank_drift": drift(distribution, reference)}
    before = reference.get("lead")
    # A lead of next to nothing has no ratio to speak of.
    if lead.mean is None or lead.n < _MIN_FOR_RATIO or before is None or before < _MIN_LEAD_BEFORE:
        return of_spread
    return {**of_spread, "lead_ratio": lead.mean / before}


def _figures(inputs: _Inputs, compared: Mapping[str, float] | str, vectors: VectorFigures) -> Figures:
    z = _z(inputs.leads["test"])
    values: dict[str, float | None] = {
        **dict.fromkeys(FIGURES),
        "smallest_part": min(inputs.n_sessions.values()),
        "rank_mean": inputs.ranks.mean,
        "rank_stdev": inputs.ranks.stdev,
        **{f"{part}_lead": inputs.leads[part].mean for part in PARTS},
        "test_lead_z": z,
        "champion_test_lead_z": z if inputs.is_champions else None,
        **({} if isinstance(compared, str) else compared),
        **vectors.values,
    }
    few = f"fewer than {_MIN_LEADS} test sessions have ranks both of clicked and of other results"
    unknown = {
        **dict.fromkeys(("rank_mean", "rank_stdev"), "no ranks"),
        **{f"{part}_lead": "no ranks on both sides" for part in PARTS},
        "test_lead_z": few,
        "champion_test_lead_z": few if inputs.is_champions else "the base model ranked; it has learned from no click",
        **dict.fromkeys(("rank_distance", "rank_drift"), compared if isinstance(compared, str) else ""),
        "lead_ratio": compared
        if isinstance(compared, str)
        else f"fewer than {_MIN_FOR_RATIO} test sessions, or a lead of next to nothing before",
        **vectors.unknown,
    }
    frame = Figures.of_set(values).frame
    return Figures(frame, unknown, {name: {str(frame.index[0]): text} for name, text in vectors.context.items()})


def _z(leads: _Moments) -> float | None:
    """Count the mean lead in its standard errors over sessions."""
    if leads.n < _MIN_LEADS or leads.mean is None or leads.stdev is None:
        return None
    # Of leads that are all the same the error is 0: a mean of 0 is then as near to nothing as can be, and others far.
    return leads.mean / max(leads.stdev / math.sqrt(min(leads.n, _MAX_LEADS)), 1e-9)
