"""Sessions laid flat: which result was shown at which position and clicked; and the same as counts."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embft.errors import DataRejected

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Impressions:
    """Every result of every session with a shown list; of an id shown twice in a session the first place counts.

    Args:
        pairs: Which query and item, int64 [impressions]; equal numbers are equal pairs.
        positions: Place in the list, from 1, int64 [impressions].
        clicked: bool [impressions].
        n_sessions: Sessions with a shown list.
    """

    pairs: Ints
    positions: Ints
    clicked: NDArray[np.bool_]
    n_sessions: int


@dataclass(frozen=True)
class Cells:
    """Counts by pair and position, ordered by pair, then position; each combination comes once.

    The counts are floats, for a weighted sum of counts is fitted as they are.

    Args:
        pairs: Which query and item (or which set of them), int64 [cells], ascending.
        positions: From 1, int64 [cells].
        impressions: How often it was shown there, float64 [cells], > 0.
        clicks: How often it was clicked there, float64 [cells], at most `impressions`.
    """

    pairs: Ints
    positions: Ints
    impressions: NDArray[np.float64]
    clicks: NDArray[np.float64]

    def __len__(self) -> int:
        """How many cells there are."""
        return len(self.pairs)

    def select(self, kept: NDArray[np.bool_]) -> "Cells":
        """Give the cells chosen by a mask, bool [cells]; pairs are numbered anew, without gaps."""
        pairs = np.unique(self.pairs[kept], return_inverse=True)[1].astype(np.int64)
        return Cells(pairs, self.positions[kept], self.impressions[kept], self.clicks[kept])

    def sums_by_pair(self, values: NDArray[np.generic]) -> NDArray[np.float64]:
        """Sum up values [cells] over each pair, float64 [pairs]."""
        return _sums(self.pairs, values, int(self.pairs[-1]) + 1)

    def sums_by_position(self, values: NDArray[np.generic], n_positions: int) -> NDArray[np.float64]:
        """Sum up values [cells] over each position, float64 [n_positions]."""
        return _sums(self.positions - 1, values, n_positions)


def impressions_of(sessions: pa.Table) -> Impressions:
    """Lay sessions flat.

    Args:
        sessions: `embft.clickstream.sessions.SCHEMA`; those without a shown list are passed over.

    Returns:
        Their impressions, session after session.

    Raises:
        DataRejected: A session has not one position for each of its results, or one below 1.
    """
    told = sessions.select(["query", "shown", "positions", "clicked"])
    told = told.filter(pc.is_valid(told["shown"])).combine_chunks()
    session, positions = _sessions_and_positions(told)
    shown, (clicking, clicked) = pc.list_flatten(told["shown"]), _flat(told["clicked"])
    n_shown = len(shown)
    items = _codes(pa.concat_arrays([_array(shown), _array(clicked)]))
    queries = _codes(_array(told["query"]))
    n_items = int(items.max(initial=-1)) + 1

    keys = session * n_items + items[:n_shown]
    _, first = np.unique(keys, return_index=True)
    first.sort()
    was_clicked = np.isin(keys[first], clicking * n_items + items[n_shown:])
    pairs = (queries[session] * n_items + items[:n_shown])[first]
    return Impressions(pairs, positions[first], was_clicked, told.num_rows)


def cells_of(impressions: Impressions, n_positions: int) -> Cells:
    """Count impressions and clicks of each pair at each position, so that a search made again costs nothing.

    Args:
        impressions: The log.
        n_positions: Impressions further down are left out.

    Returns:
        The counts.
    """
    kept = impressions.positions <= n_positions
    positions, clicked = impressions.positions[kept], impressions.clicked[kept]
    pairs = np.unique(impressions.pairs[kept], return_inverse=True)[1]
    keys, cell, counts = np.unique(pairs * n_positions + positions - 1, return_inverse=True, return_counts=True)
    clicks = _sums(cell, clicked, len(keys))
    return Cells(keys // n_positions, keys % n_positions + 1, counts.astype(np.float64), clicks)


def positions_of(sessions: pa.Table) -> Ints:
    """Give the position of every result of every session with a shown list, one session after the other.

    Args:
        sessions: Columns `shown` and `positions`.

    Returns:
        From 1, int64 [results].

    Raises:
        DataRejected: A session has not one position for each of its results, or one below 1.
    """
    told = sessions.select(["shown", "positions"])
    return _sessions_and_positions(told.filter(pc.is_valid(told["shown"])).combine_chunks())[1]


def _sessions_and_positions(told: pa.Table) -> tuple[Ints, Ints]:
    """Each result's row of the table and position, both int64 [results]; the order shown where none is told.

    Raises:
        DataRejected: As for `positions_of`.
    """
    lengths = _numbers(pc.list_value_length(told["shown"]))
    session = np.repeat(np.arange(told.num_rows), lengths)
    positions = np.arange(len(session)) - (np.cumsum(lengths) - lengths)[session] + 1
    given = _numbers(pc.fill_null(pc.list_value_length(told["positions"]), -1))
    wrong = (given >= 0) & (given != lengths)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataRejected(
            f"{int(wrong.sum())} sessions have not one position for each result, the first {given[row]} positions for "
            f"{lengths[row]} results; give one for each, or none for the order shown"
        )
    if (given >= 0).any():
        positions[(given >= 0)[session]] = _numbers(pc.list_flatten(told["positions"]))
    if positions.min(initial=1) < 1:
        raise DataRejected(f"a result was shown at position {positions.min()}; positions count from 1")
    return session, positions.astype(np.int64)


def _flat(lists: pa.ChunkedArray) -> tuple[Ints, pa.ChunkedArray]:
    """Each element's row, and the elements."""
    lengths = _numbers(pc.fill_null(pc.list_value_length(lists), 0))
    return np.repeat(np.arange(len(lists)), lengths), pc.list_flatten(lists)


def _sums(groups: Ints, values: NDArray[np.generic], n_groups: int) -> NDArray[np.float64]:
    sums: NDArray[np.float64] = np.bincount(groups, values.astype(np.float64), n_groups).astype(np.float64, copy=False)
    return sums


def _codes(values: pa.Array) -> Ints:
    return _numbers(values.dictionary_encode().indices)


def _array(values: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)


def _numbers(values: pa.Array | pa.ChunkedArray) -> Ints:
    whole = _array(values) if isinstance(values, pa.ChunkedArray) else values
    numbers: Ints = whole.to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers
