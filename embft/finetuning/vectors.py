"""`Vectors`: the vectors of many texts or items, each encoded once and found again by the text or item itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


class Vectors:
    """What was encoded → its vector.

    Args:
        encode: A model's `encode_queries` or `encode_items`.
        inputs: Texts or items; repeats are encoded once.
        dtype: Of the vectors; float64 where sums of many sessions must not depend on how they are batched.
    """

    def __init__(
        self,
        encode: Callable[[Sequence[Any]], NDArray[np.float32]],
        inputs: Iterable[Any],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        distinct = list(dict.fromkeys(inputs))
        self._row_of = {it: row for row, it in enumerate(distinct)}
        self._vectors = torch.from_numpy(encode(distinct)).to(dtype)

    def __getitem__(self, inputs: Sequence[Any]) -> torch.Tensor:
        """Vectors of these, in their order, [inputs, dim]; KeyError for one that was not encoded."""
        return self._vectors[[self._row_of[it] for it in inputs]]
