"""What stays the same on all simulated days: the shop, what is popular in it, and what attracts whom."""

from datetime import date
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embft.clickstream.click_model import Floats
from embft.clickstream.lexical import LexicalRanker
from embft.clickstream.shop import Shop

LIST_LENGTH = 10
LIKES_WANTED, LIKES_KIND, LIKES_DEPARTMENT = 0.95, 0.3, 0.01

_ZIPF_EXPONENT = 0.7
_DRIFT = 0.8  # popularity swings by up to e^0.8, about 2.2, up and down
_DRIFT_PERIOD_DAYS = (20, 60)
_FAD_LIFT = 3.0

Rows = NDArray[np.int64]


class Scene:
    """What stays the same on all days.

    Args:
        shop: The catalogue and its shoppers' words.
        seed: Same seed, same logs.
    """

    def __init__(self, shop: Shop, seed: int) -> None:
        self.shop = shop
        self.seed = seed
        self.ids = [product.id for product in shop.products]
        # Numbers in place of names: comparing them takes an eighth of the time and memory.
        self.kinds = _numbered([product.kind for product in shop.products])
        self.departments = _numbered([product.department for product in shop.products])
        self.rows_of = [np.flatnonzero(self.departments == it) for it in range(self.departments.max() + 1)]
        self._ranker = LexicalRanker([product.text for product in shop.products])
        self._scores: dict[tuple[str, int], Floats] = {}

    @cached_property
    def list_length(self) -> int:
        """Ten, or what the smallest department has."""
        return min(LIST_LENGTH, *map(len, self.rows_of))

    def popularity(self, day: date) -> Floats:
        """Give the share of shoppers that want each item: Zipf's law, swinging slowly, lifted by what is in fashion.

        Args:
            day: Any.

        Returns:
            float64 [items], sum 1.
        """
        n_items = len(self.ids)
        generator = np.random.default_rng([self.seed])
        share: Floats = np.power(1.0 + generator.permutation(n_items), -_ZIPF_EXPONENT)
        turns = day.toordinal() / generator.uniform(*_DRIFT_PERIOD_DAYS, n_items) + generator.random(n_items)
        share *= np.exp(_DRIFT * np.sin(2 * np.pi * turns))
        fads = self.shop.words.fads_of(day)
        share[[product.kind in fads for product in self.shop.products]] *= _FAD_LIFT
        share /= share.sum()
        return share

    def lexical_scores(self, query: str, department: int) -> Floats:
        """Give the lexical match of a department's items; people say the same things over and over, so it is kept.

        Args:
            query: As typed.
            department: Its number.

        Returns:
            float64 [items of the department].
        """
        found = self._scores.get((query, department))
        if found is None:
            found = self._ranker.scores(query)[self.rows_of[department]]
            self._scores[query, department] = found
        return found

    def attraction(self, wanted: Rows, shown: Rows) -> Floats:
        """Give the probability that a shopper who looks at an item clicks it: what is wanted, its kind, and the rest.

        Args:
            wanted: Rows of the items in mind, [searches].
            shown: Rows of the results, [searches, positions].

        Returns:
            float64 [searches, positions].
        """
        same_kind = self.kinds[shown] == self.kinds[wanted][:, None]
        attraction = np.where(same_kind, LIKES_KIND, LIKES_DEPARTMENT)
        return np.where(shown == wanted[:, None], LIKES_WANTED, attraction)


def _numbered(names: list[str]) -> Rows:
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
