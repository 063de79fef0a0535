"""Which queries are the same search: those that differ in case or spaces, and slips of the finger.

Free of everything else, for the log's reader and the fine-tuner must agree about it.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

OFTEN = 10
"""A query is taken for a slip of another one that is searched at least so many times as often."""

OF_ITS_OWN = 3
"""A query searched so many times is no slip of one with which it has no clicked item in common: a table is no tablet.

Of 444 slips in two months of Best Buy clicks one is lost by that, "dragonball z".
"""

_LEAST_LETTERS = 5  # of a word that may hold a slip: of the shorter ones, too many are a slip away from another word
_MOST_LETTERS = 100  # of a query: what is longer was pasted, or no person typed it, and its slips take seconds to find


def query_identity(query: object) -> str:
    """What makes two queries the same: the text, casefolded, with runs of whitespace as one space and none around.

    Args:
        query: A session's query; what is no text counts by its `str`.

    Returns:
        A key, never shown to a model.
    """
    return " ".join(str(query).casefold().split())


class SameQueries:
    """Tells which queries share their evidence: those of one identity, and a slip with what was meant.

    A query is a slip of another one if that is searched `OFTEN` times as often, begins with the same character, and is
    one typing slip away, a letter put in, left out, put in place of another or swapped with its neighbour, in a word of
    five letters or more without a digit: another model number is another product. A space too many or too few is a
    slip in any word. Of several such queries the one searched most often is meant. Two queries are two where people
    chose otherwise: see `OF_ITS_OWN`. Words of Chinese, Japanese and Korean hold no slip: a character is a syllable or
    a word there, and another one another product.

    Each query is compared with those that lose the same letter, not with all: 100,000 take a second or two.

    Args:
        queries: Of all clicked sessions, each as often as it was searched.
        clicked: Ids clicked in each of the sessions.
    """

    def __init__(self, queries: Sequence[object], clicked: Sequence[Collection[str]]) -> None:
        self._identity: dict[object, str] = {}  # a log has few distinct queries for its sessions
        counts: dict[str, int] = defaultdict(int)
        for query in queries:
            identity = self._identity.get(query)
            if identity is None:
                identity = self._identity[query] = query_identity(query)
            counts[identity] += 1
        self.meant = slips(counts, self._clicks(queries, clicked, counts))
        """Slip → what was meant, both as `query_identity` gives them."""
        self._spellings = self._all_spellings()

    def key(self, query: object) -> str:
        """What queries that share their evidence have in common; also of a query that was not among those given."""
        identity = self._identity.get(query) or query_identity(query)
        return self.meant.get(identity, identity)

    def spellings(self, query: object) -> list[str]:
        """Ways in which the search was typed, what was meant and its slips; none where there is no slip of it."""
        return self._spellings.get(self.key(query), [])

    def _clicks(
        self, queries: Sequence[object], clicked: Sequence[Collection[str]], counts: Mapping[str, int]
    ) -> dict[str, set[str]]:
        """Gather what was clicked for each query, but for the rare ones, of which it is not asked."""
        clicks: dict[str, set[str]] = {identity: set() for identity, count in counts.items() if count >= OF_ITS_OWN}
        for query, ids in zip(queries, clicked, strict=True):
            known = clicks.get(self._identity[query])
            if known is not None:
                known.update(ids)
        return clicks

    def _all_spellings(self) -> dict[str, list[str]]:
        typed: dict[str, str] = {}
        for query, identity in self._identity.items():
            typed.setdefault(identity, str(query))
        spellings = {meant: [typed[meant]] for meant in self.meant.values()}
        for slip, meant in self.meant.items():
            spellings[meant].append(typed[slip])
        return spellings


def slips(counts: Mapping[str, int], clicks: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Find the queries that are slips of others, as `SameQueries` says.

    Args:
        counts: Query, as `query_identity` gives it → how often it is searched, >= 1.
        clicks: Query → ids clicked for it, of each that is searched `OF_ITS_OWN` times or more.

    Returns:
        Slip → what was meant, which is itself no slip; queries that are none are left out.
    """
    by_part: dict[str, list[str]] = defaultdict(list)
    typed = {query: count for query, count in counts.items() if len(query) <= _MOST_LETTERS}
    for query, count in typed.items():
        if count >= OFTEN and len(query) >= _LEAST_LETTERS:
            for part in _without_one(query):
                by_part[part].append(query)
    nearest: dict[str, str] = {}
    for query, count in typed.items():
        near = {it for part in _without_one(query) for it in by_part.get(part, ())}
        meant = [it for it in near if counts[it] >= OFTEN * count and it[0] == query[0] and _is_slip(query, it)]
        if count >= OF_ITS_OWN:
            meant = [it for it in meant if not set(clicks[query]).isdisjoint(clicks[it])]
        if meant:
            nearest[query] = max(meant, key=lambda it: (counts[it], it))
    # A slip of a slip means what that one means: counts rise by the factor each time, so this comes to an end.
    return {query: _end_of(nearest, meant) for query, meant in nearest.items()}


def _without_one(query: str) -> Iterator[str]:
    """The query itself, and without each of its characters: two that are one slip apart have one of these in common."""
    yield query
    for place in range(len(query)):
        yield query[:place] + query[place + 1 :]


def _is_slip(one: str, other: str) -> bool:
    """Whether two different texts are one slip apart, in words that may hold one."""
    start = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    most = min(len(one), len(other)) - start
    end = next((i for i in range(most) if one[-1 - i] != other[-1 - i]), most)
    parts = [text[start : len(text) - end] for text in (one, other)]
    if sorted(parts) == ["", " "]:
        return True
    is_swap = len(parts[0]) == 2 and parts[0] == parts[1][::-1]
    if not is_swap and max(map(len, parts)) > 1:
        return False
    words = [_word_around(text, start, len(text) - end) for text in (one, other)]
    return max(map(len, words)) >= _LEAST_LETTERS and all(map(_may_be_mistyped, "".join(words)))


def _may_be_mistyped(char: str) -> bool:
    return not char.isdigit() and unicodedata.east_asian_width(char) not in ("W", "F")


def _word_around(text: str, start: int, end: int) -> str:
    """The words that the characters from `start` to `end` touch."""
    before, after = text.rfind(" ", 0, start) + 1, text.find(" ", end)
    return text[before : len(text) if after < 0 else after]


def _end_of(nearest: Mapping[str, str], query: str) -> str:
    while query in nearest:
        query = nearest[query]
    return query
