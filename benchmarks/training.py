"""Training by embft's public door, as a notebook would: `EmbeddingsFineTuner.create` and `fit`."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import embft
from benchmarks.clicks import Click, Collection, sessions_of

SOURCES = {"static": "wordllama", "minilm": "minilm"}


def load(model_name: str) -> embft.EmbeddingsModelInterface:
    """Load a model of `SOURCES`, not trained."""
    return embft.load_model(SOURCES[model_name])


class Trained(NamedTuple):
    """A training that is done."""

    tuner: embft.EmbeddingsFineTuner
    validation: embft.PairedFineTuningInputsDataset
    settings: embft.FineTuningSettings


def train_embft(model_name: str, collection: Collection, **options: Any) -> embft.EmbeddingsModelInterface:
    """Train a model; see `trained`, whose arguments it takes, and give it with its best weights."""
    return trained(model_name, collection, **options).tuner.model


def trained(
    model_name: str,
    collection: Collection,
    *,
    train: Sequence[Click],
    validation: Sequence[Click],
    n_negatives: int,
    lr: float | None,
    start: embft.EmbeddingsModelInterface | None = None,
    params: Mapping[str, Any] = MappingProxyType({}),
    make_tuner: Callable[..., embft.EmbeddingsFineTuner] = embft.EmbeddingsFineTuner.create,
    max_seconds: float | None = None,
    **settings: Any,
) -> Trained:
    """Train a model, with early stopping on the validation clicks.

    Args:
        model_name: Of `SOURCES`.
        collection: Where the clicks are from.
        train: Clicks to learn from.
        validation: Clicks that pick the best epoch.
        n_negatives: Not-clicked items drawn for each click; 0 for a loss over the batch's own items.
        lr: Learning rate; None takes what suits the model.
        start: What to train, in place; None loads the model.
        params: Further ones of `FineTuningParams`.
        make_tuner: As `EmbeddingsFineTuner.create`.
        max_seconds: After which training ends with a last validation; None sets no limit.
        settings: Of `FineTuningSettings`.

    Returns:
        The training; its model has its best weights.
    """
    fixed = embft.FineTuningSettings(metric_calculators=(), devices="cpu", **settings)
    learned, held_out = (
        sessions_of(clicks, collection, n_negatives=n_negatives, seed=fixed.seed) for clicks in (train, validation)
    )
    parts = [
        embft.PairedFineTuningInputsDataset(learned, fixed.seed),
        embft.PairedFineTuningInputsDataset(held_out, fixed.seed, clicks_of=learned),
    ]
    model = start or load(model_name)
    items_sets = {"train": collection.items, "test": collection.items}
    chosen = embft.FineTuningParams(query_lr=lr, items_lr=lr, **params)
    tuner = make_tuner(model, fixed, items_sets, embft.TextQueryRetriever(), chosen)
    with tempfile.TemporaryDirectory() as folder:
        limit: dict[str, Any] = {} if max_seconds is None else {"max_seconds": max_seconds}
        embft.fit(tuner, *parts, fixed, Path(folder), **limit)
    return Trained(tuner, parts[1], fixed)


def embft_scores(model: embft.EmbeddingsModelInterface, collection: Collection) -> NDArray[np.float32]:
    """Cosines of an embft model, float32 [queries, items]."""
    evaluation = collection.evaluation
    return model.encode_queries(evaluation.queries) @ model.encode_items(evaluation.item_texts).T
