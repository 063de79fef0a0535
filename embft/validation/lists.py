"""Columns of lists, counted without a Python loop."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embft.validation.hashes import are_among


def lengths(lists: pa.ChunkedArray) -> NDArray[np.int64]:
    """Count the entries of each row's list.

    Args:
        lists: A column of lists.

    Returns:
        int64 [rows]; 0 for null.
    """
    return np.asarray(pc.fill_null(pc.list_value_length(lists), 0), dtype=np.int64)


def flat(lists: pa.ChunkedArray) -> tuple[NDArray[np.int64], pa.Array]:
    """Lay a column of lists out as one array.

    Args:
        lists: A column of lists.

    Returns:
        Row of each entry, int64 [entries], and the entries; null and empty lists give none.
    """
    one = lists.combine_chunks()
    return pc.list_parent_indices(one).to_numpy().astype(np.int64), pc.list_flatten(one)


def isin_own_list(
    parents: NDArray[np.int64], ids: pa.Array, other_parents: NDArray[np.int64], other_ids: pa.Array
) -> NDArray[np.bool_]:
    """Say for each entry whether the same row's other list holds it too.

    Args:
        parents: Row of each entry.
        ids: The entries.
        other_parents: Row of each entry of the other lists.
        other_ids: Entries of the other lists.

    Returns:
        bool [entries].
    """
    keys, other_keys = _keys(parents, ids, other_parents, other_ids)
    return are_among(keys, other_keys)


def place_in_own_list(
    parents: NDArray[np.int64], ids: pa.Array, other_parents: NDArray[np.int64], other_ids: pa.Array
) -> NDArray[np.int64]:
    """Find each entry in the same row's other list.

    Args:
        parents: Row of each entry.
        ids: The entries.
        other_parents: Row of each entry of the other lists.
        other_ids: Entries of the other lists.

    Returns:
        Index into `other_ids` of its first place, int64 [entries]; -1 where the row's other list lacks it.
    """
    keys, other_keys = _keys(parents, ids, other_parents, other_ids)
    if not len(other_keys):
        return np.full(len(keys), -1, dtype=np.int64)
    distinct, first = np.unique(other_keys, return_index=True)
    at = np.minimum(np.searchsorted(distinct, keys), len(distinct) - 1)
    return np.where(distinct[at] == keys, first[at], -1).astype(np.int64)


def _keys(
    parents: NDArray[np.int64], ids: pa.Array, other_parents: NDArray[np.int64], other_ids: pa.Array
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the entries so that equal ids of the same row, and only they, get the same number."""
    both = pa.concat_arrays([ids.cast(pa.string()), other_ids.cast(pa.string())])
    codes = both.dictionary_encode(null_encoding="encode")
    numbers = codes.indices.to_numpy().astype(np.int64)
    n_codes = len(codes.dictionary)
    return parents * n_codes + numbers[: len(ids)], other_parents * n_codes + numbers[len(ids) :]
