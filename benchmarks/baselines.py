"""What a team would use without embft: BM25, the items most clicked for a query, and sentence-transformers' Trainer."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.clicks import Click, Collection

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def bm25_scores(collection: Collection) -> NDArray[np.float32]:
    """Score by bm25s at its defaults (Lucene's BM25, k1 1.5, b 0.75, English stop words), float32 [queries, items]."""
    import bm25s

    evaluation = collection.evaluation
    retriever = bm25s.BM25()
    retriever.index(bm25s.tokenize(evaluation.item_texts, show_progress=False), show_progress=False)
    tokens = bm25s.tokenize(evaluation.queries, return_ids=False, show_progress=False)
    known = [[token for token in query if token in retriever.vocab_dict] for query in tokens]
    nothing = np.zeros(len(evaluation.item_ids), np.float32)
    return np.stack([retriever.get_scores(query) if query else nothing for query in known])


def most_clicked_scores(collection: Collection, otherwise: NDArray[np.floating] | None = None) -> NDArray[np.float64]:
    """Score by the train clicks of the very query, then by other scores.

    Args:
        collection: Its train and validation clicks are counted.
        otherwise: Float [queries, items], the order of items with equally many clicks; None takes BM25's.

    Returns:
        float64 [queries, items].
    """
    evaluation = collection.evaluation
    counts = Counter((click.query, click.item) for click in [*collection.train, *collection.validation])
    clicks = np.array([[counts[query, item] for item in evaluation.item_ids] for query in evaluation.queries])
    rest = np.asarray(bm25_scores(collection) if otherwise is None else otherwise, np.float64)
    # Into [0, 1): less than a click.
    return clicks + (rest - rest.min()) / (1 + rest.max() - rest.min())


def train_sentence_transformer(
    folder: Path,
    clicks: Sequence[Click],
    collection: Collection,
    *,
    lr: float | None,
    seed: int,
    callbacks: Sequence[Any] = (),
    **arguments: Any,
) -> SentenceTransformer:
    """Train by sentence-transformers' Trainer with MultipleNegativesRankingLoss: one epoch in batches of 64.

    Args:
        folder: Of the model to start from.
        clicks: One pair of texts each.
        collection: Its items' texts.
        lr: Learning rate; None leaves the Trainer's default.
        seed: Of the order.
        callbacks: Of the Trainer.
        arguments: Further ones of the Trainer, in place of what is said here.

    Returns:
        The trained model.
    """
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    model = SentenceTransformer(str(folder), device="cpu")
    pairs = {
        "anchor": [click.query for click in clicks],
        "positive": collection.items.items_by_ids(click.item for click in clicks),
    }
    rate = {} if lr is None else {"learning_rate": lr}
    quiet = {"save_strategy": "no", "logging_strategy": "no", "report_to": "none", "disable_tqdm": True}
    fixed = {"per_device_train_batch_size": 64, "num_train_epochs": 1, "use_cpu": True, "dataloader_pin_memory": False}
    # The Trainer prints its summary to stdout, which is the figures' place.
    with tempfile.TemporaryDirectory() as output, contextlib.redirect_stdout(sys.stderr):
        settings = SentenceTransformerTrainingArguments(output, seed=seed, **{**quiet, **fixed, **rate, **arguments})
        loss = MultipleNegativesRankingLoss(model)
        dataset = Dataset.from_dict(pairs)
        SentenceTransformerTrainer(model, settings, train_dataset=dataset, loss=loss, callbacks=list(callbacks)).train()
    return model


def sentence_transformer_scores(model: SentenceTransformer, collection: Collection) -> NDArray[np.float32]:
    """Cosines of a SentenceTransformer, float32 [queries, items]."""
    evaluation = collection.evaluation
    encode = {"batch_size": 256, "normalize_embeddings": True, "show_progress_bar": False}
    return model.encode(evaluation.queries, **encode) @ model.encode(evaluation.item_texts, **encode).T
