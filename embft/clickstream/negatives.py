"""The not-clicked side of logs that tell no shown lists: a seeded draw from the catalogue."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence, Set

import numpy as np
import pyarrow as pa

from embft.same_queries import SameQueries

_ROUNDS = 8


def sample_not_clicked(
    sessions: pa.Table,
    item_ids: Sequence[str],
    *,
    count: int,
    seed: int,
    clicks_of: pa.Table | None = None,
    mined: Mapping[str, Sequence[str]] | None = None,
) -> pa.Table:
    """Fill `shown` where it is unknown: what was clicked, then items drawn uniformly from the catalogue.

    An item that was clicked for the same query in any of the sessions (of `clicks_of`, if given) is never drawn;
    `SameQueries` says which queries are the same. The
    items that are gone through for a session depend on the seed, the session id and the catalogue alone; what its query
    was clicked for is passed over. So a session gets the same items in every window, but for those.

    With `mined`, half of a session's items, rounded down, are drawn from what is mined for its query, likewise barring
    what was clicked for it; the others come from the whole catalogue as ever, and make up for what is lacking.

    Args:
        sessions: `embft.clickstream.sessions.SCHEMA`.
        item_ids: The catalogue's ids; neither their order nor repetitions matter.
        count: Items to draw for a session; a smaller catalogue gives all that may be drawn.
        seed: Of the draw.
        clicks_of: Sessions, these among them, whose clicks are barred; just these when left out.
        mined: Query → ids of the catalogue that are hard to tell from what it asks for; None draws none of them.

    Returns:
        The table with no `shown` left unknown, in the same order.
    """
    ids = sorted(set(item_ids))
    row_of = {id_: row for row, id_ in enumerate(ids)}
    queries, clicked = sessions["query"].to_pylist(), sessions["clicked"].to_pylist()
    told = sessions if clicks_of is None else clicks_of
    told_queries, told_clicks = told["query"].to_pylist(), told["clicked"].to_pylist()
    same = SameQueries(told_queries, told_clicks)
    clicked_rows: dict[str, set[int]] = {}
    for query, events in zip(told_queries, told_clicks, strict=True):
        clicked_rows.setdefault(same.key(query), set()).update(row_of[id_] for id_ in events if id_ in row_of)

    shown = sessions["shown"].to_pylist()
    for number, session_id in enumerate(sessions["session_id"].to_pylist()):
        if shown[number] is None:
            barred = clicked_rows.get(same.key(queries[number]), set())
            hard = [row_of[id_] for id_ in (mined or {}).get(queries[number], ())]
            first = _draw_mined(seed, session_id, hard, count // 2, barred)
            drawn = _draw(seed, session_id, len(ids), count - len(first), barred.union(first) if first else barred)
            shown[number] = [*clicked[number], *(ids[row] for row in (*first, *drawn))]
    column = sessions.schema.get_field_index("shown")
    return sessions.set_column(column, sessions.schema.field(column), pa.array(shown, pa.list_(pa.string())))


def _draw_mined(seed: int, session_id: str, mined: Sequence[int], count: int, barred: Set[int]) -> list[int]:
    may_be_drawn = [row for row in mined if row not in barred]
    order = _generator(seed, session_id, "mined").permutation(len(may_be_drawn))[:count] if may_be_drawn else ()
    return [may_be_drawn[place] for place in order]


def _draw(seed: int, session_id: str, n_items: int, count: int, barred: Set[int]) -> list[int]:
    drawn: dict[int, None] = {}
    for row in _candidates(seed, session_id, n_items, count):
        if row not in barred:
            drawn[row] = None
            if len(drawn) == count:
                break
    return list(drawn)


def _candidates(seed: int, session_id: str, n_items: int, count: int) -> Iterator[int]:
    """Every row of the catalogue in a random order, some of them more than once."""
    generator = _generator(seed, session_id)
    if n_items > 4 * count:
        # Few of many: a draw with repetitions touches a handful of rows, a permutation the whole catalogue.
        for _ in range(_ROUNDS):
            yield from generator.integers(n_items, size=2 * count).tolist()
    yield from generator.permutation(n_items).tolist()


def _generator(seed: int, *names: str) -> np.random.Generator:
    digest = hashlib.blake2b("\0".join([str(seed), *names]).encode(), digest_size=8).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))
