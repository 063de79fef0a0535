"""Transformers of a few thousand weights, built at random in the test: no download, and a step takes milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["red", "green", "blue", "shoe", "hat", "query:", "passage:", "a", "photo", "of"]


def make_tokenizer(words: Sequence[str] = WORDS) -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    named = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, mask_token="[MASK]", **named)


def tiny_bert(
    folder: Path,
    *,
    layers: int = 2,
    dim: int = 32,
    seed: int = 0,
    pooling: Any = "mean",
    words: Sequence[str] = WORDS,
    **options: Any,
) -> SentenceTransformer:
    """A BERT with a mean over tokens; what lies in `folder` is the transformer alone."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(SPECIAL) + len(words),
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * dim,
        max_position_embeddings=64,
        pad_token_id=0,
        initializer_range=0.3,  # at 0.02 all texts would lie within 1e-3 of each other
    )
    return around(BertModel(config), folder, pooling=pooling, words=words, **options)


def around(
    transformer: PreTrainedModel, folder: Path, *, pooling: Any = "mean", words: Sequence[str] = WORDS, **options: Any
) -> SentenceTransformer:
    """Any transformer with a pooling; what lies in `folder` is the transformer alone."""
    transformer.save_pretrained(folder)
    make_tokenizer(words).save_pretrained(folder)
    pool = Pooling(transformer.config.hidden_size, pooling, include_prompt=options.pop("include_prompt", True))
    return SentenceTransformer(modules=[Transformer(str(folder)), pool], device="cpu", **options)


def tiny_clip(folder: Path) -> SentenceTransformer:
    """A CLIP of 32 x 32 pixels."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    part = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "initializer_factor": 10.0,
    }
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 64, "bos_token_id": 2, "eos_token_id": 3}
    config = CLIPConfig(
        text_config=part | text,
        vision_config=part | {"image_size": 32, "patch_size": 16},
        projection_dim=16,
        initializer_factor=10.0,
    )
    CLIPModel(config).save_pretrained(folder)
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return SentenceTransformer(modules=[Transformer(str(folder))], device="cpu")
