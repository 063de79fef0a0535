"""Which held-out queries are head, torso, tail and unseen."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

HEAD, TORSO, TAIL = "head", "torso", "tail"


def query_slices(queries: Iterable[str], trained_on: Iterable[str]) -> dict[str, set[str]]:
    """Sort queries by how often they were searched in what was trained on.

    The queries searched most, that make up a third of the clicked searches, are the head; those that make up the next
    third are the torso; all others are the tail, and with them the unseen ones, which were not searched at all. Queries
    searched equally often are of one slice.

    Args:
        queries: Of the held-out sessions.
        trained_on: The query of each clicked train session.

    Returns:
        head, torso, tail and unseen → the held-out queries in it; unseen is a part of tail.
    """
    counts = Counter(trained_on)
    total = sum(counts.values())
    slice_of_count: dict[int, str] = {}
    before = 0
    by_count = Counter(counts.values())  # how many queries were searched so often
    for count in sorted(by_count, reverse=True):
        slice_of_count[count] = HEAD if 3 * before < total else TORSO if 3 * before < 2 * total else TAIL
        before += count * by_count[count]
    slices: dict[str, set[str]] = {HEAD: set(), TORSO: set(), TAIL: set(), "unseen": set()}
    for query in set(queries):
        count = counts[query]
        slices[slice_of_count[count] if count else TAIL].add(query)
        if not count:
            slices["unseen"].add(query)
    return slices


def slices_of(query: str, slices: Mapping[str, Collection[str]]) -> list[str]:
    """Name the slices that a query is in, in their order."""
    return [name for name, queries in slices.items() if query in queries]
