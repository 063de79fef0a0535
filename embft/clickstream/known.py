"""Shown lists, cut down to what the catalogue still has."""

from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Known:
    """Sessions whose shown items are all in the catalogue.

    Args:
        sessions: Those that still have an item, in order.
        n_unknown_shown: Ids that were dropped from shown lists.
        n_without_results: Sessions left out: nothing was found for them, or nothing that the catalogue has.
    """

    sessions: pa.Table
    n_unknown_shown: int
    n_without_results: int


def keep_known(sessions: pa.Table, item_ids: Collection[str]) -> Known:
    """Drop shown ids that the catalogue lacks: items that were sold out since have no text to learn from.

    Args:
        sessions: `embft.clickstream.sessions.SCHEMA`, clicked ids all in the catalogue. A `shown` that the log does
            not tell stays so.
        item_ids: The catalogue's ids.

    Returns:
        The sessions, and what was dropped.
    """
    known = frozenset(item_ids)
    before = sessions["shown"].to_pylist()
    after = [None if ids is None else [id_ for id_ in ids if id_ in known] for ids in before]
    column = sessions.schema.get_field_index("shown")
    field = sessions.schema.field(column)
    cut = sessions.set_column(column, field, pa.array(after, field.type))
    kept = cut.filter(pa.array([ids != [] for ids in after], pa.bool_()))
    return Known(kept, _n_ids(before) - _n_ids(after), cut.num_rows - kept.num_rows)


def _n_ids(lists: list[list[str] | None]) -> int:
    return sum(len(ids) for ids in lists if ids is not None)
