"""What a shopper types who wants a certain item: seldom the catalogue's words."""

from bisect import bisect_right
from datetime import date
from functools import cache

import numpy as np

from embft.clickstream.shop import Product, Shop

_IN_FASHION = 0.5  # share of a fad's kind that says the fad's word
_WITH_FEATURE = 0.4  # share that adds what the item should be like
_OWN_FEATURE_WORD = 0.7  # share of those that say it in their own words
_MIN_SLIP_LETTERS = 5


class QueryWriter:
    """Writes queries.

    Args:
        shop: The catalogue and its shoppers' words.
        day: Decides which words are in fashion.
        generator: Source of chance.
    """

    def __init__(self, shop: Shop, day: date, generator: np.random.Generator) -> None:
        self._words = shop.words
        self._fads = shop.words.fads_of(day)
        self._generator = generator
        self._found: dict[str, list[str]] = {}  # item → words of it that name features

    def write(self, wanted: Product) -> str:
        """Write what one shopper types.

        Args:
            wanted: The item in mind.

        Returns:
            The query, sometimes with a slip of the finger.
        """
        query = self._name(wanted.kind)
        if self._happens(_WITH_FEATURE):
            feature = self._feature(wanted)
            query = f"{feature} {query}" if self._happens(0.5) else f"{query} {feature}"
        query = " ".join(query.split())
        return self._with_slip(query) if self._happens(self._words.misspelt) else query

    def _name(self, kind: str) -> str:
        if kind in self._fads and self._happens(_IN_FASHION):
            return self._fads[kind]
        if self._happens(self._words.plain):
            return kind
        names = self._words.kinds[kind]
        # As generator.choice(len(names), p=…) draws, to the bit, in a tenth of its time.
        return names[bisect_right(_shares_up_to(len(names)), self._generator.random())]

    def _feature(self, wanted: Product) -> str:
        found = self._found.get(wanted.id)
        if found is None:
            text = wanted.text.lower()
            found = self._found[wanted.id] = [word for word in self._words.features if word in text]
        if not found:
            return ""
        feature = found[self._generator.integers(len(found))]
        if not self._happens(_OWN_FEATURE_WORD):
            return feature
        said = self._words.features[feature]
        return said[self._generator.integers(len(said))]

    def _with_slip(self, query: str) -> str:
        """Swap two neighbouring letters, not the first."""
        if len(query) < _MIN_SLIP_LETTERS:
            return query
        at = int(self._generator.integers(1, len(query) - 1))
        return " ".join((query[:at] + query[at + 1] + query[at] + query[at + 2 :]).split())

    def _happens(self, probability: float) -> bool:
        return bool(self._generator.random() < probability)


@cache
def _shares_up_to(count: int) -> list[float]:
    """Give the cumulative shares of names of which the n-th is said 1/n as often as the first."""
    weights = 1 / np.arange(1, count + 1)
    shares = (weights / weights.sum()).cumsum()
    return (shares / shares[-1]).tolist()  # type: ignore[no-any-return]
