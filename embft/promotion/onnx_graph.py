"""A model as ONNX graphs: padded token ids go in, unit-length vectors come out."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from embft.errors import ConfigError
from embft.finetuning.models import EmbeddingsModelInterface, StaticEmbeddingsModel, TextImageModel
from embft.finetuning.models.towers import Tower, find_towers
from embft.finetuning.models.transformer import SentenceTransformerModel

OUTPUT = "sentence_embedding"
# One file of protobuf holds 2 GiB at most; the weights of a bigger model lie beside it.
_MOST_BYTES_IN_ONE_FILE = 1_900_000_000
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_PADDED = _INPUTS[:2]
_FOLDER_INSTEAD = "export it by `--to folder`"


class Encoder(NamedTuple):
    """One tower as a server runs it: prompt + text → tokenizer → graph.

    Args:
        prompt: Put before every text.
        tokenizer: Content of a tokenizer.json that truncates, pads and adds special tokens as the model wants it.
        inputs: Names of the graph's inputs, int64 [batch, tokens] each.
        graph: Takes the inputs by place; gives float32 [batch, dim].
    """

    prompt: str
    tokenizer: str
    inputs: tuple[str, ...]
    graph: _Graph

    def write(self, path: Path) -> None:
        """Write the graph.

        Args:
            path: The file; weights beyond 1.9 GB lie in a second one beside it.

        Raises:
            ConfigError: torch cannot write this model as one graph.
        """
        size = sum(it.numel() * it.element_size() for it in self.graph.parameters())
        # A tensor for each: the exporter takes one object that is given twice for one input.
        example = tuple(torch.full((2, 3), int(name == "attention_mask")) for name in self.inputs)
        axes = {0: "batch", 1: "tokens"}
        try:
            with _quiet(), _plain_attention(self.graph):
                program = torch.onnx.export(
                    self.graph,
                    example,
                    input_names=list(self.inputs),
                    output_names=[OUTPUT],
                    dynamic_shapes=((axes,) * len(self.inputs),),
                    dynamo=True,
                    verbose=False,
                )
                assert program is not None
                program.save(str(path), external_data=size > _MOST_BYTES_IN_ONE_FILE)
        except Exception as error:  # each architecture fails in a way of its own
            cause = error.__cause__ or error  # the exporter's own text tells how to file a bug of torch
            problem = " ".join(str(cause).split())[:300]
            raise ConfigError(
                f"torch cannot write this model as one ONNX graph: {type(cause).__name__}: {problem}; {_FOLDER_INSTEAD}"
            ) from error


class Encoders(NamedTuple):
    """Both towers; where one graph does for both, it is the same object."""

    queries: Encoder
    items: Encoder


def encoders_of(model: EmbeddingsModelInterface) -> Encoders:
    """Split a model into what a server runs for queries and for items.

    Args:
        model: A static model, or a SentenceTransformer whose towers begin with a transformer or a static table; it is
            put into evaluation mode.

    Returns:
        The encoders, which share the model's weights.

    Raises:
        ConfigError: Its items are images, or its texts reach it by more than a tokenizer.
    """
    model.eval()
    if isinstance(model, StaticEmbeddingsModel):
        graph = _Graph([_MeanOfTokens(model.embedding.weight)], _PADDED, 0)
        tokenizer = _without_special_tokens(model.tokenizer)
        return Encoders(*(Encoder(it, tokenizer, _PADDED, graph) for it in (model.query_prompt, model.item_prompt)))
    if isinstance(model, TextImageModel) or not isinstance(model, SentenceTransformerModel):
        raise ConfigError(
            f"a {type(model).__name__} cannot be exported to ONNX: only texts can be, as queries and as items; "
            f"{_FOLDER_INSTEAD}"
        )
    towers = find_towers(model.model)
    queries = _encoder(towers.query, model.query_prompt, "query")
    items = _encoder(towers.items, model.item_prompt, "document")
    if towers.query == towers.items and queries.graph.n_skipped == items.graph.n_skipped:
        items = items._replace(graph=queries.graph)
    return Encoders(queries, items)


def _encoder(tower: Tower, prompt: str, task: str) -> Encoder:
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding

    reader, *rest = tower
    if isinstance(reader, StaticEmbedding):
        graph = _Graph([_MeanOfTokens(reader.embedding.weight), *rest], _PADDED, 0)
        return Encoder(prompt, _without_special_tokens(reader.tokenizer), _PADDED, graph)
    backend = getattr(getattr(reader, "tokenizer", None), "backend_tokenizer", None)
    if not isinstance(reader, Transformer) or backend is None or "message" in reader.modality_config:
        raise ConfigError(
            f"the texts of this model reach its {type(reader).__name__} by more than a tokenizer.json: by a chat "
            f"template, or a tokenizer of another kind, which a server of ONNX does not run; {_FOLDER_INSTEAD}"
        )
    # The call leaves in the tokenizer how it truncated and padded, and tells which inputs the transformer takes.
    features = reader.preprocess(["a text", "another text"], prompt=prompt, task=task)
    inputs = tuple(name for name, value in features.items() if isinstance(value, Tensor))
    if not set(inputs) <= set(_INPUTS):
        raise ConfigError(
            f"this model takes {', '.join(inputs)}; in ONNX, only {', '.join(_INPUTS)}; {_FOLDER_INSTEAD}"
        )
    skips = any(isinstance(module, Pooling) and not module.include_prompt for module in rest)
    graph = _Graph(tower, inputs, int(features.get("prompt_length") or 0) if skips else 0)
    return Encoder(prompt, backend.to_str(), inputs, graph)


def _without_special_tokens(tokenizer: Tokenizer) -> str:
    """Content of a tokenizer.json that pads, and adds no special token whoever calls it: a static model has none."""
    content = json.loads(tokenizer.to_str())
    content["post_processor"] = content["truncation"] = None
    content["padding"] = {
        "strategy": "BatchLongest",
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    return json.dumps(content, ensure_ascii=False)


class _Graph(nn.Module):
    """A tower that takes its inputs by place.

    Args:
        tower: Modules that add to a dict of features.
        inputs: Names of the inputs.
        n_skipped: First tokens that pooling leaves out: a prompt's, where the model wants it so.
    """

    def __init__(self, tower: Sequence[nn.Module], inputs: tuple[str, ...], n_skipped: int) -> None:
        super().__init__()
        self.tower = nn.ModuleList(tower)
        self.inputs = inputs
        self.n_skipped = n_skipped

    def forward(self, *tensors: Tensor) -> Tensor:
        """Unit-length vectors, float32 [batch, dim]."""
        reader, *rest = self.tower
        features = reader(dict(zip(self.inputs, tensors, strict=True)))
        if self.n_skipped:
            # As Pooling does it, but for a branch on the padding that no graph can hold.
            mask = features["attention_mask"]
            first = mask.to(torch.int32).argmax(dim=1, keepdim=True)
            kept = torch.arange(mask.shape[1], device=mask.device) >= first + self.n_skipped
            features["attention_mask"] = mask * kept
        for module in rest:
            features = module(features)
        return nn.functional.normalize(features[OUTPUT].float(), dim=1)


class _MeanOfTokens(nn.Module):
    """Mean of token vectors, padding left out; zeros where there is no token."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add the mean to `input_ids` and `attention_mask`."""
        mask = features["attention_mask"].unsqueeze(2).to(self.weight.dtype)
        total = (nn.functional.embedding(features["input_ids"], self.weight) * mask).sum(dim=1)
        return {**features, OUTPUT: total / mask.sum(dim=1).clamp(min=1)}


@contextmanager
def _plain_attention(graph: nn.Module) -> Iterator[None]:
    """Let transformers write attention out in the block: the fused form of T5's has shapes that torch cannot export."""
    from transformers import PreTrainedModel

    models = {it: it.config._attn_implementation for it in graph.modules() if isinstance(it, PreTrainedModel)}
    for model in models:
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        for model, implementation in models.items():
            model.set_attn_implementation(implementation)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter says of itself (torchvision is not installed, nodes removed …) off the screen."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [it.level for it in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
