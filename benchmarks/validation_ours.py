"""Both validations as a night runs them, for `benchmarks.validation`."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.validation_data import DAYS, EXPECTATIONS, N_EARLIER, PARTS, ZONE
from embft.clickstream.sessions import read_sessions
from embft.validation.drift import summarise
from embft.validation.lists import flat
from embft.validation.profiles import LOOKBACK_DAYS, DayProfile, Profiler
from embft.validation.rank_frame import Ranking
from embft.validation.ranks import check_ranks
from embft.validation.sessions import check_sessions
from embft.validation.window import Before, Limits, PulledDay
from embft.validation_config import Validation, load_suite

Check = Callable[[], dict[str, Any]]
_DEFAULTS = Validation()


def sessions_and_ranks(folder: Path, out: Path) -> tuple[Check, Check]:
    """Prepare what earlier nights left.

    Args:
        folder: As `benchmarks.validation` laid it out.
        out: For files.

    Returns:
        What checks the sessions, and what checks the ranks; each gives its figures.
    """
    items = pq.read_table(folder / "items.parquet")
    before = Before(_earlier_profiles(folder), items)
    reference = _reference(folder)
    return partial(_check_sessions, folder, out, items, before), partial(_check_ranks, folder, out, reference)


def _earlier_profiles(folder: Path) -> dict[Any, DayProfile]:
    """Take the window's own days as those two weeks before."""
    profiler = Profiler(ZONE, LOOKBACK_DAYS)
    profiles = [profiler.profile(day, read_sessions(folder / f"{day}.parquet"), _lines(0)) for day in DAYS]
    back = timedelta(days=N_EARLIER)
    return {it.day - back: it.model_copy(update={"day": it.day - back}) for it in profiles}


def _lines(n_sessions: int) -> dict[str, int]:
    """Give what `pull` would have counted."""
    return {"lines": n_sessions, "duplicates": 0, "quarantined": 0, "filtered": 0}


def _reference(folder: Path) -> dict[str, Any]:
    table = pq.read_table(folder / "test.parquet")
    return summarise(flat(table["ranks"])[1].to_numpy(zero_copy_only=False), table.num_rows)


def _check_sessions(folder: Path, out: Path, items: Any, before: Before) -> dict[str, Any]:
    pulled = []
    for day in DAYS:
        file = folder / f"{day}.parquet"
        n = pq.read_metadata(file).num_rows
        pulled.append(PulledDay(day, lambda file=file: file, n, _lines(n)))  # type: ignore[misc]
    verdict = check_sessions(
        pulled,
        items,
        load_suite(EXPECTATIONS, "sessions"),
        load_suite(EXPECTATIONS, "catalogue"),
        limits=Limits(
            (DAYS[0], DAYS[-1]), ZONE, _DEFAULTS.max_quarantined, min_clients=5, reference_days=_DEFAULTS.reference_days
        ),
        before=before,
        folder=out,
    )
    newest = verdict.figures["profiles"][DAYS[-1].isoformat()]["figures"]
    return {"aside": verdict.figures["sessions"]["set_aside"], **{name: value for name, (value, _) in newest.items()}}


def _check_ranks(folder: Path, out: Path, reference: dict[str, Any]) -> dict[str, Any]:
    verdict = check_ranks(
        {part: folder / f"{part}.parquet" for part in PARTS},
        load_suite(EXPECTATIONS, "ranks"),
        vectors=folder / "vectors.parquet",
        ranking=Ranking((-1.0, 1.0), is_similarity=True, is_champions=True),
        reference=reference,
        docs_folder=out / "rank-docs",
    )
    names = ("rank_mean", "rank_stdev", "train_lead", "test_lead", "test_lead_z", "mean_cosine")
    return {name: np.float64(verdict.figures[name]).item() for name in names}
