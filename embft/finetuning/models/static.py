"""`StaticEmbeddingsModel`: a text's vector is the mean of its tokens' vectors. Fast enough to train on a CPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from embft.errors import ConfigError
from embft.finetuning.models.interface import EmbeddingsModelInterface
from embft.finetuning.parts import Item

# The names by which every sentence-transformers since 3.2 finds the modules of a folder.
_MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.StaticEmbedding"},
    {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"},
]

_MAX_CACHED_TEXTS = 500_000


class StaticEmbeddingsModel(EmbeddingsModelInterface):
    """Mean of token vectors, scaled to unit length; both towers share the one table.

    Texts of a batch lie one after the other with offsets, as in `nn.EmbeddingBag`: there is no padding, so a
    padding token can never be averaged in. Special tokens are not added.

    Args:
        tokenizer: Of `tokenizers`; its padding and truncation are switched off.
        weights: Token vectors, float [vocabulary, dim]; copied, and kept as float32.
        query_prompt: Put before every query.
        item_prompt: Put before every item.

    Raises:
        ConfigError: The table has fewer rows than the tokenizer has tokens.
    """

    n_cpu_threads = 1
    suggested_lr = 0.005

    def __init__(self, tokenizer: Tokenizer, weights: Tensor, query_prompt: str = "", item_prompt: str = "") -> None:
        super().__init__()
        if weights.dim() != 2 or weights.shape[0] < tokenizer.get_vocab_size():
            raise ConfigError(
                f"token vectors have the shape {tuple(weights.shape)}, but the tokenizer knows "
                f"{tokenizer.get_vocab_size()} tokens; model.safetensors and tokenizer.json are not of one model"
            )
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.tokenizer = tokenizer
        self.query_prompt = query_prompt
        self.item_prompt = item_prompt
        # Sparse: a batch touches some hundreds of 32,000 rows, and a dense Adam step over all of them takes
        # 10 to 40 ms, several times as long as the rest of the step.
        self.embedding = nn.EmbeddingBag.from_pretrained(
            weights.detach().to(torch.float32).clone(), freeze=False, mode="mean", sparse=True
        )
        self._token_ids: dict[str, list[int]] = {}

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.embedding.embedding_dim

    @property
    def is_same_query_and_items(self) -> bool:
        """Always: there is one table."""
        return True

    @property
    def is_named_inputs(self) -> bool:
        """Never: the table takes token ids and offsets by place."""
        return False

    @property
    def num_layers(self) -> int:
        """One: the table."""
        return 1

    def forward_query(self, texts: Sequence[str]) -> Tensor:
        """Unit-length vectors of queries with gradients, float32 [texts, dim]."""
        return self._forward([self.query_prompt + text for text in texts])

    def forward_items(self, items: Sequence[Item]) -> Tensor:
        """Unit-length vectors of items, which are texts, with gradients, float32 [items, dim]."""
        return self._forward([self.item_prompt + text for text in items])

    def query_parameters(self) -> list[nn.Parameter]:
        """The table."""
        return list(self.embedding.parameters())

    def item_parameters(self) -> list[nn.Parameter]:
        """The table."""
        return list(self.embedding.parameters())

    def layer_parameters(self) -> list[list[nn.Parameter]]:
        """One layer with the table."""
        return [list(self.embedding.parameters())]

    def set_sparse_gradients(self, wanted: bool) -> bool:
        """Switch between gradients of the touched rows and of the whole table; says which it is now."""
        self.embedding.sparse = wanted
        return wanted

    def save(self, folder: str | Path) -> None:
        """Write a folder that `SentenceTransformer(folder)` reads too, with the same vectors.

        Args:
            folder: Made where it does not exist; files of an earlier save are overwritten.
        """
        target = Path(folder)
        (target / "1_Normalize").mkdir(parents=True, exist_ok=True)
        save_file({"embedding.weight": self.embedding.weight.detach().cpu()}, target / "model.safetensors")
        self.tokenizer.save(str(target / "tokenizer.json"))
        config = {
            "model_type": "SentenceTransformer",
            "prompts": {"query": self.query_prompt, "document": self.item_prompt},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        }
        _write_json(target / "config_sentence_transformers.json", config)
        _write_json(target / "modules.json", _MODULES)
        _write_json(target / "1_Normalize" / "config.json", {})

    def _forward(self, texts: Sequence[str]) -> Tensor:
        device = self.embedding.weight.device
        token_ids = self._tokenize(texts)
        flat = torch.tensor([id_ for ids in token_ids for id_ in ids], dtype=torch.long)
        lengths = torch.tensor([len(ids) for ids in token_ids], dtype=torch.long)
        # Distinct tokens first: the sparse gradient then has a row for each, not for each place that it stands at, and
        # titles share most of theirs. Forward and backward of 1,280 titles: 8 ms in place of 23.
        distinct, places = torch.unique(flat.to(device), return_inverse=True)
        rows = nn.functional.embedding(distinct, self.embedding.weight, sparse=self.embedding.sparse)
        offsets = (lengths.cumsum(0) - lengths).to(device)
        return nn.functional.normalize(nn.functional.embedding_bag(places, rows, offsets, mode="mean"), dim=1)

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text. Kept, for training meets the same texts in every epoch."""
        cache = self._token_ids
        unseen = list(dict.fromkeys(text for text in texts if text not in cache))
        encoded = self.tokenizer.encode_batch(unseen, add_special_tokens=False)
        fresh = {text: encoding.ids for text, encoding in zip(unseen, encoded, strict=True)}
        if len(cache) + len(fresh) <= _MAX_CACHED_TEXTS:
            cache.update(fresh)
        return [fresh[text] if text in fresh else cache[text] for text in texts]


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
