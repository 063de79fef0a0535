"""Which queries a page may show: those that several people searched for, so that none of them can be made out."""

import pyarrow as pa
import pyarrow.compute as pc


def shareable_queries(sessions: pa.Table, min_clients: int) -> frozenset[str] | None:
    """Name the queries that at least `min_clients` different clients searched for.

    A session of unknown client adds nothing: it may be anybody's, and one person's five searches are five sessions,
    maybe on five days. So a log that does not say who searched has no shareable query, unless one client is enough.

    Args:
        sessions: Columns query and client, null where unknown.
        min_clients: `logs.privacy.min_clients`, at least 1.

    Returns:
        The queries; None where one client is enough, and so every query may be shown.
    """
    if min_clients <= 1:
        return None
    known = pc.CountOptions(mode="only_valid")
    clients = sessions.group_by("query").aggregate([("client", "count_distinct", known)])
    enough = pc.greater_equal(clients["client_count_distinct"], min_clients)
    return frozenset(clients.filter(enough)["query"].to_pylist())
