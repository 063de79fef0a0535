"""`SentenceTransformerModel`: any model of sentence-transformers as a model that the fine-tuner trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from embft.errors import ConfigError
from embft.finetuning.models.interface import EmbeddingsModelInterface
from embft.finetuning.models.settings import ITEM_PROMPT_NAMES, item_prompt_of
from embft.finetuning.models.towers import Towers, dim_of, find_towers, freeze_unused_poolers, layers_of, parameters_of
from embft.finetuning.parts import Item

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Most inputs of a pass, and most characters, padding counted. Forward and backward of MiniLM over 112 short texts and
# 16 of 42 to 170 tokens took 2.8 s of CPU so, and 25 s in one pass, where each text is padded to the longest.
# `n_cpu_threads` leaves torch its choice. Where another process has some of the cores, set OMP_NUM_THREADS=1: threads
# that wait for each other took 14 s for what two free cores did in 1.7 s.
_PASS_ON_CPU = (64, 4096)
# A GPU is not filled by so few; not measured.
_PASS_ELSEWHERE = (256, 65536)


class SentenceTransformerModel(EmbeddingsModelInterface):
    """A SentenceTransformer, with one tower for queries and items or with two.

    Two towers are a model whose first module is a `Router` with the routes "query" and "document", which is how
    sentence-transformers itself keeps them: `encode_query` and `encode_document` of a plain SentenceTransformer give
    the vectors that were trained. Modules behind the router belong to both; what both towers use is trained once,
    with the item tower's settings. Of towers with different depths the first layers count, as many as the shallower
    tower has.

    Args:
        model: Changed in place: weights become float32 (a step of Adam is lost in bfloat16; for speed on a GPU set
            `precision`), it gets a `Normalize` at its end where it has none, its item prompt is kept under "document"
            too, and dropout is on outside `encode_queries`, `encode_items` and `eval()`.

    Raises:
        ConfigError: The towers' vectors differ in length, the model cuts them off, or the router has other routes.
    """

    suggested_lr = 1e-4
    suggested_candidates = 128
    # As stand-ins for the catalogue they teach the queries; in a third of the time, so that there are more steps.
    candidates_learn = False

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        from sentence_transformers.base.modules import Normalize

        if not isinstance(list(model.children())[-1], Normalize):
            model.append(Normalize())
        self.model = model.float()
        towers = self._towers()
        self._dim = self._common_dim(towers)
        freeze_unused_poolers([*towers.query, *towers.items])
        self.item_prompt = item_prompt_of(model.prompts)
        self.query_prompt = model.prompts.get("query") or ""
        # transformers loads in evaluation mode, the modules around it come in training mode: Lightning would keep both.
        self.train()

    @classmethod
    def from_towers(cls, query: SentenceTransformer, items: SentenceTransformer) -> SentenceTransformerModel:
        """Join two models to one with separate towers.

        Args:
            query: Encodes queries; its query prompt is kept.
            items: Encodes items; its item prompt is kept.

        Returns:
            The model, which shares the modules of both.

        Raises:
            ConfigError: Both are one object, one cuts its vectors off, or their vectors differ in length.
        """
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.base.modules import Router

        if query is items:
            raise ConfigError(
                "query and items are one model; load it twice for two, or share it by SentenceTransformerModel(model)"
            )
        for model in (query, items):
            dim_of(tuple(model.children()), model.truncate_dim)
        item_prompts = {name: prompt for name, prompt in items.prompts.items() if name != "query"}
        joined = SentenceTransformer(
            modules=[Router.for_query_document(list(query.children()), list(items.children()))],
            device=str(items.device),
            prompts={**item_prompts, "query": query.prompts.get("query") or ""},
            local_files_only=True,
        )
        return cls(joined)

    @property
    def query_prompt(self) -> str:
        """Put before every query; kept where sentence-transformers looks for it."""
        return str(self.model.prompts["query"])

    @query_prompt.setter
    def query_prompt(self, prompt: str) -> None:
        self.model.prompts["query"] = prompt

    @property
    def item_prompt(self) -> str:
        """Put before every item; kept where sentence-transformers looks for it."""
        return str(self.model.prompts["document"])

    @item_prompt.setter
    def item_prompt(self, prompt: str) -> None:
        others = self.model.prompts.keys() & set(ITEM_PROMPT_NAMES)
        self.model.prompts.update(dict.fromkeys(sorted({"document", *others}), prompt))

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._dim

    @property
    def is_same_query_and_items(self) -> bool:
        """Whether the query tower has no parameter of its own."""
        return not self._query_only()

    @property
    def is_named_inputs(self) -> bool:
        """Always: features go by name through the modules of sentence-transformers."""
        return True

    @property
    def num_layers(self) -> int:
        """Blocks of a tower; of the shallower one where they differ."""
        return len(self.layer_parameters())

    def forward_query(self, texts: Sequence[str]) -> Tensor:
        """Unit-length vectors of queries with gradients, float32 [texts, dim]."""
        return self._forward(texts, [len(text) for text in texts], self._query_input, self.query_prompt, "query")

    def forward_items(self, items: Sequence[Item]) -> Tensor:
        """Unit-length vectors of items with gradients, float32 [items, dim]."""
        lengths = [self._item_length(item) for item in items]
        return self._forward(items, lengths, self._item_input, self.item_prompt, "document")

    def query_parameters(self) -> list[nn.Parameter]:
        """Parameters that only the query tower has; those of the shared tower where there is one."""
        return self._query_only() or self.item_parameters()

    def item_parameters(self) -> list[nn.Parameter]:
        """Parameters of the item tower."""
        return parameters_of(self._towers().items)

    def layer_parameters(self) -> list[list[nn.Parameter]]:
        """Parameters of each layer from the input on; layer i holds the i-th of both towers, embeddings the first."""
        towers = self._towers()
        pairs = zip(layers_of(towers.query), layers_of(towers.items), strict=False)
        return [list(dict.fromkeys([*query, *items])) for query, items in pairs]

    def save(self, folder: str | Path) -> None:
        """Write a folder that `SentenceTransformer(folder)` reads too, with the same vectors.

        Args:
            folder: Made where it does not exist; files of an earlier save are overwritten.
        """
        for module in self.model.modules():
            _forget_use(getattr(module, "tokenizer", None))
        with quiet_progress():
            self.model.save(str(folder), create_model_card=False)

    def _towers(self) -> Towers:
        return find_towers(self.model)

    def _common_dim(self, towers: Towers) -> int:
        query, items = (dim_of(tower, self.model.truncate_dim) for tower in towers)
        if query != items:
            raise ConfigError(
                f"the query tower gives {query} numbers per text and the item tower {items}; towers that are compared "
                "need one length: add a Dense module to one of them"
            )
        return query

    def _query_only(self) -> list[nn.Parameter]:
        items = set(self.item_parameters())
        return [parameter for parameter in parameters_of(self._towers().query) if parameter not in items]

    def _query_input(self, text: str) -> Any:
        return _as_text(text, self._towers().query[0])

    def _item_input(self, item: Item) -> Any:
        return _as_text(item, self._towers().items[0])

    def _item_length(self, item: Item) -> int:
        """Characters that an item counts as when items are put together in passes."""
        return len(item)

    def _forward(
        self, inputs: Sequence[Any], lengths: Sequence[int], as_input: Callable[[Any], Any], prompt: str, task: str
    ) -> Tensor:
        """Vectors in the order of the inputs; each pass is padded to its own longest text only."""
        from sentence_transformers.util import batch_to_device

        device = next(self.parameters()).device
        if not inputs:
            return torch.zeros(0, self.dim, device=device)
        whole = [len(prompt) + length for length in lengths]
        passes = _passes(whole, *(_PASS_ON_CPU if device.type == "cpu" else _PASS_ELSEWHERE))
        parts = []
        for rows in passes:
            chunk = [as_input(inputs[row]) for row in rows]
            features = batch_to_device(self.model.preprocess(chunk, prompt=prompt, task=task), device)
            parts.append(self.model(features, task=task)["sentence_embedding"])
        vectors = torch.cat(parts).float()  # where weights are bfloat16, their length is 1 to two digits only
        back = torch.tensor([row for rows in passes for row in rows], device=device).argsort()
        return nn.functional.normalize(vectors.index_select(0, back), dim=1)


def _passes(lengths: Sequence[int], most_inputs: int, most_characters: int) -> list[list[int]]:
    """Rows of each pass, shortest inputs first; an input longer than a pass may be has one of its own."""
    passes: list[list[int]] = [[]]
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        n_inputs = len(passes[-1]) + 1
        if n_inputs > 1 and (n_inputs > most_inputs or n_inputs * lengths[row] > most_characters):
            passes.append([])
        passes[-1].append(row)
    return passes


def _as_text(text: Any, reader: nn.Module) -> Any:
    """The text, marked as one where the model also reads other kinds: those it would fetch an address from a text."""
    return {"text": text} if set(getattr(reader, "modalities", ())) - {"text", "message"} else text


def _forget_use(tokenizer: Any) -> None:
    """Take out of a tokenizer what a save would keep of its last call and of the place that it was loaded from."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return
    backend.no_padding()
    backend.no_truncation()
    for name in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(name, None)


@contextmanager
def quiet_progress() -> Iterator[None]:
    """Keep transformers' progress bars off the screen in the block."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
