"""What clicks weigh, against plain arithmetic."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embft import (
    EmbeddingsFineTuner,
    FineTuningInput,
    FineTuningParams,
    FineTuningSettings,
    ItemsSet,
    PairedFineTuningInputsDataset,
    StaticEmbeddingsModel,
    TextQueryRetriever,
    fit,
)
from embft.finetuning.evidence import MOST_BITS
from embft.finetuning.losses import CatalogueSoftmaxLoss
from embft.finetuning.validation import validation_loss

NIGHT = datetime(2026, 3, 10, 3, tzinfo=UTC)


def _click(number: int, query: str, *ids: str, days: float | None = 0.0) -> FineTuningInput:
    timestamp = None if days is None else NIGHT - timedelta(days=days)
    return FineTuningInput(f"{number}", query, ids, ids, timestamp=timestamp)


def _weights(log: list[FineTuningInput], **params: object) -> list[list[float]]:
    weigh = PairedFineTuningInputsDataset(log).click_weights(FineTuningParams(**params))  # type: ignore[arg-type]
    assert weigh is not None
    return [weigh(session) for session in log]


def test_a_click_halves_with_each_half_life_before_the_newest() -> None:
    log = [_click(0, "hat", "a", days=14), _click(1, "hat", "a", "b", days=3.5), _click(2, "hat", "a")]
    log.append(_click(3, "hat", "a", days=None))  # no time: nothing speaks against it
    weights = _weights(log, half_life_days=7)
    assert weights == [[0.25], [pytest.approx(0.5**0.5)] * 2, [1.0], [1.0]]


def test_a_log_without_times_and_one_that_counts_clicks_weighs_all_alike() -> None:
    log = [_click(n, "hat", "a", days=None) for n in range(3)]
    assert _weights(log, half_life_days=7) == [[1.0]] * 3
    assert PairedFineTuningInputsDataset(log).click_weights(FineTuningParams(half_life_days=None)) is None


def test_repeated_clicks_share_a_capped_logarithm_over_case_spaces_and_slips() -> None:
    log = [_click(n, query, "a") for n, query in enumerate(["dead island"] * 10 + ["Dead  Island", "dead isalnd"])]
    log += [_click(20, "dead island", "b"), *(_click(n, "hat", "a") for n in range(100, 200))]
    weights = _weights(log, half_life_days=None, repeated_clicks="log")
    assert weights[:12] == [[pytest.approx(math.log2(13) / 12)]] * 12
    assert weights[12] == [1.0]
    assert sum(map(sum, weights[13:])) == pytest.approx(MOST_BITS)


@given(
    clicks=st.lists(st.tuples(st.sampled_from("xy"), st.sampled_from("ab"), st.integers(0, 30)), min_size=1),
    half_life=st.floats(0.5, 60),
)
def test_weights_and_their_mean_are_those_of_plain_arithmetic(
    clicks: list[tuple[str, str, int]], half_life: float
) -> None:
    log = [_click(n, query, id_, days=days) for n, (query, id_, days) in enumerate(clicks)]
    params = FineTuningParams(half_life_days=half_life, repeated_clicks="log")
    weigh = PairedFineTuningInputsDataset(log).click_weights(params)
    counts, newest = Counter((query, id_) for query, id_, _ in clicks), min(days for *_, days in clicks)
    expected = [
        0.5 ** ((days - newest) / half_life) * min(6, math.log2(1 + counts[query, id_])) / counts[query, id_]
        for query, id_, days in clicks
    ]
    assert weigh is not None
    assert [weigh(session)[0] for session in log] == pytest.approx(expected)
    assert weigh.mean == pytest.approx(sum(expected) / len(expected))


def test_a_training_follows_the_new_clicks_and_is_measured_on_all_alike(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, tmp_path: Path
) -> None:
    """Of "shoe", nine old clicks say red and three new ones green; the same sessions serve two trainings."""
    log = [_click(n, "shoe", "r", days=60) for n in range(9)] + [_click(n, "shoe", "g") for n in range(9, 12)]
    settings = FineTuningSettings(num_epochs=8, batch_size=4, devices="cpu", augmented_share=0)
    start = {name: it.clone() for name, it in tiny_model.state_dict().items()}
    train, retriever, splits = PairedFineTuningInputsDataset(log), TextQueryRetriever(), {"train": items, "test": items}
    nearest = {}
    for half_life, held_out in ((7.0, log[9:]), (None, log[:9])):
        tiny_model.load_state_dict(start)
        params = FineTuningParams(items_lr=0.1, half_life_days=half_life)
        unweighted = validation_loss(tiny_model, held_out, items, retriever, CatalogueSoftmaxLoss(), params).mean
        tuner = EmbeddingsFineTuner.create(tiny_model, settings, splits, retriever, params)
        history = fit(tuner, train, PairedFineTuningInputsDataset(held_out), settings, tmp_path, patience=9)
        assert history.start_val_loss == pytest.approx(unweighted)
        near = tiny_model.encode_queries(["shoe"]) @ tiny_model.encode_items(["red", "green"]).T
        nearest[half_life] = ["red", "green"][near.argmax()]
    assert nearest == {7.0: "green", None: "red"}
