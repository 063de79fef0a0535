"""The frame that the suite `sessions` speaks about: one row a session, its lists turned into counts."""

from datetime import date
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embft.validation.catalogue import trimmed_length
from embft.validation.lists import flat, isin_own_list, lengths
from embft.validation.scripts import is_garbled

COLUMNS = (
    "row",
    "session_id",
    "day",
    "time",
    "client",
    "query",
    "query_length",
    "is_garbled",
    "n_earlier_copies",
    "in_window",
    "days_off",
    "shown_known",
    "n_shown",
    "n_clicked",
    "has_click",
    "n_unknown_clicked",
    "unknown_clicked",
    "n_clicked_not_shown",
    "clicked_not_shown",
    "n_unknown_shown",
)

# Column of a rule → column whose values say more than a session's id.
EXAMPLES = {"n_unknown_clicked": "unknown_clicked", "n_clicked_not_shown": "clicked_not_shown"}


def session_frame(
    sessions: pa.Table,
    item_ids: pa.ChunkedArray,
    *,
    window: tuple[date, date],
    zone: ZoneInfo,
    n_earlier_copies: NDArray[np.int64],
) -> pd.DataFrame:
    """Describe each session.

    Args:
        sessions: Columns session_id, day, time, client, query, shown, clicked.
        item_ids: Ids of the catalogue's good items.
        window: First and last day, both included.
        zone: Zone in which the log's days begin and end.
        n_earlier_copies: Earlier rows with the same session_id, in this table or before it.

    Returns:
        The columns that the header of `include/expectations/sessions.yaml` lists.
    """
    n_rows = sessions.num_rows
    day = pd.to_datetime(sessions["day"].to_pandas())
    local_day = sessions["time"].to_pandas().dt.tz_convert(zone).dt.tz_localize(None).dt.normalize()
    shown_known = sessions["shown"].is_valid().to_numpy()
    n_clicked = lengths(sessions["clicked"])
    unknown_clicked = _unknown(sessions["clicked"], item_ids)
    not_shown = _not_shown(sessions, shown_known)
    return pd.DataFrame(
        {
            "row": np.arange(n_rows),
            "session_id": sessions["session_id"].to_pandas(),
            "day": day,
            "time": sessions["time"].to_pandas(),
            "client": sessions["client"].to_pandas(),
            "query": sessions["query"].to_pandas(),
            "query_length": trimmed_length(sessions["query"]),
            "is_garbled": is_garbled(sessions["query"]).astype(np.int64),
            "n_earlier_copies": n_earlier_copies,
            "in_window": ((day >= pd.Timestamp(window[0])) & (day <= pd.Timestamp(window[1]))).astype("int64"),
            "days_off": (local_day - day).dt.days.abs().fillna(0).astype("int64"),
            "shown_known": shown_known.astype(np.int64),
            "n_shown": np.where(shown_known, lengths(sessions["shown"]), np.nan),
            "n_clicked": n_clicked,
            "has_click": (n_clicked > 0).astype(np.int64),
            "n_unknown_clicked": unknown_clicked.count(n_rows),
            "unknown_clicked": unknown_clicked.first(n_rows),
            "n_clicked_not_shown": not_shown.count(n_rows),
            "clicked_not_shown": not_shown.first(n_rows),
            "n_unknown_shown": _unknown(sessions["shown"], item_ids).count(n_rows),
        }
    )


class _Marked:
    """Ids out of the rows' lists that are marked for some fault."""

    def __init__(self, parents: NDArray[np.int64], ids: pa.Array, mark: NDArray[np.bool_]) -> None:
        self._parents = parents[mark]
        self._ids = ids.filter(pa.array(mark))

    def count(self, n_rows: int) -> NDArray[np.int64]:
        return np.bincount(self._parents, minlength=n_rows).astype(np.int64)

    def first(self, n_rows: int) -> NDArray[np.object_]:
        rows, at = np.unique(self._parents, return_index=True)
        found = np.full(n_rows, None, dtype=object)
        found[rows] = np.asarray(self._ids.take(pa.array(at)).to_pylist(), dtype=object)
        return found


def _unknown(lists: pa.ChunkedArray, item_ids: pa.ChunkedArray) -> _Marked:
    parents, ids = flat(lists)
    known = pc.is_in(ids, value_set=item_ids.combine_chunks())
    return _Marked(parents, ids, ~known.to_numpy(zero_copy_only=False))


def _not_shown(sessions: pa.Table, shown_known: NDArray[np.bool_]) -> _Marked:
    parents, ids = flat(sessions["clicked"])
    was_shown = isin_own_list(parents, ids, *flat(sessions["shown"]))
    return _Marked(parents, ids, ~was_shown & shown_known[parents])
