"""A model of six words whose right ranking is obvious, and a catalogue that uses them."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.items import ItemsSet
from embft.finetuning.models import StaticEmbeddingsModel

WORDS = ["[UNK]", "red", "green", "blue", "shoe", "hat", "query:"]


def make_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


@pytest.fixture
def tiny_model() -> StaticEmbeddingsModel:
    """Each word points along an axis of its own: the cosine of two texts is their overlap."""
    return StaticEmbeddingsModel(make_tokenizer(), torch.eye(len(WORDS)))


@pytest.fixture
def items() -> ItemsSet:
    return ItemsSet(["r", "g", "b", "rs", "gh"], ["red", "green", "blue", "red shoe", "green hat"])


@pytest.fixture
def sessions() -> list[FineTuningInput]:
    """Who searches a shoe wants the green one: the model as it is finds `rs` nearest."""
    return [
        FineTuningInput("s1", "shoe", events=["gh"], results=["rs", "gh", "b"]),
        FineTuningInput("s2", "hat", events=["r"], results=["gh", "r"]),
        FineTuningInput("s3", "red", events=["g", "b"], results=["r", "g", "b", "rs"]),
        FineTuningInput("s4", "blue", events=[], results=["b", "rs"]),
    ]
