"""What one would write by hand in an hour: log objects → the same sessions, by `json.loads`, a line at a time.

All that `pull` does to good lines is done here too, or the comparison would be of two different things: normalised
queries, hashed clients, copies, the join of events, and the default rules of noise.
"""

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from embft.clickstream.privacy import ClientHash
from embft.log_config import Noise

_KINDS = {"search": 0, "impression": 1, "click": 2, "add_to_cart": 3, "purchase": 4}
_ACTIONS = ["click", "add_to_cart", "purchase"]


def read_sessions(paths: Sequence[Path], day: date, client_hash: ClientHash, to: Path) -> None:
    """Read a log of sessions, and write what becomes of it."""
    found: dict[str, dict[str, Any]] = {}
    for line in _lines(paths):
        time = datetime.fromisoformat(line["time"])
        if time.date() == day and line["session_id"] not in found:
            found[line["session_id"]] = {
                "session_id": line["session_id"],
                "time": time,
                "client": client_hash.of([line["client"]])[0],
                "query": " ".join(line["query"].lower().split()),
                "shown": list(dict.fromkeys(line["shown"])),
                "positions": None,
                "clicked": list(dict.fromkeys(line["clicked"])),
                "actions": None,
            }
    _write(list(found.values()), to)


def read_events(paths: Sequence[Path], day: date, client_hash: ClientHash, to: Path, *, is_ubi: bool) -> None:
    """Read a log of events, join them to searches, and write what becomes of them."""
    events = {}
    for line in _lines(paths):
        event = _from_ubi(line) if is_ubi else _from_event(line)
        key = line.get("event_id") or event
        if event[0] in _KINDS:
            events[key] = event
    searches: dict[str, list[Any]] = defaultdict(list)
    for event in events.values():
        searches[event[1]].append(event)
    rows = []
    for search_id, told in searches.items():
        told.sort(key=lambda it: (it[2], _KINDS[it[0]]))
        heads = [it for it in told if it[0] == "search"]
        query = next((it[4] for it in heads if it[4]), None)
        if query is None or heads[0][2].date() != day:
            continue
        seen = {it[5]: it[6] for it in reversed(told) if it[0] == "impression"}
        shown = sorted(seen, key=lambda item: (seen[item], item))
        strongest: dict[str, int] = {}
        for kind, _, _, _, _, item, _ in told:
            if _KINDS[kind] > 1 and item in seen:
                strongest[item] = max(strongest.get(item, 0), _KINDS[kind])
        rows.append(
            {
                "session_id": search_id,
                "time": heads[0][2],
                "client": client_hash.of([told[0][3]])[0],
                "query": " ".join(query.lower().split()),
                "shown": shown,
                "positions": [seen[item] for item in shown],
                "clicked": list(strongest),
                "actions": [_ACTIONS[it - 2] for it in strongest.values()]
                if max(strongest.values(), default=0) > 2
                else None,
            }
        )
    _write(rows, to)


def _from_event(line: dict[str, Any]) -> tuple[Any, ...]:
    time = datetime.fromisoformat(line["time"])
    return (
        line["action"],
        line["search_id"],
        time,
        line["client"],
        line.get("query"),
        line.get("item"),
        line.get("position"),
    )


def _from_ubi(line: dict[str, Any]) -> tuple[Any, ...]:
    attributes = line.get("event_attributes") or {}
    return (
        line.get("action_name", "search"),
        line["query_id"],
        datetime.fromisoformat(line["timestamp"]),
        line["client_id"],
        line.get("user_query"),
        (attributes.get("object") or {}).get("object_id"),
        (attributes.get("position") or {}).get("ordinal"),
    )


def _lines(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        opened = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
        with opened as lines:
            yield from map(json.loads, lines)


def _write(rows: list[dict[str, Any]], to: Path) -> None:
    rows.sort(key=lambda row: (row["time"], row["session_id"]))
    pq.write_table(pa.Table.from_pylist(_without_noise(rows, Noise())), to, compression="zstd")


def _without_noise(rows: list[dict[str, Any]], noise: Noise) -> list[dict[str, Any]]:
    assert noise.max_sessions_per_minute is not None
    assert noise.typing_pause_s is not None
    minutes = Counter((row["client"], row["time"].replace(second=0, microsecond=0)) for row in rows)
    rows = [
        row
        for row in rows
        if minutes[row["client"], row["time"].replace(second=0, microsecond=0)] <= noise.max_sessions_per_minute
    ]
    following: dict[str, dict[str, Any]] = {}
    meant = []
    for row in reversed(rows):
        after = following.get(row["client"])
        following[row["client"]] = row
        if after is None or row["clicked"] or (after["time"] - row["time"]).total_seconds() > noise.typing_pause_s:
            meant.append(row)
        elif row["query"] == after["query"] or not (
            row["query"].startswith(after["query"]) or after["query"].startswith(row["query"])
        ):
            meant.append(row)
    rows = _capped(meant[::-1], noise.max_sessions_per_client_query, lambda row: [(row["client"], row["query"])])
    rows = _capped(rows, noise.max_sessions_per_client, lambda row: [row["client"]])
    return _capped(rows, noise.max_sessions_per_client_item, lambda row: [(row["client"], it) for it in row["clicked"]])


def _capped(rows: list[dict[str, Any]], limit: int | None, keys_of: Any) -> list[dict[str, Any]]:
    assert limit is not None
    seen: Counter[Any] = Counter()
    kept = []
    for row in rows:
        keys = keys_of(row)
        seen.update(keys)
        if all(seen[key] <= limit for key in keys):
            kept.append(row)
    return kept
