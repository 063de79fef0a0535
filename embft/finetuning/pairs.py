"""Which clicked item is compared with which other item of a batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embft.finetuning.batches import FlatBatch

_NOT_SHOWN = -1


@dataclass(frozen=True)
class Pairs:
    """Pairs of a clicked item and a negative; entry k of each array is pair k, a click's pairs side by side.

    Args:
        positives: The clicked item, index into the batch's shown items, int64 [pairs].
        negative_cells: Where the negative's rank lies in the matrix of ranks, row by row, int64 [pairs].
        negatives: The negative as an index into the shown items, int64 [pairs]; -1 where it was not shown there.
        weights: How many items the negative stands for, float64 [pairs]; None where each is one.
    """

    positives: NDArray[np.int64]
    negative_cells: NDArray[np.int64]
    negatives: NDArray[np.int64]
    weights: NDArray[np.float64] | None = None

    def select(self, kept: NDArray[np.bool_]) -> Pairs:
        """The pairs chosen by a mask, bool [pairs]."""
        weights = None if self.weights is None else self.weights[kept]
        return Pairs(self.positives[kept], self.negative_cells[kept], self.negatives[kept], weights)


def shown_pairs(flat: FlatBatch) -> Pairs:
    """Every click of an entry with every not-clicked item of that entry.

    Args:
        flat: The batch.

    Returns:
        The pairs. A negative from the irrelevant session beside an entry is ranked for that session's own query.
    """
    positives = np.flatnonzero(flat.clicked)
    negatives = np.flatnonzero(~flat.clicked)
    n_negatives = np.bincount(flat.session_index[negatives], minlength=flat.n_sessions)
    first_negative = np.cumsum(n_negatives) - n_negatives

    # Click c of entry s takes the n_negatives[s] negatives from first_negative[s] on.
    sessions = flat.session_index[positives]
    repeats = n_negatives[sessions]
    first_pair = np.cumsum(repeats) - repeats
    offsets = np.arange(repeats.sum()) - np.repeat(first_pair, repeats)
    of_pair = negatives[np.repeat(first_negative[sessions], repeats) + offsets]
    cells = _cells(flat, flat.query_rows, flat.item_columns)
    pairs = Pairs(np.repeat(positives, repeats), cells[of_pair], of_pair)
    # Under another id, or in the session beside it, the clicked item may be shown once more: it is no negative.
    return pairs.select(cells[pairs.positives] != pairs.negative_cells)


def batch_pairs(flat: FlatBatch) -> Pairs:
    """Every click with every clicked item of the batch, and with the not-clicked results of its own session.

    Left out is what was clicked for the click's query anywhere in the log. Not-clicked results of other sessions are
    left out too: with shown lists of 20 they would make a million pairs of a batch of 256.

    Args:
        flat: The batch, flattened with the clicks of the log.

    Returns:
        The pairs.
    """
    assert flat.clicked_for_query is not None
    positives = np.flatnonzero(flat.clicked)
    barred = flat.clicked_for_query[flat.query_rows[positives]]
    return _compared(flat, positives, flat.item_columns[positives], barred)


def catalogue_pairs(flat: FlatBatch, *, with_clicks_of_batch: bool) -> Pairs:
    """Every click with every candidate but itself, and with the not-clicked results of its own session.

    Args:
        flat: The batch, flattened with candidates.
        with_clicks_of_batch: Whether all clicked items of the batch are in the list too, each for itself.

    Returns:
        The pairs.
    """
    positives = np.flatnonzero(flat.clicked)
    columns = flat.item_columns[positives]
    barred = np.zeros((len(positives), flat.item_parts.n_items), np.bool_)
    barred[np.arange(len(positives)), columns] = True
    certain = np.concatenate([flat.certain_columns, columns]) if with_clicks_of_batch else flat.certain_columns
    pairs = _compared(flat, positives, np.concatenate([flat.candidate_columns, certain]), barred)
    stands_for = np.ones(flat.item_parts.n_items)
    stands_for[flat.candidate_columns] = flat.candidate_weight
    stands_for[certain] = 1.0
    weights = np.where(pairs.negatives < 0, stands_for[pairs.negative_cells % flat.item_parts.n_items], 1.0)
    return replace(pairs, weights=weights)


def _compared(
    flat: FlatBatch, positives: NDArray[np.int64], candidates: NDArray[np.int64], barred: NDArray[np.bool_]
) -> Pairs:
    """Every click with all candidates and what its own session showed without a click, but for what is barred for it.

    Args:
        flat: The batch.
        positives: Clicked items, index into the batch's shown items, int64 [clicks].
        candidates: Columns of distinct items.
        barred: Bool [clicks, items].

    Returns:
        The pairs.
    """
    own = shown_pairs(flat)
    session = np.repeat(np.arange(len(flat.lengths)), flat.lengths)
    own = own.select(session[own.positives] == session[own.negatives])
    own_cells = np.searchsorted(positives, own.positives), flat.item_columns[own.negatives]

    is_candidate = np.zeros(barred.shape, np.bool_)
    is_candidate[:, candidates] = True
    is_candidate[own_cells] = True
    click, column = np.nonzero(is_candidate & ~barred)
    shown_as = np.full(is_candidate.shape, _NOT_SHOWN, np.int32)
    shown_as[own_cells] = own.negatives
    rows = flat.query_rows[positives[click]]
    return Pairs(positives[click], _cells(flat, rows, column), shown_as[click, column].astype(np.int64))


def downsampled(pairs: Pairs, share: float, random: np.random.Generator) -> Pairs:
    """Keep a share of each click's pairs, at least one, drawn without replacement.

    Args:
        pairs: Pairs, a click's side by side.
        share: In [0, 1].
        random: Of the draw.

    Returns:
        The pairs kept, in their order.
    """
    _, click, counts = np.unique(pairs.positives, return_inverse=True, return_counts=True)
    n_kept = np.maximum(1, np.rint(share * counts))
    shuffled = np.lexsort((random.random(len(click)), click))
    place = np.arange(len(click)) - (np.cumsum(counts) - counts)[click]
    kept = np.zeros(len(click), np.bool_)
    kept[shuffled[place < n_kept[click]]] = True
    return pairs.select(kept)


def _cells(flat: FlatBatch, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows * flat.item_parts.n_items + columns
