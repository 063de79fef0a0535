"""Long items in parts: how an item is cut, and how the ranks of its parts become its own rank again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from embft.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

Item = Any
"""What an item tower takes: a text, or an image: the path of one or, where it is not of a catalogue, a `PIL.Image`."""

Aggregation = Literal["mean", "max", "min"]


def check_aggregation(aggregation: str) -> None:
    """Refuse an aggregation that there is not.

    Args:
        aggregation: Its name.

    Raises:
        ConfigError: It is none of mean, max and min.
    """
    if aggregation not in get_args(Aggregation):
        raise ConfigError(f"aggregation is {aggregation!r}; it must be one of {list(get_args(Aggregation))}")


# Chinese, Japanese and Korean are written without spaces: there, each sign is a word.
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]|[^\s\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]+"
)


def split_words(text: str, max_words: int = 150, overlap: int = 20) -> list[str]:
    """Cut a text into parts of at most `max_words` words; each part repeats the last words of the one before.

    150 words are about 200 tokens, within the 256 that small sentence encoders read. In Chinese, Japanese and Korean
    each sign counts as a word.

    Args:
        text: A text; one without more words than `max_words` stays as it is.
        max_words: Words of a part, >= 1.
        overlap: Words that two neighbours share, 0 to `max_words` - 1, so that a sentence on the cut is whole in one.

    Returns:
        The parts, at least one; each is a piece of the text as it was.

    Raises:
        ConfigError: `max_words` or `overlap` is out of range.
    """
    if max_words < 1 or not 0 <= overlap < max_words:
        raise ConfigError(
            f"max_words is {max_words} and overlap {overlap}; a part has 1 word or more, and shares fewer than it has"
        )
    words = list(_WORD.finditer(text))
    if len(words) <= max_words:
        return [text]
    starts = range(0, len(words) - overlap, max_words - overlap)
    ends = (min(start + max_words, len(words)) - 1 for start in starts)
    return [text[words[start].start() : words[end].end()] for start, end in zip(starts, ends, strict=True)]


@dataclass(frozen=True)
class ItemParts:
    """Parts of a list of items.

    Args:
        parts: What the item tower encodes.
        owner: Which item each part is of, int64 [parts], ascending; None where every item is its only part.
        n_items: How many items there are.
        aggregation: How the ranks of an item's parts become one.
    """

    parts: Sequence[Item]
    owner: NDArray[np.int64] | None
    n_items: int
    aggregation: Aggregation

    def aggregated(self, ranks: Tensor) -> Tensor:
        """Ranks of items from ranks of their parts, with gradients.

        Args:
            ranks: Float [queries, parts].

        Returns:
            Float [queries, items].
        """
        if self.owner is None:
            return ranks
        import torch

        reduce = {"mean": "mean", "max": "amax", "min": "amin"}[self.aggregation]
        index = torch.from_numpy(self.owner).to(ranks.device).expand_as(ranks)
        empty = ranks.new_zeros(ranks.shape[0], self.n_items)
        return empty.scatter_reduce(1, index, ranks, reduce, include_self=False)
