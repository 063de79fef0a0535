"""A million sessions drawn from the real clicks, and ranks for them: what `benchmarks.validation` measures on."""

import gzip
import json
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embft.clickstream.sessions import SCHEMA, read_sessions
from tests import realdata

N_DAYS, N_SHOWN, DIM, SEED = 14, 5, 256, 17
N_EARLIER = 14  # days before the window that earlier nights saw
DAYS = [date(2011, 9, 1) + timedelta(days=at) for at in range(N_DAYS)]
ZONE = ZoneInfo("UTC")
BROKEN = 0.01
EXPECTATIONS = Path(__file__).resolve().parents[1] / "include" / "expectations"
PARTS = {"train": slice(0, -3), "validation": slice(-3, -2), "test": slice(-2, None)}


def lay_out(n_sessions: int, folder: Path) -> None:
    """Write the catalogue, a file of sessions a day, and the ranks' inputs.

    Args:
        n_sessions: Of all days.
        folder: Where.
    """
    items = [json.loads(line) for line in (realdata.CLICKS / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    pq.write_table(pa.table({name: [it[name] for it in items] for name in ("id", "text")}), folder / "items.parquet")
    with gzip.open(realdata.CLICKS / "clicks_train.jsonl.gz", "rt", encoding="utf-8") as lines:
        clicks = [json.loads(line) for line in lines]
    chance = np.random.default_rng(SEED)
    for day in DAYS:
        table = _sessions(day, n_sessions // N_DAYS, clicks, [it["id"] for it in items], chance)
        pq.write_table(table, folder / f"{day}.parquet", row_group_size=65_536)
    _lay_out_ranks(folder, [it["id"] for it in items], chance)


def _sessions(
    day: date, n: int, clicks: Sequence[dict[str, str]], item_ids: Sequence[str], chance: np.random.Generator
) -> pa.Table:
    drawn = chance.integers(len(clicks), size=n)
    place = {id_: at for at, id_ in enumerate(item_ids)}
    clicked = np.array([place[it["clicked"]] for it in clicks])[drawn]
    shown = (clicked[:, None] + np.arange(N_SHOWN) * chance.integers(1, 80, size=(n, 1))) % len(item_ids)
    shown = chance.permuted(shown, axis=1)
    queries = pa.array([" ".join(it["query"].lower().split()) for it in clicks]).take(pa.array(drawn))
    clicked_ids = pa.array(item_ids).take(pa.array(clicked))
    is_empty, is_unknown, is_not_shown = (chance.random(n) < BROKEN / 3 for _ in range(3))
    queries = pc.if_else(pa.array(is_empty), "", queries)
    clicked_ids = pc.if_else(pa.array(is_unknown), "no such item", clicked_ids)
    shown[is_not_shown] = (clicked[is_not_shown, None] + 1 + np.arange(N_SHOWN)) % len(item_ids)
    started = np.datetime64(day, "us") + np.sort(chance.integers(86_400_000_000, size=n)).astype("timedelta64[us]")
    columns = {
        **{name: pa.nulls(n, SCHEMA.field(name).type) for name in ("positions", "actions", "dwell_s")},
        "session_id": [f"{day}-{at:07d}" for at in range(n)],
        "day": pa.array([day] * n, pa.date32()),
        "time": pa.array(started).cast(pa.timestamp("us", tz="UTC")),
        "client": pa.array([it["session"] for it in clicks]).take(pa.array(drawn)),
        "query": queries,
        "shown": _lists(pa.array(item_ids).take(pa.array(shown.ravel())), N_SHOWN),
        "clicked": _lists(clicked_ids, 1),
    }
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _lists(values: pa.Array, length: int) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, length), pa.int32()), values)


def _lay_out_ranks(folder: Path, item_ids: Sequence[str], chance: np.random.Generator) -> None:
    vectors = chance.normal(size=(len(item_ids), DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)
    pq.write_table(pa.table({"id": item_ids, "vector": column}), folder / "vectors.parquet")
    for part, of in PARTS.items():
        tables = [_with_ranks(read_sessions(folder / f"{day}.parquet"), chance) for day in DAYS[of]]
        pq.write_table(pa.concat_tables(tables), folder / f"{part}.parquet", row_group_size=65_536)


def _with_ranks(sessions: pa.Table, chance: np.random.Generator) -> pa.Table:
    """Rank what was shown in the sessions that click one of it."""
    shown = np.asarray(pc.list_flatten(sessions["shown"])).reshape(-1, N_SHOWN)
    is_click = shown == np.asarray(pc.list_flatten(sessions["clicked"]))[:, None]
    ranks = np.clip(chance.normal(0.2, 0.15, size=shown.shape) + 0.3 * is_click, -1, 1)
    has_click = is_click.any(1)
    good = sessions.filter(pa.array(has_click))
    return pa.table(
        {
            "session_id": good["session_id"],
            "results": good["shown"],
            "clicked": good["clicked"],
            "ranks": _lists(pa.array(ranks[has_click].astype(np.float32).ravel()), N_SHOWN),
        }
    )
