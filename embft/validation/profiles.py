"""A log day in figures: what later nights take as usual, and what the suite `sessions` says of a day.

Each figure comes with its standard error, so that a day with few sessions is not called strange for being small.
"""

from collections import deque
from collections.abc import Mapping
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from embft.results import Record
from embft.validation.hashes import Hashes, are_among, hashes
from embft.validation.lists import flat, place_in_own_list
from embft.validation.scripts import script_counts

LOOKBACK_DAYS = 7  # "seen before" means: in these days
MAX_POSITION = 10
_MIN_FOR_SHARES = 20  # of fewer, one makes a share that looks like a flood
_ODD = np.uint64(0x9E3779B97F4A7C15)  # an odd multiplier mixes without losing bits


class DayProfile(Record):
    """One log day's clean sessions in figures. JSON-able."""

    day: date
    figures: dict[str, tuple[float, float]] = Field(
        description="Figure → value and standard error; what the log does not tell is left out."
    )
    hours: list[int] = Field(min_length=24, max_length=24, description="Sessions in each of the day's hours.")
    positions: list[int] = Field(
        min_length=MAX_POSITION + 1,
        max_length=MAX_POSITION + 1,
        description="Clicks on each position from 1, the last entry for all below; all 0 where positions are unknown.",
    )
    scripts: dict[str, int] = Field(description="Script → sessions whose query is mostly written in it.")


class Profiler:
    """Describes log days, one after the other in the order of time.

    Args:
        zone: Zone in which the log's days begin and end.
        lookback: Days before a day in which a query or a click counts as seen before.
    """

    def __init__(self, zone: ZoneInfo, lookback: int) -> None:
        self._zone = zone
        self._earlier: deque[_Traces] = deque(maxlen=lookback)
        self._lookback = lookback

    def profile(
        self, day: date, sessions: pa.Table, lines: Mapping[str, int], *, n_unknown_shown: int = 0
    ) -> DayProfile:
        """Describe the next day.

        Args:
            day: The log day.
            sessions: Its clean sessions: session_id, time, client, query, shown, clicked, positions.
            lines: What `pull` counted of the day's lines: lines, duplicates, quarantined, filtered.
            n_unknown_shown: How many of the sessions show an item that the catalogue does not have.

        Returns:
            The profile.
        """
        traces = _Traces(sessions, self._zone)
        figures = {**_of_lines(lines), **_of_sessions(sessions, traces)}
        if sessions.num_rows:
            figures["unknown_shown_share"] = _share(n_unknown_shown, sessions.num_rows)
        if self._lookback and len(self._earlier) == self._lookback:
            figures |= _against(traces, self._earlier)
        self._earlier.append(traces.lasting())
        return DayProfile(
            day=day,
            figures={name: (float(value), float(error)) for name, (value, error) in sorted(figures.items())},
            hours=np.bincount(traces.second // 3600, minlength=24).tolist(),
            positions=_positions(sessions),
            scripts=script_counts(sessions["query"]),
        )


class _Traces:
    """What of a day's sessions later days can be compared with: 64-bit hashes, so that memory stays small."""

    def __init__(self, sessions: pa.Table, zone: ZoneInfo) -> None:
        self.query = hashes(sessions["query"])
        parents, items = flat(sessions["clicked"])
        item = hashes(items)
        self.is_clicked = np.bincount(parents, minlength=len(self.query)) > 0
        self.click_query = self.query[parents]
        self.pair = self.click_query * _ODD ^ item
        clicks = np.zeros(len(self.query), dtype=np.uint64)
        np.add.at(clicks, parents, item * _ODD)
        local = sessions["time"].to_pandas().dt.tz_convert(zone)
        self.second = np.asarray(local.dt.hour * 3600 + local.dt.minute * 60 + local.dt.second, dtype=np.int64)
        # A session by all but its id, its client and its day, which a second delivery may have given anew. One without
        # a click says too little to be known again.
        clicked = self.is_clicked
        what = self.query * _ODD ^ clicks
        microsecond = self.second * 1_000_000 + np.asarray(local.dt.microsecond, dtype=np.int64)
        self.content = _at(what, microsecond)[clicked]
        self.content_later = _at(what, microsecond + max(1_000_000, _step(microsecond)))[clicked]

    def lasting(self) -> "_Traces":
        """Reduce to what later days ask for."""
        self.content, self.content_later = _distinct(self.content), np.empty(0, dtype=np.uint64)
        self.pair, self.click_query, self.query = map(_distinct, (self.pair, self.click_query, self.query))
        return self


def _of_lines(lines: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    n = lines.get("lines", 0)
    if not n:
        return {}
    names = {"duplicates": "duplicate_share", "quarantined": "quarantined_share", "filtered": "filtered_share"}
    return {name: _share(lines.get(key, 0), n) for key, name in names.items()}


def _of_sessions(sessions: pa.Table, traces: _Traces) -> dict[str, tuple[float, float]]:
    n = sessions.num_rows
    figures: dict[str, tuple[float, float]] = {"n_sessions": (n, np.sqrt(n))}
    if not n:
        return figures
    queries = sessions["query"].cast(pa.string())
    length = np.asarray(pc.fill_null(pc.utf8_length(queries), 0), dtype=np.float64)
    clients = sessions["client"].drop_null()
    figures |= {
        "shown_share": _share(n - sessions["shown"].null_count, n),
        "click_rate": _share(int(traces.is_clicked.sum()), n),
        "query_length_mean": (length.mean(), length.std() / np.sqrt(n)),
        "top_query_share": _share(_most_common(traces.query), n),
        "twin_share": _beyond_chance(_n_repeats(traces.content), are_among(traces.content_later, traces.content), n),
    }
    if n >= _MIN_FOR_SHARES:
        figures["top_second_share"] = _share(_most_common(traces.second), n)
    if len(clients) >= _MIN_FOR_SHARES:
        figures["top_client_share"] = _share(_most_common(hashes(clients)), len(clients))
    positions = _positions(sessions)
    if sum(positions):
        figures["first_position_share"] = _share(positions[0], sum(positions))
    return figures


def _against(traces: _Traces, earlier: deque[_Traces]) -> dict[str, tuple[float, float]]:
    """Compare a day with the days before it."""
    figures = {}
    n = len(traces.query)
    if n:
        seen = np.concatenate([it.query for it in earlier])
        figures["unseen_query_share"] = _share(int((~are_among(traces.query, seen)).sum()), n)
        content = np.concatenate([it.content for it in earlier])
        repeated = int(are_among(traces.content, content).sum())
        figures["repeated_share"] = _beyond_chance(repeated, are_among(traces.content_later, content), n)
    known = are_among(traces.click_query, np.concatenate([it.click_query for it in earlier]))
    if known.sum() >= _MIN_FOR_SHARES:
        again = are_among(traces.pair[known], np.concatenate([it.pair for it in earlier]))
        figures["known_click_share"] = _share(int(again.sum()), int(known.sum()))
    return figures


def _share(part: float, whole: int) -> tuple[float, float]:
    """Give a share and its standard error (Wilson's centre keeps the error of 0 and 1 above nothing)."""
    share = part / whole
    centre = (part + 2) / (whole + 4)
    return share, float(np.sqrt(centre * (1 - centre) / (whole + 4)))


def _beyond_chance(n_equal: int, equal_later: NDArray[np.bool_], n: int) -> tuple[float, float]:
    """Give the share of sessions that equal others, less what chance explains.

    A busy shop has the same search and click many times a second. How often chance does it is seen where it alone can:
    at a time that is a second off, or a step of a log that counts in longer ones. Both are counts, and three standard
    errors of their difference are chance as well.
    """
    by_chance = int(equal_later.sum())
    return _share(max(0.0, n_equal - by_chance - 3 * float(np.sqrt(n_equal + by_chance))), n)


def _step(microsecond: NDArray[np.int64]) -> int:
    """Give the steps in which a log counts time: some write whole minutes."""
    return int(np.gcd.reduce(np.diff(np.sort(pd.unique(microsecond))), initial=0))


def _at(what: Hashes, microsecond: NDArray[np.int64]) -> Hashes:
    return np.asarray(what * _ODD ^ microsecond.astype(np.uint64))


def _positions(sessions: pa.Table) -> list[int]:
    """Count the clicks on each position, from the top."""
    shown_rows, shown = flat(sessions["shown"])
    place = place_in_own_list(*flat(sessions["clicked"]), shown_rows, shown)
    first_of_row = np.searchsorted(shown_rows, shown_rows)  # rows come in order
    position = np.arange(len(shown)) - first_of_row + 1
    told_rows, told = flat(sessions["positions"])
    position[are_among(shown_rows, told_rows)] = told.to_numpy(zero_copy_only=False)
    clicked = np.clip(position[place[place >= 0]], 1, MAX_POSITION + 1)
    return [int(count) for count in np.bincount(clicked - 1, minlength=MAX_POSITION + 1)]


def _most_common(keys: NDArray[Any]) -> int:
    return int(np.unique(keys, return_counts=True)[1].max()) if len(keys) else 0


def _n_repeats(keys: Hashes) -> int:
    return len(keys) - len(_distinct(keys))


def _distinct(keys: Hashes) -> Hashes:
    return np.asarray(pd.unique(keys))  # np.unique takes fifteen times as long, as np.isin does
