"""Training by embft's public door, as a notebook would: `EmbeddingsFineTuner.create` and `fit`."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import embft
from benchmarks.clicks import Click, Collection, sessions_of

SOURCES = {"static": "wordllama", "minilm": "minilm"}


def load(model_name: str) -> embft.EmbeddingsModelInterface:
    """Load a model of `SOURCES`, not trained."""
    return embft.load_model(SOURCES[model_name])


def train_embft(
    model_name: str,
    collection: Collection,
    *,
    train: Sequence[Click],
    validation: Sequence[Click],
    n_negatives: int,
    lr: float | None,
    max_seconds: float | None = None,
    **settings: Any,
) -> embft.EmbeddingsModelInterface:
    """Train a model, with early stopping on the validation clicks.

    Args:
        model_name: Of `SOURCES`.
        collection: Where the clicks are from.
        train: Clicks to learn from.
        validation: Clicks that pick the best epoch.
        n_negatives: Not-clicked items drawn for each click; 0 for a loss over the batch's own items.
        lr: Learning rate; None takes what suits the model.
        max_seconds: After which training ends with a last validation; None sets no limit.
        settings: Of `FineTuningSettings`.

    Returns:
        The model with its best weights.
    """
    fixed = embft.FineTuningSettings(metric_calculators=(), devices="cpu", **settings)
    learned, held_out = (
        sessions_of(clicks, collection, n_negatives=n_negatives, seed=fixed.seed) for clicks in (train, validation)
    )
    parts = [
        embft.PairedFineTuningInputsDataset(learned, fixed.seed),
        embft.PairedFineTuningInputsDataset(held_out, fixed.seed, clicks_of=learned),
    ]
    model = load(model_name)
    items_sets = {"train": collection.items, "test": collection.items}
    params = embft.FineTuningParams(query_lr=lr, items_lr=lr)
    tuner = embft.EmbeddingsFineTuner.create(model, fixed, items_sets, embft.TextQueryRetriever(), params)
    with tempfile.TemporaryDirectory() as folder:
        limit: dict[str, Any] = {} if max_seconds is None else {"max_seconds": max_seconds}
        embft.fit(tuner, *parts, fixed, Path(folder), **limit)
    return model


def embft_scores(model: embft.EmbeddingsModelInterface, collection: Collection) -> NDArray[np.float32]:
    """Cosines of an embft model, float32 [queries, items]."""
    evaluation = collection.evaluation
    return model.encode_queries(evaluation.queries) @ model.encode_items(evaluation.item_texts).T
