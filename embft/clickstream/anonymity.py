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
    return searched_by(clients_of_queries(sessions), min_clients)


def clients_of_queries(sessions: pa.Table) -> pa.Table:
    """Count the different clients that searched for each query.

    Args:
        sessions: Columns query and client, null where unknown.

    Returns:
        Columns query and clients, a row for each query.
    """
    known = pc.CountOptions(mode="only_valid")
    counted = sessions.group_by("query").aggregate([("client", "count_distinct", known)])
    return counted.rename_columns({"client_count_distinct": "clients"}).select(["query", "clients"])


def searched_by(counted: pa.Table, min_clients: int) -> frozenset[str] | None:
    """Name the queries that enough clients searched for.

    Args:
        counted: Of `clients_of_queries`.
        min_clients: `logs.privacy.min_clients`, at least 1.

    Returns:
        As `shareable_queries`.
    """
    if min_clients <= 1:
        return None
    return frozenset(counted.filter(pc.greater_equal(counted["clients"], min_clients))["query"].to_pylist())
