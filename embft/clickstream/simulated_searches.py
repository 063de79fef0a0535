"""A day's searches of the made-up shop: who wants what, what they type, what they are shown, and what they click.

The order in which chance is drawn is part of the result: the README's figures stand on its bytes. Whole arrays are
drawn where numpy draws the same numbers for an array as one by one.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embft.clickstream.click_model import ClickModel, Floats
from embft.clickstream.queries import QueryWriter
from embft.clickstream.simulated_scene import Rows, Scene

_POPULARITY_WEIGHT = 0.5
_EXPLORATION = 0.8  # scale of the chance in the ranking, in BM25's units
_CLIENTS_PER_SESSION = 0.6
_DAY_S = 86_400
_CHUNK = 1 << 14  # searches worked on at once: bounds the memory of a day of any size


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
        order = np.argsort(self.seconds, kind="stable")
        prefix = f"{self.scene.seed}/{self.day}/"
        for start in range(0, len(order), _CHUNK):
            rows = order[start : start + _CHUNK]
            places = _places(self.clicked[rows])
            columns = (self.seconds[rows].tolist(), self.wanted[rows].tolist(), self.shown[rows].tolist(), places)
            for row, second, wanted, shown, clicked in zip(rows.tolist(), *columns, strict=True):
                search_id = hex_name(f"{prefix}{row}")
                yield Search(search_id, self.queries[row], self.clients[row], second, wanted, shown, clicked)


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
    clients = _clients(n_people, day, scene.seed, generator) + ["c-" + hex_name(f"{scene.seed}/bot")] * n_bot
    seconds = _seconds(len(queries), generator)
    return DaySearches(scene, day, n_people, queries, wanted, shown, clicked, clients, seconds, looked_at)


def hex_name(text: str) -> str:
    """Give a name that looks like chance and is none.

    Args:
        text: What it is the name of.

    Returns:
        16 hexadecimal digits.
    """
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
    numbers = generator.integers(n_clients, size=n_people)
    names = {number: "c-" + hex_name(f"{seed}/{day}/client/{number}") for number in np.unique(numbers).tolist()}
    return [names[number] for number in numbers.tolist()]


def _seconds(count: int, generator: np.random.Generator) -> Floats:
    """Draw times of day: few at night, most in the evening."""
    return (generator.beta(2.5, 1.8, size=count) * (_DAY_S - 1)).round(3)


def _places(clicked: NDArray[np.bool_]) -> list[list[int]]:
    """Give the places of each search's clicks."""
    places: list[list[int]] = [[] for _ in range(len(clicked))]
    for row, place in np.argwhere(clicked).tolist():
        places[row].append(place)
    return places
