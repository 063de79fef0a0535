"""Load a model by its source: a name for weights that come with a package, or a folder."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from embft.errors import ConfigError
from embft.finetuning.models.interface import EmbeddingsModelInterface
from embft.finetuning.models.static import StaticEmbeddingsModel


def load_model(source: str | Path) -> EmbeddingsModelInterface:
    """Load a model to train, evaluate or serve. Reads safetensors and JSON only; no network, no code from data.

    Args:
        source: "wordllama" (the 256-d static model that the PyPI package of this name carries, MIT), or a folder
            in the layout of SentenceTransformer.

    Returns:
        The model, on the CPU, every layer free.

    Raises:
        ConfigError: There is no such folder or package, a file is missing or broken, or the architecture is not
            supported.
    """
    if source == "wordllama":
        return _load_wordllama()
    folder = Path(source)
    if not (folder / "modules.json").is_file():
        raise ConfigError(
            f"model source {str(source)!r} has no modules.json; "
            'give "wordllama" or a folder in the layout of SentenceTransformer'
        )
    architecture = [module["type"].rsplit(".", 1)[-1] for module in _read_json(folder / "modules.json")]
    # An adapter for any other SentenceTransformer joins here.
    if architecture in (["StaticEmbedding"], ["StaticEmbedding", "Normalize"]):
        return _load_static(folder)
    raise ConfigError(
        f"the model in {str(folder)!r} is made of {architecture}; only static embedding models "
        "(StaticEmbedding, with or without Normalize) are supported"
    )


def _load_wordllama() -> StaticEmbeddingsModel:
    # find_spec: importing the package would run its set-up, which looks for the network.
    spec = find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise ConfigError('model source "wordllama" needs the package of this name: pip install wordllama')
    package = Path(spec.origin).parent
    return StaticEmbeddingsModel(
        _read_tokenizer(package / "tokenizers" / "l2_supercat_tokenizer_config.json"),
        _read_weights(package / "weights" / "l2_supercat_256.safetensors")["embedding.weight"],
    )


def _load_static(folder: Path) -> StaticEmbeddingsModel:
    config_path = folder / "config_sentence_transformers.json"
    prompts = (_read_json(config_path).get("prompts") or {}) if config_path.is_file() else {}
    weights = _read_weights(folder / "model.safetensors")
    table = weights.get("embedding.weight", weights.get("embeddings"))
    if table is None or weights.keys() & {"mapping", "weights"}:
        raise ConfigError(
            f"model.safetensors in {str(folder)!r} holds {sorted(weights)}; a static model holds `embedding.weight` "
            "alone: save it once with sentence-transformers"
        )
    return StaticEmbeddingsModel(
        _read_tokenizer(folder / "tokenizer.json"),
        table,
        query_prompt=prompts.get("query", ""),
        item_prompt=prompts.get("document", prompts.get("passage", "")),
    )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{str(path)!r} is not JSON: {error}; the folder of the model is broken") from error


def _read_tokenizer(path: Path) -> Tokenizer:
    # `tokenizers` raises bare Exception for a missing file as for a broken one.
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        raise ConfigError(
            f"cannot read the tokenizer {str(path)!r}: {error}; the folder of the model is broken"
        ) from error


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"cannot read the weights {str(path)!r}: {error}; the folder of the model is broken"
        ) from error
