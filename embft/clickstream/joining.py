"""Events → searches: joined by search id, or by client and time where there is none.

An event of a search: the search itself (its query, and perhaps the ids of its results), an impression, a click, and
what follows a click. A search is told by all of them together:

- its query and time are those of the earliest search event; without one, those of the earliest event that has a query;
- if any of them holds a private query, the search is private, and left out as a whole;
- what was shown are its impressions by position, or else the result ids of the search event;
- what was clicked are the items of clicks and what follows them, each with its strongest action, in order of time.

The outcome depends on the events alone, not on their order or on how they are spread over objects.
"""

from embft.clickstream.records import PRIVATE, Kind
from embft.clickstream.sources import PRIVATE_QUERY
from embft.clickstream.workspace import Workspace

NO_SEARCH = "no_search"  # events whose search is not in the log, and that do not tell the query themselves
NOTHING_SHOWN = "nothing_shown"  # searches with neither results nor clicks
CLICK_WITHOUT_IMPRESSION = "click_without_impression"

# Of `joined`: the searches that are of use.
TELLING = f"coalesce(query, '{PRIVATE}') <> '{PRIVATE}' AND (len(clicked) > 0 OR (shown IS NOT NULL AND n_unseen = 0))"

_ROWS_AT_ONCE = 1_000_000

# An event without an id is the same as another if it says the same.
_SAID = "kind, search_id, time_us, client, query, item, position, shown, dwell_s"


def drop_copied_events(day: Workspace) -> int:
    """Keep one delivery of each event.

    Args:
        day: With `records` of the form of events; gets `copies`, the rows to be left out.

    Returns:
        How many there are.
    """
    # Few events are delivered twice: only those whose hash comes again are compared by what they say.
    day.run(
        f"""
        CREATE TABLE copies AS
        WITH hashed AS (
            SELECT rowid AS rid,
                CASE WHEN event_id IS NULL THEN hash({_SAID}) ELSE hash(event_id, search_id, client) END AS h
            FROM records
        ),
        several AS (SELECT h FROM hashed GROUP BY h HAVING count(*) > 1),
        told AS (
            SELECT records.rowid AS rid, event_id, search_id, client, object, line, time_us,
                to_json(struct_pack({_SAID})) AS said
            FROM records JOIN (FROM hashed SEMI JOIN several USING (h)) AS suspects ON records.rowid = suspects.rid
        )
        SELECT rid FROM told
        QUALIFY row_number() OVER (
            -- Some logs count the events of each search anew.
            PARTITION BY event_id, search_id, client, CASE WHEN event_id IS NULL THEN said END
            ORDER BY time_us, said, object, line
        ) > 1
        """
    )
    ((n_copies,),) = day.rows("SELECT count(*) FROM copies")
    return int(n_copies)


def join_searches(day: Workspace, inactivity_minutes: int) -> dict[str, int]:
    """Join events to searches.

    Args:
        day: With `records` and `copies`; gets `joined`: the searches, with n_lines and the events left out of them.
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
        SELECT CASE WHEN query IS NULL THEN '{NO_SEARCH}'
                WHEN query = '{PRIVATE}' THEN '{PRIVATE_QUERY}'
                WHEN len(clicked) > 0 OR n_unseen > 0 THEN '{CLICK_WITHOUT_IMPRESSION}'
                ELSE '{NOTHING_SHOWN}' END AS rule,
            -- A search that keeps some of its clicks stays; one that keeps none is not one that nobody clicked in.
            sum(CASE WHEN {TELLING} THEN n_unseen ELSE n_lines END)
        FROM joined WHERE NOT ({TELLING}) OR n_unseen > 0 GROUP BY rule
        """
    )
    return {rule: int(n_lines) for rule, n_lines in counts}


# Without a search id, a client's events belong to the client's last search, unless a pause lies between.
_NAMED = f"""
CREATE TABLE named AS
WITH events AS (SELECT * FROM (SELECT *, rowid AS rid FROM records) ANTI JOIN copies USING (rid)),
loose AS (
    SELECT *,
        kind = {int(Kind.SEARCH)} OR time_us - lag(time_us) OVER own > $pause OR lag(time_us) OVER own IS NULL AS begins
    FROM events WHERE search_id IS NULL
    WINDOW own AS (PARTITION BY client ORDER BY time_us, kind, query, item, position)
)
SELECT kind, time_us, client, query, item, position, shown, dwell_s, search_id AS session_id
FROM events WHERE search_id IS NOT NULL
UNION ALL BY NAME
SELECT kind, time_us, client, query, item, position, shown, dwell_s,
    -- Two searches of one client may begin in the same second.
    md5(client || ' ' || to_json(
        max(CASE WHEN begins THEN struct_pack(t := time_us, q := coalesce(query, '')) END) OVER (
            PARTITION BY client ORDER BY time_us, kind, query, item, position ROWS UNBOUNDED PRECEDING
        )
    ))[:16] AS session_id
FROM loose
"""

_EMPTY_JOINED = """
CREATE TABLE joined (
    session_id VARCHAR, time_us BIGINT, client VARCHAR, query VARCHAR, shown VARCHAR[], positions INTEGER[],
    clicked VARCHAR[], actions TINYINT[], dwell_s FLOAT[], n_lines BIGINT, n_unseen BIGINT, has_search BOOLEAN
)
"""

_NOWHERE = 2**31 - 1  # place of an item whose place is not told: behind all others

_JOINED = f"""
INSERT INTO joined BY NAME
WITH part AS (SELECT * FROM named WHERE hash(session_id) % $parts = $part),
heads AS (
    SELECT session_id, count(*) AS n_lines, min(client) AS client, bool_or(kind = {int(Kind.SEARCH)}) AS has_search,
        coalesce(min(time_us) FILTER (kind = {int(Kind.SEARCH)}), min(time_us)) AS time_us
    FROM part GROUP BY session_id
),
queries AS (
    SELECT session_id,
        CASE WHEN bool_or(query = '{PRIVATE}') THEN '{PRIVATE}'
            ELSE arg_min(query, (kind > {int(Kind.SEARCH)}, time_us, query)) END AS query
    FROM part WHERE query IS NOT NULL GROUP BY session_id
),
results AS (
    SELECT session_id, arg_min(shown, (time_us, shown)) AS results FROM part WHERE len(shown) > 0 GROUP BY session_id
),
impressions AS (
    SELECT session_id, item, coalesce(min(position), {_NOWHERE}) AS position, min(time_us) AS seen_us
    FROM part WHERE kind = {int(Kind.IMPRESSION)} GROUP BY session_id, item
),
lists AS (
    -- Sorted as one list of structs: four times as fast as two lists with an order each.
    SELECT session_id,
        list_transform(seen, lambda it: it.item) AS impressions,
        list_transform(seen, lambda it: it.position) AS positions
    FROM (
        SELECT session_id, list_sort(list(struct_pack(position, seen_us, item))) AS seen
        FROM impressions GROUP BY session_id
    )
),
shown AS (
    SELECT session_id, coalesce(impressions, results) AS shown, positions, impressions IS NOT NULL AS has_impressions
    FROM lists FULL JOIN results USING (session_id)
),
clicks AS (
    SELECT session_id, item, min(time_us) AS clicked_us, max(kind) AS action, max(dwell_s) AS dwell_s, count(*) AS n
    FROM part WHERE kind > {int(Kind.IMPRESSION)} AND item IS NOT NULL GROUP BY session_id, item
),
clicked AS (
    SELECT session_id,
        list(item ORDER BY clicked_us, item) FILTER (is_seen) AS clicked,
        list(action ORDER BY clicked_us, item) FILTER (is_seen) AS actions,
        list(dwell_s ORDER BY clicked_us, item) FILTER (is_seen) AS dwell_s,
        coalesce(sum(n) FILTER (NOT is_seen), 0) AS n_unseen
    FROM (
        -- A list of impressions may be of any length, and would stand beside each of its clicks.
        SELECT clicks.*,
            CASE WHEN has_impressions THEN seen_us IS NOT NULL
                ELSE alone IS NULL OR list_contains(alone, item) END AS is_seen
        FROM clicks LEFT JOIN impressions USING (session_id, item) LEFT JOIN (
            SELECT session_id, has_impressions, CASE WHEN NOT has_impressions THEN shown END AS alone FROM shown
        ) USING (session_id)
    )
    GROUP BY session_id
)
SELECT session_id, time_us, client, query, shown,
    -- Counted from 1, also where a list counts from 0. A list whose places are not all known is in order of time.
    CASE WHEN positions[-1] < {_NOWHERE} THEN
        CASE WHEN positions[1] = 0 THEN list_transform(positions, lambda x: x + 1) ELSE positions END
    END AS positions,
    coalesce(clicked, []) AS clicked, coalesce(actions, []) AS actions, coalesce(dwell_s, []) AS dwell_s,
    n_lines, coalesce(n_unseen, 0) AS n_unseen, has_search
FROM heads LEFT JOIN queries USING (session_id) LEFT JOIN shown USING (session_id) LEFT JOIN clicked USING (session_id)
"""
