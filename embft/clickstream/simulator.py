"""`simulate`: the click logs of a made-up shop. Synthetic, and labelled so in every line.

Shoppers want an item (some are wanted more than others, and that drifts), search for it within its department in their
own words, see ten results of a plain lexical ranker mixed with popularity and a little exploration, and click as the
position-based model says. A day's bytes depend on the shop, the seed, the day and its size alone: days can be added
later.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embft.clickstream.click_model import Floats, PositionBasedModel
from embft.clickstream.damage import damaged, packed
from embft.clickstream.lexical import LexicalRanker
from embft.clickstream.queries import QueryWriter
from embft.clickstream.shop import Product, Shop, load_shop
from embft.errors import ConfigError

__all__ = ["Shop", "load_shop", "simulate"]

LIST_LENGTH = 10

_ZIPF_EXPONENT = 0.7
_DRIFT = 0.8  # popularity swings by up to e^0.8, about 2.2, up and down
_DRIFT_PERIOD_DAYS = (20, 60)
_FAD_LIFT = 3.0
_POPULARITY_WEIGHT = 0.5
_EXPLORATION = 0.8  # scale of the chance in the ranking, in BM25's units
_LIKES_WANTED, _LIKES_KIND, _LIKES_DEPARTMENT = 0.95, 0.3, 0.01
_CLIENTS_PER_SESSION = 0.6
_BOT_SHARE = 0.1
_DELIVERED_TWICE = 0.01
_FIRST_PART = 0.7  # of a day's lines; the second part holds the rest
_DAY_S = 86_400


def simulate(
    shop: Shop, *, first_day: date, days: int, sessions_per_day: int, seed: int, broken_day: date | None = None
) -> Iterator[tuple[str, bytes]]:
    """Give the shop's catalogue and click logs.

    Args:
        shop: From `load_shop`.
        first_day: First log day, in UTC.
        days: Number of days.
        sessions_per_day: People's searches of a day; a bot adds a tenth.
        seed: Same seed, same logs.
        broken_day: Day whose second object is damaged: lines of garbage and of wrong types, and a gzip stream that
            breaks off. Fewer than 5 % of a day of 200 searches or more are lines that cannot be read.

    Yields:
        Key below the shop's prefix, and bytes: `catalogue/items.jsonl`, then `logs/dt=<day>/part-000.jsonl.gz` and
        `part-001.jsonl.gz` of each day.

    Raises:
        ConfigError: `broken_day` is not one of the days.
    """
    all_days = [first_day + timedelta(days=number) for number in range(days)]
    if broken_day is not None and broken_day not in all_days:
        raise ConfigError(f"the broken day {broken_day} is not one of the days {first_day} to {all_days[-1]}")
    return _objects(_Scene(shop, seed), all_days, sessions_per_day, broken_day)


def _objects(
    scene: "_Scene", days: list[date], sessions_per_day: int, broken_day: date | None
) -> Iterator[tuple[str, bytes]]:
    items = ({"id": it.id, "text": it.text, "synthetic": True} for it in scene.shop.products)
    yield "catalogue/items.jsonl", b"".join(map(_line, items))
    for day in days:
        generator = np.random.default_rng([scene.seed, day.toordinal()])
        lines = [_line(record) for record in _records(scene, day, sessions_per_day, generator)]
        cut = round(len(lines) * _FIRST_PART)
        # At-least-once delivery: some lines of the first object come again in the second.
        again = generator.choice(cut, size=min(cut, 1 + round(len(lines) * _DELIVERED_TWICE)), replace=False)
        parts = [lines[:cut], [*lines[cut:], *(lines[row] for row in sorted(again.tolist()))]]
        last = damaged(parts[1], day, len(lines), generator) if day == broken_day else packed(parts[1])
        yield f"logs/dt={day}/part-000.jsonl.gz", packed(parts[0])
        yield f"logs/dt={day}/part-001.jsonl.gz", last


@dataclass(frozen=True)
class _Scene:
    """What stays the same on all days."""

    shop: Shop
    seed: int

    @cached_property
    def ranker(self) -> LexicalRanker:
        return LexicalRanker([product.text for product in self.shop.products])

    @cached_property
    def departments(self) -> NDArray[np.str_]:
        return np.array([product.department for product in self.shop.products])

    @cached_property
    def list_length(self) -> int:
        """Ten, or what the smallest department has."""
        return min(LIST_LENGTH, int(np.unique(self.departments, return_counts=True)[1].min()))

    @cached_property
    def kinds(self) -> NDArray[np.str_]:
        return np.array([product.kind for product in self.shop.products])

    def popularity(self, day: date) -> Floats:
        """Give the share of shoppers that want each item: Zipf's law, swinging slowly, lifted by what is in fashion."""
        n_items = len(self.shop.products)
        generator = np.random.default_rng([self.seed])
        share: Floats = np.power(1.0 + generator.permutation(n_items), -_ZIPF_EXPONENT)
        turns = day.toordinal() / generator.uniform(*_DRIFT_PERIOD_DAYS, n_items) + generator.random(n_items)
        share *= np.exp(_DRIFT * np.sin(2 * np.pi * turns))
        share[np.isin(self.kinds, list(self.shop.words.fads_of(day)))] *= _FAD_LIFT
        share /= share.sum()
        return share


def _records(scene: _Scene, day: date, n_people: int, generator: np.random.Generator) -> Iterator[dict[str, object]]:
    """Give a day's searches in the order of time, people's and the bot's."""
    n_bot = round(n_people * _BOT_SHARE)
    popularity = scene.popularity(day)
    wanted = generator.choice(len(popularity), size=n_people + n_bot, p=popularity)
    writer = QueryWriter(scene.shop, day, generator)
    products = [scene.shop.products[row] for row in wanted]
    # The bot walks through the catalogue by its own texts, and never clicks.
    queries = [*(writer.write(it) for it in products[:n_people]), *(it.text for it in products[n_people:])]
    shown = np.array(
        [_shown(scene, query, it, popularity, generator) for query, it in zip(queries, products, strict=True)]
    ).reshape(-1, scene.list_length)
    clicked = PositionBasedModel().clicks(_attraction(scene, wanted, shown), generator)
    clicked[n_people:] = False
    clients = [*_clients(n_people, day, scene.seed, generator), *["c-" + _hex(scene.seed, "bot")] * n_bot]
    seconds = _seconds(len(queries), generator)
    for row in np.argsort(seconds, kind="stable").tolist():
        yield {
            "query": queries[row],
            "time": _timestamp(day, seconds[row]),
            "clicked": [scene.shop.products[item].id for item in shown[row][clicked[row]]],
            "shown": [scene.shop.products[item].id for item in shown[row]],
            "session_id": _hex(scene.seed, day, row),
            "client": clients[row],
            "synthetic": True,
        }


def _shown(
    scene: _Scene, query: str, wanted: Product, popularity: Floats, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Rank the department: lexical match, popularity, and chance, by which a shop learns of what nobody has seen."""
    rows = np.flatnonzero(scene.departments == wanted.department)
    score = scene.ranker.scores(query)[rows] + _POPULARITY_WEIGHT * np.log(popularity[rows])
    score += generator.gumbel(scale=_EXPLORATION, size=len(rows))
    best = np.argsort(-score, kind="stable")[: scene.list_length]
    return rows[best].astype(np.int64)


def _attraction(scene: _Scene, wanted: NDArray[np.int64], shown: NDArray[np.int64]) -> Floats:
    """Give the probability that a shopper who looks at an item clicks it: what is wanted, its kind, and the rest."""
    same_kind = scene.kinds[shown] == scene.kinds[wanted][:, None]
    attraction = np.where(same_kind, _LIKES_KIND, _LIKES_DEPARTMENT)
    return np.where(shown == wanted[:, None], _LIKES_WANTED, attraction)


def _clients(n_people: int, day: date, seed: int, generator: np.random.Generator) -> list[str]:
    n_clients = max(1, round(n_people * _CLIENTS_PER_SESSION))
    return [f"c-{_hex(seed, day, 'client', number)}" for number in generator.integers(n_clients, size=n_people)]


def _seconds(count: int, generator: np.random.Generator) -> Floats:
    """Draw times of day: few at night, most in the evening."""
    return (generator.beta(2.5, 1.8, size=count) * (_DAY_S - 1)).round(3)


def _timestamp(day: date, second: float) -> str:
    time = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=float(second))
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _hex(*parts: object) -> str:
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:16]


def _line(record: dict[str, object]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"
