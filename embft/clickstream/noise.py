"""Rules that look at several searches at once: copies, conflicts of ids, robots, and caps.

Each works on the table `searches`, and writes what it leaves out into `dropped`, a row and a rule. What it leaves out
depends on the searches alone: where some of many stay, they are the earliest, and of one moment those of the smallest
id.
"""

from embft.clickstream.workspace import Workspace
from embft.log_config import Noise

DUPLICATE = "duplicate"
CONFLICT = "conflict"

# What one search may leave to another: everything that a line says, in a form that mixes no two.
CONTENT = "to_json(struct_pack(session_id, time_us, client, query, shown, positions, clicked, actions, dwell_s))"

_LEFT = "searches AS s ANTI JOIN dropped USING (rid)"


def drop_copies(day: Workspace) -> None:
    """Keep one search of each session id: the earliest content, and one delivery of it.

    Args:
        day: With `searches` and an empty `dropped`.
    """
    day.run(
        f"""
        INSERT INTO dropped
        WITH several AS (SELECT session_id FROM searches GROUP BY session_id HAVING count(*) > 1),
        told AS (SELECT s.*, md5({CONTENT}) AS content FROM searches AS s SEMI JOIN several USING (session_id)),
        placed AS (
            SELECT rid,
                row_number() OVER (PARTITION BY session_id, content ORDER BY object, line) AS copy,
                dense_rank() OVER (PARTITION BY session_id ORDER BY time_us, content) AS version
            FROM told
        )
        SELECT rid, CASE WHEN copy > 1 THEN '{DUPLICATE}' ELSE '{CONFLICT}' END FROM placed
        WHERE copy > 1 OR version > 1
        """
    )


def drop_noise(day: Workspace, noise: Noise) -> None:
    """Filter robots and what is too much of one client or one query.

    Args:
        day: With `searches` and `dropped`.
        noise: The rules; each sees what those before it left.
    """
    # Most clients search once or twice a day; only the others are looked at.
    day.run(
        f"""
        CREATE TABLE clients AS
        SELECT client, count(*) AS n FROM {_LEFT} WHERE client IS NOT NULL GROUP BY client HAVING n > 1
        """
    )
    if noise.max_sessions_per_minute:
        _drop_too_fast(day, noise.max_sessions_per_minute)
    if noise.typing_pause_s:
        _drop_typing(day, noise.typing_pause_s)
    for rule, key, limit in (
        ("client_query_cap", "client, query", noise.max_sessions_per_client_query),
        ("client_cap", "client", noise.max_sessions_per_client),
        ("query_cap", "query", noise.max_sessions_per_query),
    ):
        if limit:
            _drop_above(day, rule, key, limit, "searches")
    if noise.max_sessions_per_client_item:
        clicks = "(SELECT * REPLACE (unnest(clicked) AS clicked) FROM searches)"
        _drop_above(day, "client_item_cap", "client, clicked", noise.max_sessions_per_client_item, clicks)


def _drop_above(day: Workspace, rule: str, key: str, limit: int, searches: str) -> None:
    """Drop what comes after the first `limit` searches of one key; those without a client have none to be capped by."""
    busy = "SEMI JOIN (SELECT client FROM clients WHERE n > $limit) USING (client)" if "client" in key else ""
    # An ordinary day has few keys above the limit, and only their searches are put in order.
    day.run(
        f"""
        INSERT INTO dropped
        WITH told AS (SELECT * FROM {searches} AS s {busy} ANTI JOIN dropped USING (rid)),
        many AS (SELECT {key} FROM told GROUP BY ALL HAVING count(*) > $limit),
        placed AS (
            SELECT rid, row_number() OVER (PARTITION BY {key} ORDER BY time_us, session_id) AS place
            FROM told SEMI JOIN many USING ({key})
        )
        SELECT DISTINCT rid, '{rule}' FROM placed WHERE place > $limit
        """,
        {"limit": limit},
    )


def _drop_too_fast(day: Workspace, limit: int) -> None:
    day.run(
        f"""
        INSERT INTO dropped
        WITH fast AS (
            SELECT client, time_us // 60000000 AS minute FROM {_LEFT}
            SEMI JOIN (SELECT client FROM clients WHERE n > $limit) USING (client)
            GROUP BY ALL HAVING count(*) > $limit
        )
        SELECT rid, 'too_fast' FROM {_LEFT} SEMI JOIN fast
        ON s.client = fast.client AND s.time_us // 60000000 = fast.minute
        """,
        {"limit": limit},
    )


def _drop_typing(day: Workspace, pause_s: float) -> None:
    day.run(
        f"""
        INSERT INTO dropped
        WITH followed AS (
            SELECT rid, query, len(clicked) AS n_clicked, time_us,
                lead(time_us) OVER next AS next_us, lead(query) OVER next AS next_query
            FROM {_LEFT} SEMI JOIN clients USING (client)
            WINDOW next AS (PARTITION BY client ORDER BY time_us, session_id)
        )
        SELECT rid, 'typing' FROM followed
        WHERE n_clicked = 0 AND next_us - time_us <= $pause AND query <> next_query
            AND (starts_with(next_query, query) OR starts_with(query, next_query))
        """,
        {"pause": round(pause_s * 1_000_000)},
    )
