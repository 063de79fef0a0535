"""Which queries a night's model serves better or worse than the one it would replace: numbers that people can read."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from math import isfinite

from pydantic import Field

from embft.promotion.evaluation import Numbers
from embft.results import Record

CHANGED_QUERIES = "changed_queries.json"
TOP = 5
_MOST = 10
_SAME = 1e-9


class Hit(Record):
    """A result as people see it."""

    id: str
    text: str = Field(description="Of the item, cut where it is long.")
    clicked: bool = Field(description="Whether it was clicked for the query on the held-out days.")


class ChangedQuery(Record):
    """A query, and what became of its results."""

    query: str
    n_sessions: int = Field(description="Held-out clicked sessions that searched for it.")
    before: float = Field(description="Mean nDCG@10 of the opponent over them.")
    after: float = Field(description="The candidate's.")
    top_before: tuple[Hit, ...] = ()
    top_after: tuple[Hit, ...] = ()


class ChangedQueries(Record):
    """`changed_queries.json`: where people will notice, sessions × change of nDCG@10, the biggest change first."""

    candidate: str
    opponent: str
    n_gained: int = Field(description="Different queries, whether or not they may be named.")
    n_lost: int
    n_same: int
    n_unnamed: int = Field(description="Of those that changed: searched by too few people to be named.")
    min_clients: int = Field(description="`logs.privacy.min_clients`, of which that depends.")
    gained: tuple[ChangedQuery, ...]
    lost: tuple[ChangedQuery, ...]


def changed_queries(
    queries: Sequence[str],
    before: Numbers,
    after: Numbers,
    *,
    candidate: str,
    opponent: str,
    shareable: Collection[str] | None,
    min_clients: int,
) -> ChangedQueries:
    """Find the queries that gained and lost most.

    Args:
        queries: Of each held-out session, as the log has it.
        before: nDCG@10 of the opponent, float64 [sessions]; a session without a figure of both is left out.
        after: The candidate's.
        candidate: Its name.
        opponent: Its name.
        shareable: Queries that may be named; None: all.
        min_clients: People who must have searched for a query that is named.

    Returns:
        At most ten of either, without their results.
    """
    of_query: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for query, old, new in zip(queries, before.tolist(), after.tolist(), strict=True):
        if isfinite(old) and isfinite(new):
            of_query[query].append((old, new))
    change = {query: sum(new - old for old, new in rows) for query, rows in of_query.items()}
    changed = {query: by for query, by in change.items() if abs(by) > _SAME}
    named = {query: by for query, by in changed.items() if shareable is None or query in shareable}
    by_change = sorted(named, key=lambda query: (-abs(named[query]), query))
    return ChangedQueries(
        candidate=candidate,
        opponent=opponent,
        n_gained=sum(by > 0 for by in changed.values()),
        n_lost=sum(by < 0 for by in changed.values()),
        n_same=len(change) - len(changed),
        n_unnamed=len(changed) - len(named),
        min_clients=min_clients,
        gained=tuple(_told(it, of_query[it]) for it in by_change if named[it] > 0)[:_MOST],
        lost=tuple(_told(it, of_query[it]) for it in by_change if named[it] < 0)[:_MOST],
    )


def _told(query: str, rows: Sequence[tuple[float, float]]) -> ChangedQuery:
    before, after = (sum(figures) / len(rows) for figures in zip(*rows, strict=True))
    return ChangedQuery(query=query, n_sessions=len(rows), before=before, after=after)
