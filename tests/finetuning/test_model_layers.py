"""What the layers of a transformer are, where more than embeddings and blocks make a vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    DebertaV2Config,
    DebertaV2Model,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedModel,
)

from embft import SentenceTransformerModel
from embft.errors import ConfigError
from tests.finetuning.tiny_models import around, tiny_bert

SIZES: dict[str, Any] = {
    "vocab_size": 16,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 80,
    "pad_token_id": 0,
}
RELATIVE: dict[str, Any] = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm",
    "position_buckets": 8,
}
TEXTS = ["red green hat shoe blue"]


def mpnet() -> PreTrainedModel:
    return MPNetModel(MPNetConfig(**SIZES))


def deberta() -> PreTrainedModel:
    return DebertaV2Model(DebertaV2Config(**SIZES, **RELATIVE))


def modern_bert() -> PreTrainedModel:
    return ModernBertModel(ModernBertConfig(**SIZES))


@pytest.mark.parametrize("transformer", [mpnet, deberta])
def test_what_every_block_uses_is_frozen_with_the_first_layer(transformer: Any, tmp_path: Path) -> None:
    model = SentenceTransformerModel(around(transformer(), tmp_path))
    model.fix_layers(1)
    stands = model.encode_items(TEXTS)
    free = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert free
    assert all(".encoder.layer.1." in name for name in free)
    model.fix_layers(2)
    assert not [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    model.unfix()
    optimizer = torch.optim.Adam(model.layer_parameters()[0], lr=0.5)
    model.forward_items(TEXTS)[:, :3].sum().backward()
    optimizer.step()
    assert np.abs(model.encode_items(TEXTS) - stands).max() > 1e-3


def test_a_norm_after_the_stack_is_of_no_layer(tmp_path: Path) -> None:
    model = SentenceTransformerModel(around(modern_bert(), tmp_path))
    model.fix_layers(2)
    free = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert free == ["model.0.model.final_norm.weight"]


def test_vectors_that_are_cut_off_are_refused(tmp_path: Path) -> None:
    # sentence-transformers cuts them after Normalize: there they are shorter than 1, here every vector has length 1.
    cut, whole = tiny_bert(tmp_path / "cut", truncate_dim=8), tiny_bert(tmp_path / "whole", truncate_dim=32)
    assert SentenceTransformerModel(whole).dim == 32
    for build in (
        lambda: SentenceTransformerModel(cut),
        lambda: SentenceTransformerModel.from_towers(whole, cut),
        lambda: SentenceTransformerModel.from_towers(cut, whole),
    ):
        with pytest.raises(ConfigError, match="truncate_dim is 8, and its vectors have 32 numbers"):
            build()
