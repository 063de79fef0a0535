"""Embedding models: the interface the fine-tuner trains, its adapters, and loading a model by its source."""

from __future__ import annotations

from embft.finetuning.models.interface import EmbeddingsModelInterface
from embft.finetuning.models.loading import load_model
from embft.finetuning.models.static import StaticEmbeddingsModel
from embft.finetuning.models.text_image import TextImageModel
from embft.finetuning.models.transformer import SentenceTransformerModel

__all__ = [
    "EmbeddingsModelInterface",
    "SentenceTransformerModel",
    "StaticEmbeddingsModel",
    "TextImageModel",
    "load_model",
]
