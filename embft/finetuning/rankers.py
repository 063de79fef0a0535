"""Rankers: how near a query and an item are. All ranks of a batch come from one matrix product."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Ranker = Callable[[Tensor, Tensor], Tensor]
"""(queries [queries, dim], items [items, dim]) → ranks [queries, items], with gradients."""


def cosine_similarity(queries: Tensor, items: Tensor) -> Tensor:
    """Cosine of each query with each item; 0 where a vector is zero.

    Args:
        queries: Vectors, float [queries, dim], of any length.
        items: Vectors, float [items, dim].

    Returns:
        Cosines in [-1, 1], float [queries, items].
    """
    return torch.nn.functional.normalize(queries, dim=1) @ torch.nn.functional.normalize(items, dim=1).T


def euclidean_distance(queries: Tensor, items: Tensor) -> Tensor:
    """Distance of each query to each item: smaller is closer, use it with `is_similarity=False`.

    Args:
        queries: Vectors, float [queries, dim].
        items: Vectors, float [items, dim].

    Returns:
        Distances >= 0, float [queries, items]; 0 to 2 for unit-length vectors.
    """
    return torch.cdist(queries, items)
