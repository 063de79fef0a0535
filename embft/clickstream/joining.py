"""Events → searches: joined by search id, or by client and time where there is none.

An event of a search: the search itself (its query, and perhaps the ids of its results), an impression, a click, and
what follows a click. A search is told by all of them together:

- its query and time are those of the earliest search event; without one, those of the earliest event that has a query;
- what was shown are its impressions by position, or else the result ids of the search event;
- what was clicked are the items of clicks and what follows them, each with its strongest action, in order of time.

The outcome depends on the events alone, not on their order or on how they are spread over objects.
"""

from embft.clickstream.records import Kind
from embft.clickstream.workspace import Workspace

NO_SEARCH = "no_search"  # events whose search is not in the log, and that do not tell the query themselves
NOTHING_SHOWN = "nothing_shown"  # searches with neither results nor clicks
CLICK_WITHOUT_IMPRESSION = "click_without_impression"

# Of `joined`: the searches that are of use.
TELLING = "query IS NOT NULL AND (len(clicked) > 0 OR (shown IS NOT NULL AND n_unseen = 0))"

_ROWS_AT_ONCE = 1_000_000

# An event without an id is the same as another if it says the same.
_CONTENT = "to_json(struct_pack(kind, search_id, time_us, client, query, item, position, shown, dwell_s))"


def drop_copied_events(day: Workspace) -> int:
    """Keep one delivery of each event.

    Args:
        day: With `records` of the form of events; gets `events`.

    Returns:
        How many copies were left out.
    """
    day.run(
        f"""
        CREATE TABLE events AS
        WITH named AS (
            SELECT *, md5({_CONTENT}) AS content, coalesce('id ' || event_id, content) AS name FROM records
        )
        SELECT * EXCLUDE (content, name, event_id, object, line) FROM named
        QUALIFY row_number() OVER (PARTITION BY name ORDER BY time_us, content, object, line) = 1
        """
    )
    ((before,),) = day.rows("SELECT count(*) FROM records")
    ((after,),) = day.rows("SELECT count(*) FROM events")
    return int(before - after)


def join_searches(day: Workspace, inactivity_minutes: int) -> dict[str, int]:
    """Join events to searches.

    Args:
        day: With `events`; gets `joined`: the searches, with n_lines and the events that were left out of them.
        inactivity_minutes: A pause of a client that ends a search, for events without a search id.

    Returns:
        Rule → events that are part of no search.
    """
    day.run(_NAMED, {"pause": inactivity_minutes * 60_000_000})
    ((n_rows,),) = day.rows("SELECT count(*) FROM named")
    day.run(_EMPTY_JOINED)
    # Lists are put together in memory: so many at a time as fit.
    n_parts = 1 + n_rows // _ROWS_AT_ONCE
    for part in range(n_parts):
        day.run(_JOINED, {"part": part, "parts": n_parts})
    counts = day.rows(
        f"""
        SELECT CASE WHEN query IS NULL THEN '{NO_SEARCH}' WHEN len(clicked) > 0 OR n_unseen > 0
                THEN '{CLICK_WITHOUT_IMPRESSION}' ELSE '{NOTHING_SHOWN}' END AS rule,
            -- A search that keeps some of its clicks stays; one that keeps none is not one that nobody clicked in.
            sum(CASE WHEN query IS NOT NULL AND len(clicked) > 0 THEN n_unseen ELSE n_lines END)
        FROM joined WHERE NOT ({TELLING}) OR n_unseen > 0 GROUP BY rule
        """
    )
    return {rule: int(n_lines) for rule, n_lines in counts}


# Without a search id, a client's events belong to the client's last search, unless a pause lies between.
_NAMED = f"""
CREATE TABLE named AS
WITH loose AS (
    SELECT *,
        kind = {int(Kind.SEARCH)} OR time_us - lag(time_us) OVER own > $pause OR lag(time_us) OVER own IS NULL AS begins
    FROM events WHERE search_id IS NULL
    WINDOW own AS (PARTITION BY client ORDER BY time_us, kind, query, item, position)
)
SELECT kind, time_us, client, query, item, position, shown, dwell_s, search_id AS session_id
FROM events WHERE search_id IS NOT NULL
UNION ALL BY NAME
SELECT * EXCLUDE (begins, search_id),
    md5(client || ' ' || max(CASE WHEN begins THEN time_us END) OVER (
        PARTITION BY client ORDER BY time_us, kind, query, item, position ROWS UNBOUNDED PRECEDING
    ))[:16] AS session_id
FROM loose
"""

_EMPTY_JOINED = """
CREATE TABLE joined (
    session_id VARCHAR, time_us BIGINT, client VARCHAR, query VARCHAR, shown VARCHAR[], positions INTEGER[],
    clicked VARCHAR[], actions TINYINT[], dwell_s FLOAT[], n_lines BIGINT, n_unseen BIGINT
)
"""

_JOINED = f"""
INSERT INTO joined BY NAME
WITH part AS (SELECT * FROM named WHERE hash(session_id) % $parts = $part),
heads AS (
    SELECT session_id, count(*) AS n_events,
        coalesce(min(time_us) FILTER (kind = {int(Kind.SEARCH)}), min(time_us)) AS time_us,
        arg_min(query, (kind > 0, time_us, query)) FILTER (query IS NOT NULL) AS query,
        arg_min(client, (time_us, client)) FILTER (client IS NOT NULL) AS client,
        arg_min(shown, (time_us, shown)) FILTER (len(shown) > 0) AS found,
    FROM part GROUP BY session_id
),
items AS (
    SELECT session_id, item,
        min((coalesce(position, 2147483647), time_us)) FILTER (kind = {int(Kind.IMPRESSION)}) AS seen,
        min(position) FILTER (kind = {int(Kind.IMPRESSION)}) AS position,
        min(time_us) FILTER (kind > {int(Kind.IMPRESSION)}) AS clicked_us,
        max(kind) FILTER (kind > {int(Kind.IMPRESSION)}) AS action,
        max(dwell_s) FILTER (kind > {int(Kind.IMPRESSION)}) AS dwell_s,
        count(*) FILTER (kind > {int(Kind.IMPRESSION)}) AS n_clicks
    FROM part WHERE item IS NOT NULL AND kind > 0 GROUP BY session_id, item
),
lists AS (
    SELECT session_id,
        list(item ORDER BY seen, item) FILTER (seen IS NOT NULL) AS impressions,
        list(position ORDER BY seen, item) FILTER (seen IS NOT NULL) AS positions,
    FROM items GROUP BY session_id
),
shown AS (
    SELECT h.* EXCLUDE (found), coalesce(impressions, found) AS shown, positions,
        CASE WHEN list_min(positions) = 0 THEN 1 ELSE 0 END AS shift,
        impressions IS NOT NULL AS has_impressions, CASE WHEN impressions IS NULL THEN found END AS found
    FROM heads AS h LEFT JOIN lists USING (session_id)
),
clicks AS (
    SELECT session_id,
        list(item ORDER BY clicked_us, item) FILTER (is_seen) AS clicked,
        list(action ORDER BY clicked_us, item) FILTER (is_seen) AS actions,
        list(i.dwell_s ORDER BY clicked_us, item) FILTER (is_seen) AS dwell_s,
        coalesce(sum(n_clicks) FILTER (NOT is_seen), 0) AS n_unseen
    FROM (
        -- A list of impressions may be of any length, and would stand beside each of its clicks.
        SELECT items.*,
            CASE WHEN has_impressions THEN seen IS NOT NULL
                ELSE found IS NULL OR list_contains(found, item) END AS is_seen
        FROM items JOIN (SELECT session_id, has_impressions, found FROM shown) USING (session_id)
        WHERE clicked_us IS NOT NULL
    ) AS i
    GROUP BY session_id
)
SELECT session_id, time_us, client, query, shown,
    -- Counted from 1, also where a list counts from 0. A list whose places are not all known is in order of time.
    CASE WHEN len(positions) > 0 AND list_count(positions) = len(positions) THEN
        list_transform(positions, lambda x: x + shift)
    END AS positions,
    coalesce(clicked, []) AS clicked, coalesce(actions, []) AS actions, coalesce(dwell_s, []) AS dwell_s,
    n_events AS n_lines, coalesce(n_unseen, 0) AS n_unseen
FROM shown LEFT JOIN clicks USING (session_id)
"""
