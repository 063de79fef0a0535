"""`simulate`: the click logs of a made-up shop. Synthetic, and labelled so in every line.

Shoppers want an item (some are wanted more than others, and that drifts), search for it within its department in their
own words, see ten results of a plain lexical ranker mixed with popularity and a little exploration, and click as a
click model says: position-based or cascade. A day's bytes depend on the shop, the seed, the day, its size and the
options alone: days can be added later. The truth behind the clicks can be had as well, for estimators to be tested
against.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import get_args

import numpy as np

from embft.clickstream.click_model import ClickModel, ClickModelName, click_model_of
from embft.clickstream.damage import Packer, damaged
from embft.clickstream.shop import Shop, load_shop
from embft.clickstream.simulated_lines import Line, json_line, line_writer
from embft.clickstream.simulated_scene import LIST_LENGTH, Scene
from embft.clickstream.simulated_searches import DaySearches, searches_of
from embft.clickstream.simulated_truth import Truth
from embft.errors import ConfigError
from embft.log_config import LogFormat

__all__ = ["LIST_LENGTH", "Shop", "load_shop", "simulate"]

_DELIVERED_TWICE = 0.01
# Level 9 takes half of all time, and packs 15 % smaller; but sessions were always packed so, and their bytes are kept.
_ZLIB_LEVELS: dict[LogFormat, int] = {"sessions": 9, "events": 6, "ubi": 6}
_FIRST_PART = 0.7  # of a day's searches; the second part holds the rest


@dataclass(frozen=True)
class _Traffic:
    """What a day's logs are like; checked by `simulate`."""

    n_people: int
    n_bot: int
    model: ClickModel
    log_format: LogFormat
    late_share: float


def simulate(
    shop: Shop,
    *,
    first_day: date,
    days: int,
    sessions_per_day: int,
    seed: int,
    broken_day: date | None = None,
    click_model: ClickModelName = "position",
    propensities: Sequence[float] | None = None,
    trust_noise: float = 0.03,
    log_format: LogFormat = "sessions",
    late_share: float = 0.0,
    bot_share: float = 0.1,
    truth: bool = False,
) -> Iterator[tuple[str, bytes]]:
    """Give the shop's catalogue and click logs.

    Args:
        shop: From `load_shop`.
        first_day: First log day, in UTC.
        days: Number of days.
        sessions_per_day: People's searches of a day; a bot adds `bot_share` of that.
        seed: Same seed, same logs.
        broken_day: Day whose second object is damaged: lines of garbage and of wrong types, and a gzip stream that
            breaks off. Fewer than 5 % of a day of 200 searches or more are lines that cannot be read.
        click_model: "position" or "cascade".
        propensities: position: probability that each rank is looked at, each in (0, 1]; ranks beyond the last take the
            last. None: 1 / rank^0.8.
        trust_noise: position: probability that an unattractive result at rank 1 is clicked once it is looked at.
        log_format: "sessions", "events" or "ubi", in the formats' own field names.
        late_share: Share of clicks that are delivered on the next day, with what follows from them; sessions: of whole
            lines. In [0, 1].
        bot_share: Searches of a bot, that clicks nothing, for each of people's; >= 0.
        truth: Give the truth as well: see `Truth.objects`.

    Yields:
        Key below the shop's prefix, and bytes: `catalogue/items.jsonl`, then `logs/dt=<day>/part-000.jsonl.gz` and
        `part-001.jsonl.gz` of each day, and where there are late lines `late-000.jsonl.gz` of the day after, the first
        of that day's objects; ubi: the same below `logs/ubi_queries/` and `logs/ubi_events/`. Last the truth.

    Raises:
        ConfigError: `broken_day` is not one of the days, or an option is out of its range.
    """
    all_days = [first_day + timedelta(days=number) for number in range(days)]
    if broken_day is not None and broken_day not in all_days:
        raise ConfigError(f"the broken day {broken_day} is not one of the days {first_day} to {all_days[-1]}")
    if log_format not in get_args(LogFormat):
        raise ConfigError(f"log_format is {log_format!r}; it must be one of {', '.join(get_args(LogFormat))}")
    if not 0 <= late_share <= 1:
        raise ConfigError(f"late_share is {late_share}; it must be from 0 to 1")
    if not 0 <= bot_share < float("inf"):
        raise ConfigError(f"bot_share is {bot_share}; it must be 0 or more")
    model = click_model_of(click_model, propensities=propensities, trust_noise=trust_noise)
    traffic = _Traffic(sessions_per_day, round(sessions_per_day * bot_share), model, log_format, late_share)
    scene = Scene(shop, seed)
    return _objects(scene, all_days, traffic, broken_day, Truth(scene, click_model) if truth else None)


def _objects(
    scene: Scene, days: list[date], traffic: _Traffic, broken_day: date | None, truth: Truth | None
) -> Iterator[tuple[str, bytes]]:
    items = ({"id": it.id, "text": it.text, "synthetic": True} for it in scene.shop.products)
    yield "catalogue/items.jsonl", b"".join(map(json_line, items))
    for day in days:
        generator = np.random.default_rng([scene.seed, day.toordinal()])
        searches = searches_of(
            scene, day, n_people=traffic.n_people, n_bot=traffic.n_bot, model=traffic.model, generator=generator
        )
        if truth:
            truth.add(searches)
        yield from _day_objects(searches, traffic, generator, broken=day == broken_day)
    if truth:
        yield from truth.objects()


def _day_objects(
    searches: DaySearches, traffic: _Traffic, generator: np.random.Generator, *, broken: bool
) -> Iterator[tuple[str, bytes]]:
    """Write the searches line by line: what is held are compressed objects, and of a broken day a part of its lines."""
    day = searches.day
    writer = line_writer(traffic.log_format, searches.scene, day, traffic.late_share)
    # Of UBI's two kinds of object, the events are damaged.
    level = _ZLIB_LEVELS[traffic.log_format]
    boxes = {it: _Folder(level, keeps_lines=broken and it == writer.folders[-1]) for it in writer.folders}
    cut = round(len(searches) * _FIRST_PART)
    # At-least-once delivery: what tells of some searches of the first object comes again in the second.
    n_again = min(cut, 1 + round(len(searches) * _DELIVERED_TWICE))
    again = set(generator.choice(cut, size=n_again, replace=False).tolist())
    for number, search in enumerate(searches.in_time()):
        for line in writer.lines(search):
            boxes[line.folder].add(line, first=number < cut, again=number in again)
    for folder, box in boxes.items():
        yield f"{folder}/dt={day}/part-000.jsonl.gz", box.first.close()
        yield f"{folder}/dt={day}/part-001.jsonl.gz", box.second(day, traffic.log_format, generator)
        if box.late.n_lines:
            yield f"{folder}/dt={day + timedelta(days=1)}/late-000.jsonl.gz", box.late.close()


class _Folder:
    """The objects of one day below one folder, while they are filled."""

    def __init__(self, level: int, *, keeps_lines: bool) -> None:
        self.first, self.late, self._second = Packer(level), Packer(level), Packer(level)
        self._again: list[bytes] = []
        self._kept: list[bytes] | None = [] if keeps_lines else None
        self._n_lines = 0

    def add(self, line: Line, *, first: bool, again: bool) -> None:
        if line.late:
            self.late.add(line.content)
            return
        self._n_lines += 1
        if again:
            self._again.append(line.content)
        if first:
            self.first.add(line.content)
        elif self._kept is None:
            self._second.add(line.content)
        else:
            self._kept.append(line.content)

    def second(self, day: date, log_format: LogFormat, generator: np.random.Generator) -> bytes:
        if self._kept is not None:
            return damaged([*self._kept, *self._again], day, self._n_lines, generator, log_format)
        for line in self._again:
            self._second.add(line)
        return self._second.close()
