"""One simulated search → the lines that tell of it, in each format of a log.

Each line says that it is synthetic. A line may be late: it is delivered on the next day.
"""

import json
from collections.abc import Iterator
from datetime import date
from functools import cache
from typing import NamedTuple, Protocol

import numpy as np

from embft.clickstream.simulated_scene import Scene
from embft.clickstream.simulated_searches import Search, hex_name
from embft.log_config import Action, LogFormat

_LAST_SECOND = 86_399.999  # what is done after midnight belongs to another day's log; nothing is
_RENDERING_S = (0.1, 0.6)
_READING_S = (2.0, 30.0)  # before each click
_DECIDING_S = {"add_to_cart": (5.0, 60.0), "purchase": (60.0, 600.0)}
# Shares of clicks that lead to the cart, and of those to a purchase: of the item in mind, and of others.
_CART_WANTED, _CART_OTHER = 0.4, 0.08
_PURCHASE_WANTED, _PURCHASE_OTHER = 0.5, 0.25
_APPLICATION = "made-up shop"
_MESSAGE_TYPES: dict[Action, str] = {"impression": "QUERY"}

_encode = json.JSONEncoder(ensure_ascii=False).encode


class Line(NamedTuple):
    """One line.

    Args:
        folder: Below which its object lies.
        content: With its line feed.
        late: It is delivered on the next day.
    """

    folder: str
    content: bytes
    late: bool = False


class LineWriter(Protocol):
    """Writes the lines of one format."""

    folders: tuple[str, ...]

    def lines(self, search: Search) -> Iterator[Line]:
        """Give the lines that tell of one search."""


class _Done(NamedTuple):
    """Something that was done to an item."""

    action: Action
    place: int
    time: str
    late: bool = False


def line_writer(log_format: LogFormat, scene: Scene, day: date, late_share: float) -> LineWriter:
    """Give the writer of a format.

    Args:
        log_format: Of the log.
        scene: Of all days.
        day: In UTC.
        late_share: Share of clicks (sessions: of searches) whose lines are late.

    Returns:
        The writer; it is of use for one day, whose searches it must get in their order.
    """
    if log_format == "sessions":
        return _SessionLines(scene, day, late_share)
    doings = _Doings(scene, day, late_share)
    return _EventLines(scene, doings) if log_format == "events" else _UbiLines(scene, day, doings)


class _SessionLines:
    folders: tuple[str, ...] = ("logs",)

    def __init__(self, scene: Scene, day: date, late_share: float) -> None:
        self._ids = [_encode(name) for name in scene.ids]
        self._clock = _Clock(day)
        self._late_share = late_share
        self._generator = _generator(scene, day)

    def lines(self, search: Search) -> Iterator[Line]:
        ids = self._ids
        shown = [ids[row] for row in search.shown]
        clicked = [shown[place] for place in search.places]
        # As json.dumps writes it, in a quarter of the time: a big log is mostly this line.
        text = (
            f'{{"query": {_encode(search.query)}, "time": "{self._clock.at(search.second)}", '
            f'"clicked": [{", ".join(clicked)}], "shown": [{", ".join(shown)}], '
            f'"session_id": "{search.search_id}", "client": "{search.client}", "synthetic": true}}\n'
        )
        late = self._late_share > 0 and bool(self._generator.random() < self._late_share)
        yield Line(self.folders[0], text.encode(), late)


class _EventLines:
    folders: tuple[str, ...] = ("logs",)

    def __init__(self, scene: Scene, doings: "_Doings") -> None:
        self._ids = scene.ids
        self._doings = doings

    def lines(self, search: Search) -> Iterator[Line]:
        folder = self.folders[0]
        who = {"search_id": search.search_id, "client": search.client}
        time = self._doings.clock.at(search.second)
        name = f"{search.search_id}-0"
        record: dict[str, object] = {"action": "search", **who, "query": search.query, "time": time, "event_id": name}
        yield Line(folder, json_line(record | {"synthetic": True}))
        for number, done in enumerate(self._doings.of(search), 1):
            record = {
                "action": done.action,
                **who,
                "item": self._ids[search.shown[done.place]],
                "position": done.place + 1,
                "time": done.time,
                "event_id": f"{search.search_id}-{number}",
                "synthetic": True,
            }
            yield Line(folder, json_line(record), done.late)


class _UbiLines:
    """https://github.com/o19s/ubi, schema 1.3; positions from 1, as the shops' own pages count."""

    folders: tuple[str, ...] = ("logs/ubi_queries", "logs/ubi_events")

    def __init__(self, scene: Scene, day: date, doings: "_Doings") -> None:
        self._ids = scene.ids
        self._visits = f"{scene.seed}/{day}/visit/"
        self._doings = doings

    def lines(self, search: Search) -> Iterator[Line]:
        queries, events = self.folders
        who = {"application": _APPLICATION, "query_id": search.search_id, "client_id": search.client}
        asked = {
            **who,
            "user_query": search.query,
            "query_response_hit_ids": [self._ids[row] for row in search.shown],
            "query_attributes": {},
            "timestamp": self._doings.clock.at(search.second),
            "synthetic": True,
        }
        yield Line(queries, json_line(asked))
        who["session_id"] = "s-" + hex_name(self._visits + search.client)
        for done in self._doings.of(search):
            item = self._ids[search.shown[done.place]]
            event = {
                **who,
                "action_name": done.action,
                "timestamp": done.time,
                "message_type": _MESSAGE_TYPES.get(done.action, "CONVERSION"),
                "message": search.query if done.action == "impression" else f"{done.action} {item}",
                "event_attributes": {
                    "object": {"object_id": item, "object_id_field": "id"},
                    "position": {"ordinal": done.place + 1},
                },
                "synthetic": True,
            }
            yield Line(events, json_line(event), done.late)


class _Doings:
    """What is done with the results of a search: each is shown, some are clicked, some of those bought.

    It has its own chance, so that the searches themselves are the same in every format.
    """

    def __init__(self, scene: Scene, day: date, late_share: float) -> None:
        self.clock = _Clock(day)
        self._late_share = late_share
        self._generator = _generator(scene, day)

    def of(self, search: Search) -> Iterator[_Done]:
        second = search.second + _within(_RENDERING_S, self._generator.random())
        time = self.clock.at(second)
        for place in range(len(search.shown)):
            yield _Done("impression", place, time)
        chances = self._generator.random((len(search.places), 6)).tolist() if search.places else []
        for place, (reading, late, to_cart, deciding, to_purchase, paying) in zip(search.places, chances, strict=True):
            second += _within(_READING_S, reading)
            # What follows a late click is late as well: the shopper's device was offline.
            is_late = late < self._late_share
            yield _Done("click", place, self.clock.at(second), is_late)
            wanted = search.shown[place] == search.wanted
            if to_cart >= (_CART_WANTED if wanted else _CART_OTHER):
                continue
            second += _within(_DECIDING_S["add_to_cart"], deciding)
            yield _Done("add_to_cart", place, self.clock.at(second), is_late)
            if to_purchase < (_PURCHASE_WANTED if wanted else _PURCHASE_OTHER):
                paid = second + _within(_DECIDING_S["purchase"], paying)
                yield _Done("purchase", place, self.clock.at(paid), is_late)


class _Clock:
    """Writes times of one day."""

    def __init__(self, day: date) -> None:
        self._day = day.isoformat()

    def at(self, second: float) -> str:
        seconds, ms = divmod(round(min(second, _LAST_SECOND) * 1000), 1000)
        return f"{self._day}T{_time_of_day(seconds)}.{ms:03}Z"


def json_line(record: dict[str, object]) -> bytes:
    """Give a record as a line.

    Args:
        record: Anything that JSON can say.

    Returns:
        UTF-8, with a line feed.
    """
    return _encode(record).encode() + b"\n"


@cache
def _time_of_day(seconds: int) -> str:
    minutes = seconds // 60
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds % 60:02}"


def _within(bounds: tuple[float, float], share: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * share


def _generator(scene: Scene, day: date) -> np.random.Generator:
    return np.random.default_rng([scene.seed, day.toordinal(), 1])
