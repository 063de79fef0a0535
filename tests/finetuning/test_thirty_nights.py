"""Thirty nights on real clicks, each from the model of the night before: it learns, and does not drift away.

By the library alone and at the pipeline's defaults, but for half the window, and two epochs a night once there is a
trained model to go on from: a night then takes about a second.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

import embft
from embft.clickstream.negatives import sample_not_clicked
from embft.clickstream.sessions import SCHEMA
from embft.config import Training
from embft.promotion_config import Guard
from tests import cranfield, realdata

pytestmark = [pytest.mark.long, pytest.mark.realdata, realdata.needs_clicks, cranfield.needs_cranfield]

FIRST, N_NIGHTS, WINDOW_DAYS, EPOCHS = date(2011, 9, 19), 30, 7, 2
PIPELINE = Training()
MAX_DROP = Guard.model_fields["max_drop"].default


class Judged(NamedTuple):
    """Queries, and the gain of each item for them, float [queries, items]."""

    queries: list[str]
    items: list[str]
    gains: NDArray[np.float64]


class Night(NamedTuple):
    """nDCG@10 after a night, of the model and of the base."""

    next_day: tuple[float, float]
    guard: tuple[float, float]


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> list[Night]:
    items = read_items()
    guard = judged_guard()
    base, model = embft.load_model(PIPELINE.base_model), embft.load_model(PIPELINE.base_model)
    base_guard = ndcg_at_10(base, guard)
    clicks = read_clicks()
    days = [FIRST + timedelta(days=number) for number in range(-WINDOW_DAYS + 1, N_NIGHTS)]
    sessions = {day: sessions_of(clicks[day], items) for day in days}
    found = []
    for day in days[WINDOW_DAYS - 1 :]:
        learned = [it for back in range(WINDOW_DAYS - 1, 0, -1) for it in sessions[day - timedelta(days=back)]]
        epochs = EPOCHS if found else PIPELINE.settings.num_epochs
        train(model, base, learned, sessions[day], items, epochs, tmp_path_factory.mktemp("night"))
        tomorrow = judged_clicks(clicks[day + timedelta(days=1)], items)
        next_day = ndcg_at_10(model, tomorrow), ndcg_at_10(base, tomorrow)
        found.append(Night(next_day, (ndcg_at_10(model, guard), base_guard)))
    return found


def test_each_night_finds_more_of_the_next_day_than_the_base(nights: list[Night]) -> None:
    gains = [ours - base for ours, base in (it.next_day for it in nights)]
    assert len(gains) == N_NIGHTS
    assert min(gains) > 0
    assert np.mean(gains) > 0.05


def test_a_model_that_goes_on_from_the_last_one_keeps_the_guard_set(nights: list[Night]) -> None:
    changes = [ours / base - 1 for ours, base in (it.guard for it in nights)]
    assert min(changes) >= -MAX_DROP, f"night by night: {', '.join(f'{it:+.3f}' for it in changes)}"


def train(
    model: embft.EmbeddingsModelInterface,
    base: embft.EmbeddingsModelInterface,
    learned: Sequence[embft.FineTuningInput],
    held_out: Sequence[embft.FineTuningInput],
    items: embft.ItemsSet,
    epochs: int,
    folder: Path,
) -> None:
    settings = PIPELINE.settings.model_copy(update={"num_epochs": epochs, "metric_calculators": (), "devices": "cpu"})
    parts = [
        embft.PairedFineTuningInputsDataset(learned, settings.seed),
        embft.PairedFineTuningInputsDataset(held_out, settings.seed, clicks_of=learned),
    ]
    items_sets = {"train": items, "test": items}
    tuner = embft.EmbeddingsFineTuner.create(model, settings, items_sets, embft.TextQueryRetriever(), PIPELINE.params)
    embft.fit(tuner, *parts, settings, folder)
    embft.mix_with_base(tuner, base, parts[1], settings.batch_size)


def ndcg_at_10(model: embft.EmbeddingsModelInterface, judged: Judged) -> float:
    """Mean over queries, by NumPy alone: what the library finds of itself is not asked for."""
    scores = model.encode_queries(judged.queries) @ model.encode_items(judged.items).T
    discounts = 1 / np.log2(np.arange(2, 12))
    first_ten = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    found = np.take_along_axis(judged.gains, first_ten, axis=1) @ discounts
    best = np.sort(judged.gains, axis=1)[:, :-11:-1] @ discounts
    return float((found / best).mean())


def judged_clicks(clicks: Sequence[Mapping[str, str]], items: embft.ItemsSet) -> Judged:
    cases = [(it["query"], {it["clicked"]: 1.0}) for it in clicks]
    return judged_of(cases, items)


def judged_guard() -> Judged:
    items, cases = cranfield.read()
    return judged_of(cases, items)


def judged_of(cases: Sequence[tuple[str, Mapping[str, float]]], items: embft.ItemsSet) -> Judged:
    row_of = {id_: row for row, id_ in enumerate(items.ids)}
    gains = np.zeros((len(cases), len(items)))
    for number, (_, grades) in enumerate(cases):
        gains[number, [row_of[id_] for id_ in grades]] = list(grades.values())
    return Judged([query for query, _ in cases], items.items_by_ids(items.ids), gains)


def sessions_of(clicks: Sequence[Mapping[str, str]], items: embft.ItemsSet) -> list[embft.FineTuningInput]:
    """Make each click a session, beside items drawn from the catalogue as `preprocess_ranks` draws them."""
    nothing = dict.fromkeys(SCHEMA.names, [None] * len(clicks))
    columns = nothing | {
        "session_id": [it["session"] for it in clicks],
        "day": [date.fromisoformat(it["time"][:10]) for it in clicks],
        "time": [datetime.fromisoformat(it["time"][:19]).replace(tzinfo=UTC) for it in clicks],
        "query": [it["query"] for it in clicks],
        "clicked": [[it["clicked"]] for it in clicks],
    }
    table = pa.table(columns, schema=SCHEMA)
    drawn = sample_not_clicked(
        table, items.ids, count=PIPELINE.sampled_negatives, seed=PIPELINE.settings.seed, clicks_of=table
    )
    return [
        embft.FineTuningInput(it["session_id"], it["query"], it["clicked"], it["shown"], timestamp=it["time"])
        for it in drawn.select(["session_id", "query", "clicked", "shown", "time"]).to_pylist()
    ]


def read_clicks() -> dict[date, list[dict[str, str]]]:
    by_day = defaultdict(list)
    with gzip.open(realdata.CLICKS / "clicks_train.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            row["query"] = " ".join(row["query"].lower().split())
            by_day[date.fromisoformat(row["time"][:10])].append(row)
    return by_day


def read_items() -> embft.ItemsSet:
    rows = [json.loads(line) for line in (realdata.CLICKS / "items.jsonl").open(encoding="utf-8")]
    return embft.ItemsSet([it["id"] for it in rows], [it["text"] for it in rows])
