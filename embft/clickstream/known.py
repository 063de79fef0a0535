"""Shown lists, cut down to what the catalogue still has."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from embft.clickstream.sessions import cut_shown, with_lists


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

    The others keep the positions they were shown at.

    Args:
        sessions: `embft.clickstream.sessions.SCHEMA`, clicked ids all in the catalogue. A `shown` that the log does
            not tell stays so.
        item_ids: The catalogue's ids.

    Returns:
        The sessions, and what was dropped.
    """
    known = frozenset(item_ids)
    before = sessions["shown"].to_pylist()
    cut = [
        (ids, places) if ids is None else cut_shown(ids, places, [id_ in known for id_ in ids])
        for ids, places in zip(before, sessions["positions"].to_pylist(), strict=True)
    ]
    after = [ids for ids, _ in cut]
    changed = with_lists(sessions, {"shown": after, "positions": [places for _, places in cut]})
    kept = changed.filter(pa.array([ids != [] for ids in after], pa.bool_()))
    return Known(kept, _n_ids(before) - _n_ids(after), sessions.num_rows - kept.num_rows)


def keep_known_clicks(sessions: pa.Table, item_ids: Collection[str]) -> pa.Table:
    """Drop clicked ids that the catalogue lacks, and sessions that have no click left.

    Args:
        sessions: `embft.clickstream.sessions.SCHEMA`.
        item_ids: The catalogue's ids.

    Returns:
        Those that still have a click, in order; their shown lists are as they were.
    """
    known = frozenset(item_ids)
    clicked = sessions["clicked"].to_pylist()
    is_known = [[id_ in known for id_ in ids] for ids in clicked]
    lists: dict[str, list[Any]] = {"clicked": [_kept(*row) for row in zip(clicked, is_known, strict=True)]}
    for name in ("actions", "dwell_s"):
        rows = zip(sessions[name].to_pylist(), is_known, strict=True)
        lists[name] = [None if values is None else _kept(values, kept) for values, kept in rows]
    return with_lists(sessions, lists).filter(pa.array([any(row) for row in is_known], pa.bool_()))


def _kept(values: list[Any], is_kept: list[bool]) -> list[Any]:
    return [value for value, kept in zip(values, is_kept, strict=True) if kept]


def _n_ids(lists: list[list[str] | None]) -> int:
    return sum(len(ids) for ids in lists if ids is not None)
