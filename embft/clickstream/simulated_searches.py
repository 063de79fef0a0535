"""A day's searches of the made-up shop: who wants what, what they type, what they are shown, and what they click.

The order in which chance is drawn is part of the result: the README's figures stand on its bytes. Whole arrays are
drawn where numpy draws the same numbers for an array as one by one.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embft.clickstream.click_model import ClickModel, Floats
from embft.clickstream.lexical import LexicalRanker
from embft.clickstream.queries import QueryWriter
from embft.clickstream.shop import Shop

LIST_LENGTH = 10
LIKES_WANTED, LIKES_KIND, LIKES_DEPARTMENT = 0.95, 0.3, 0.01

_ZIPF_EXPONENT = 0.7
_DRIFT = 0.8  # popularity swings by up to e^0.8, about 2.2, up and down
_DRIFT_PERIOD_DAYS = (20, 60)
_FAD_LIFT = 3.0
_POPULARITY_WEIGHT = 0.5
_EXPLORATION = 0.8  # scale of the chance in the ranking, in BM25's units
_CLIENTS_PER_SESSION = 0.6
_DAY_S = 86_400
_CHUNK = 1 << 14  # searches worked on at once: bounds the memory of a day of any size

Rows = NDArray[np.int64]


class Search(NamedTuple):
    """One search.

    Args:
        search_id: Its name.
        query: As typed.
        client: Who searched.
        second: Of the day, in UTC.
        wanted: Row of the item in mind.
        shown: Rows of the results, in order.
        places: Places of the clicked results in `shown`, from 0.
    """

    search_id: str
    query: str
    client: str
    second: float
    wanted: int
    shown: list[int]
    places: list[int]


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


@dataclass(frozen=True)
class DaySearches:
    """A day's searches as columns: people's first, the bot's after them.

    Args:
        scene: Of all days.
        day: In UTC.
        n_people: Searches by people.
        queries: As typed.
        wanted: Rows of the items in mind, [searches].
        shown: Rows of the results, [searches, positions].
        clicked: bool [searches, positions].
        clients: Who searched.
        seconds: Of the day, float64 [searches].
        looked_at: Share of people's results at each rank that the click model has looked at, float64 [positions].
    """

    scene: Scene
    day: date
    n_people: int
    queries: list[str]
    wanted: Rows
    shown: Rows
    clicked: NDArray[np.bool_]
    clients: list[str]
    seconds: Floats
    looked_at: Floats

    def __len__(self) -> int:
        return len(self.queries)

    def in_time(self) -> Iterator[Search]:
        """Give the searches in the order of time.

        Yields:
            Each search.
        """
        for row in np.argsort(self.seconds, kind="stable").tolist():
            yield Search(
                search_id=hex_name(self.scene.seed, self.day, row),
                query=self.queries[row],
                client=self.clients[row],
                second=float(self.seconds[row]),
                wanted=int(self.wanted[row]),
                shown=self.shown[row].tolist(),
                places=self.clicked[row].nonzero()[0].tolist(),
            )


def searches_of(
    scene: Scene, day: date, *, n_people: int, n_bot: int, model: ClickModel, generator: np.random.Generator
) -> DaySearches:
    """Draw a day's searches.

    Args:
        scene: Of all days.
        day: In UTC.
        n_people: Searches by people.
        n_bot: Searches by a bot, which walks through the catalogue by its own texts, and never clicks.
        model: Draws people's clicks.
        generator: Source of chance.

    Returns:
        The searches.
    """
    popularity = scene.popularity(day)
    wanted = generator.choice(len(popularity), size=n_people + n_bot, p=popularity)
    writer = QueryWriter(scene.shop, day, generator)
    products = scene.shop.products
    queries = [writer.write(products[row]) for row in wanted[:n_people].tolist()]
    queries += [products[row].text for row in wanted[n_people:].tolist()]
    shown = _shown(scene, queries, wanted, popularity, generator)
    clicked, looked_at = _clicked(scene, wanted, shown, n_people, model, generator)
    clients = _clients(n_people, day, scene.seed, generator) + ["c-" + hex_name(scene.seed, "bot")] * n_bot
    seconds = _seconds(len(queries), generator)
    return DaySearches(scene, day, n_people, queries, wanted, shown, clicked, clients, seconds, looked_at)


def hex_name(*parts: object) -> str:
    """Give a name that looks like chance and is none.

    Args:
        parts: What it is the name of.

    Returns:
        16 hexadecimal digits.
    """
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:16]


def _shown(scene: Scene, queries: list[str], wanted: Rows, popularity: Floats, generator: np.random.Generator) -> Rows:
    """Rank the department: lexical match, popularity, and chance, by which a shop learns of what nobody has seen."""
    liked = [_POPULARITY_WEIGHT * np.log(popularity[rows]) for rows in scene.rows_of]
    sizes = np.array([len(rows) for rows in scene.rows_of])
    departments = scene.departments[wanted]
    shown = np.empty((len(queries), scene.list_length), dtype=np.int64)
    for start in range(0, len(queries), _CHUNK):
        numbers = departments[start : start + _CHUNK]
        ends = sizes[numbers].cumsum()
        chance = generator.gumbel(scale=_EXPLORATION, size=int(ends[-1]))
        for department in np.unique(numbers).tolist():
            chosen = np.flatnonzero(numbers == department)
            score = np.stack([scene.lexical_scores(queries[start + row], department) for row in chosen.tolist()])
            score += liked[department]
            score += chance[(ends[chosen] - sizes[department])[:, None] + np.arange(sizes[department])]
            best = np.argsort(-score, axis=1, kind="stable")[:, : scene.list_length]
            shown[start + chosen] = scene.rows_of[department][best]
    return shown


def _clicked(
    scene: Scene, wanted: Rows, shown: Rows, n_people: int, model: ClickModel, generator: np.random.Generator
) -> tuple[NDArray[np.bool_], Floats]:
    """Draw the clicks, and give the mean probability that people look at each rank."""
    clicked = np.empty(shown.shape, dtype=np.bool_)
    looked_at = np.zeros(shown.shape[1])
    for start in range(0, len(shown), _CHUNK):
        rows = slice(start, start + _CHUNK)
        attraction = scene.attraction(wanted[rows], shown[rows])
        clicked[rows] = model.clicks(attraction, generator)
        looked_at += model.looked_at(attraction[: max(0, n_people - start)]).sum(0)
    clicked[n_people:] = False
    return clicked, looked_at / max(n_people, 1)


def _clients(n_people: int, day: date, seed: int, generator: np.random.Generator) -> list[str]:
    n_clients = max(1, round(n_people * _CLIENTS_PER_SESSION))
    return [f"c-{hex_name(seed, day, 'client', number)}" for number in generator.integers(n_clients, size=n_people)]


def _seconds(count: int, generator: np.random.Generator) -> Floats:
    """Draw times of day: few at night, most in the evening."""
    return (generator.beta(2.5, 1.8, size=count) * (_DAY_S - 1)).round(3)


def _numbered(names: list[str]) -> Rows:
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
