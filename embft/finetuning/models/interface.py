"""`EmbeddingsModelInterface`: a query tower and an item tower, which may be one shared model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embft.errors import ConfigError
from embft.finetuning.parts import Item
from embft.finetuning.threads import cpu_threads


class EmbeddingsModelInterface(nn.Module, ABC):
    """What the fine-tuner needs of a model: texts in, unit-length vectors out, layers that can be frozen.

    Prompts (e5's `query: `, instructions) belong to the model: `forward_query` and `forward_items` put them before
    the text, `save` keeps them, and so training, evaluation and serving treat a text alike.
    """

    query_prompt: str
    item_prompt: str
    suggested_lr: float
    """Learning rate that suits this kind of model; taken where `FineTuningParams` give none."""
    suggested_candidates: int = 512
    """Items that suit this kind of model for a step's comparison by `catalogue_softmax`."""
    candidates_learn: bool = True
    """Whether items that no session of the batch showed get gradients too: they cost three times as much then."""
    n_cpu_threads: int | None = None
    """Threads that suit this model on a CPU; None leaves the choice to torch. See `embft.finetuning.threads`."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Length of a vector."""

    @property
    @abstractmethod
    def is_same_query_and_items(self) -> bool:
        """Whether both towers are one model; then one optimiser trains it, with the item tower's settings."""

    @property
    @abstractmethod
    def is_named_inputs(self) -> bool:
        """Whether a tower takes its tensors by name (`input_ids=…`, as transformers do) or by place.

        For code that feeds or exports a tower itself; `forward_query` and `forward_items` take texts either way.
        """

    @property
    @abstractmethod
    def num_layers(self) -> int:
        """How many layers a tower has: the most that `fix_layers` can freeze."""

    @abstractmethod
    def forward_query(self, texts: Sequence[str]) -> Tensor:
        """Unit-length vectors of queries with gradients, float [texts, dim]; texts come without the prompt."""

    @abstractmethod
    def forward_items(self, items: Sequence[Item]) -> Tensor:
        """Unit-length vectors of items with gradients, float [items, dim]; texts come without the prompt."""

    @abstractmethod
    def query_parameters(self) -> list[nn.Parameter]:
        """Parameters of the query tower, frozen ones included."""

    @abstractmethod
    def item_parameters(self) -> list[nn.Parameter]:
        """Parameters of the item tower, frozen ones included."""

    @abstractmethod
    def layer_parameters(self) -> list[list[nn.Parameter]]:
        """Parameters of each layer of both towers, from the input on; `num_layers` lists."""

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write weights as safetensors, tokenizer and prompts, so that `load_model(folder)` gives this model."""

    def set_sparse_gradients(self, wanted: bool) -> bool:
        """Ask for gradients that hold only the rows a batch touched.

        Args:
            wanted: False where the optimiser needs dense gradients (weight decay touches every row).

        Returns:
            Whether gradients are sparse from now on; a model without a big table of rows stays dense.
        """
        return False

    def fix_layers(self, count: int) -> None:
        """Freeze the first layers of each tower and free the others.

        Args:
            count: How many, 0 to `num_layers`; 0 frees all.

        Raises:
            ConfigError: `count` is out of range.
        """
        if not 0 <= count <= self.num_layers:
            raise ConfigError(
                f"num_fixed_layers is {count}; {type(self).__name__} has {self.num_layers} layer(s), "
                f"so it must be 0 to {self.num_layers}: change it in `fine_tuning_params`"
            )
        for index, parameters in enumerate(self.layer_parameters()):
            for parameter in parameters:
                parameter.requires_grad_(index >= count)

    def unfix(self) -> None:
        """Free every layer."""
        self.fix_layers(0)

    def encode_queries(self, texts: Sequence[str], chunk_size: int = 1024) -> NDArray[np.float32]:
        """Vectors of queries, without gradients; each distinct text is encoded once.

        Args:
            texts: Queries without the prompt; repeats are cheap.
            chunk_size: Texts per forward pass; texts of like length share a pass.

        Returns:
            Unit-length vectors, float32 [texts, dim]; a text without a known token gives zeros.
        """
        return self._encode(self.forward_query, texts, chunk_size)

    def encode_items(self, items: Sequence[Item], chunk_size: int = 1024) -> NDArray[np.float32]:
        """Vectors of items; see `encode_queries`.

        Args:
            items: Items without the prompt; repeats are cheap.
            chunk_size: Items per forward pass; texts of like length share a pass.

        Returns:
            Unit-length vectors, float32 [items, dim]; a text without a known token gives zeros.
        """
        return self._encode(self.forward_items, items, chunk_size)

    def _encode(
        self, forward: Callable[[Sequence[Any]], Tensor], inputs: Sequence[Any], chunk_size: int
    ) -> NDArray[np.float32]:
        if chunk_size < 1:
            raise ConfigError(f"chunk_size is {chunk_size}; it must be 1 text or more")
        distinct = list({_key(it): it for it in inputs}.values())
        if all(isinstance(it, str) for it in distinct):
            distinct.sort(key=lambda text: (len(text), text))
        row_of = {_key(it): row for row, it in enumerate(distinct)}
        vectors = np.zeros((len(distinct), self.dim), dtype=np.float32)
        was_training = self.training
        self.eval()
        try:
            with torch.inference_mode(), cpu_threads(self.n_cpu_threads):
                for start in range(0, len(distinct), chunk_size):
                    chunk = distinct[start : start + chunk_size]
                    vectors[start : start + len(chunk)] = forward(chunk).float().cpu().numpy()
        finally:
            self.train(was_training)
        return vectors[[row_of[_key(it)] for it in inputs]]


def _key(item: Item) -> Hashable:
    """What tells items apart: their value, or, for those that cannot be hashed as PIL's images, which object it is."""
    return item if isinstance(item, Hashable) else id(item)
