"""Embedding models: the interface the fine-tuner trains, the static adapter, and loading either from a folder."""

from __future__ import annotations

from embft.finetuning.models.interface import EmbeddingsModelInterface
from embft.finetuning.models.loading import load_model
from embft.finetuning.models.static import StaticEmbeddingsModel

__all__ = ["EmbeddingsModelInterface", "StaticEmbeddingsModel", "load_model"]
