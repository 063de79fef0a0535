"""Damage to a day's log lines, each kind at three strengths: what deliveries, clocks, writers and robots do to a log.

Each function gives the lines as they would arrive, and which of them are not as they should be. Lines that were lost
are nowhere to be seen, so damage that only loses lines touches none.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np

from benchmarks.corruption_nights import Line

Row = dict[str, Any]
_ACCENTS = str.maketrans("aeiou", "áéíóú")
_CYRILLIC = str.maketrans("abcdefghijklmnopqrstuvwxyz", "абцдефгхийклмнопярстувшхыз")


@dataclass(frozen=True)
class Log:
    """One day's log, and what lies around it.

    Args:
        day: The day.
        lines: Its lines, undamaged.
        days: All days of the log.
        item_ids: Ids of the catalogue.
        stranger: Queries and ids of another shop, as lines.
        chance: Draws what is damaged.
    """

    day: date
    lines: Sequence[Row]
    days: Mapping[date, Sequence[Row]]
    item_ids: Sequence[str]
    stranger: Sequence[Row]
    chance: np.random.Generator

    def before(self, n_days: int) -> list[Row]:
        """Give the lines of a day before."""
        return list(self.days[self.day - timedelta(days=n_days)])

    def some(self, share: float) -> list[int]:
        """Draw positions of lines, in order; at least one."""
        n = max(1, round(share * len(self.lines)))
        return sorted(self.chance.choice(len(self.lines), size=n, replace=False).tolist())

    def stretch(self, share: float) -> range:
        """Draw lines that follow one another; at least two."""
        n = min(len(self.lines), max(2, round(share * len(self.lines))))
        first = int(self.chance.integers(len(self.lines) - n + 1))
        return range(first, first + n)


@dataclass(frozen=True)
class Damaged:
    """A day's lines after damage.

    Args:
        lines: As they arrive.
        touched: Positions of those that are not as they should be.
    """

    lines: list[Line]
    touched: frozenset[int]


@dataclass(frozen=True)
class Kind:
    """One kind of damage.

    Args:
        damage: A log and a strength → its lines after it.
        strengths: Weak, middle, strong; what they mean is the damage's to say.
    """

    damage: Callable[[Log, Any], Damaged]
    strengths: tuple[Any, Any, Any]

    @property
    def name(self) -> str:
        """Its name in figures and tables."""
        return self.damage.__name__


def rewritten(log: Log, where: Sequence[int], change: Callable[[Row], Line]) -> Damaged:
    """Change some lines where they stand."""
    lines: list[Line] = list(log.lines)
    for at in where:
        lines[at] = change(log.lines[at])
    return Damaged(lines, frozenset(at for at in where if lines[at] != log.lines[at]))


def with_more(log: Log, more: Sequence[Line]) -> Damaged:
    """Add lines after the others."""
    n = len(log.lines)
    return Damaged([*log.lines, *more], frozenset(range(n, n + len(more))))


def without(log: Log, is_lost: Callable[[Row], bool]) -> Damaged:
    """Lose lines."""
    return Damaged([line for line in log.lines if not is_lost(line)], frozenset())


def hour_of(line: Row) -> int:
    """Tell the hour in the line's time."""
    return int(line["time"][11:13])


def moved(line: Row, by: timedelta) -> Row:
    """Move a line's time."""
    return {**line, "time": (datetime.fromisoformat(line["time"]) + by).isoformat(timespec="milliseconds")}


# What deliveries do.


def day_doubled(log: Log, share: float) -> Damaged:
    """A share of the lines comes a second time, byte by byte."""
    return with_more(log, [log.lines[at] for at in log.some(share)])


def copies_under_new_clients(log: Log, share: float) -> Damaged:
    """A share of the lines comes a second time, each under another client."""
    return with_more(log, [{**log.lines[at], "session": f"again-{at}"} for at in log.some(share)])


def lines_lost(log: Log, share: float) -> Damaged:
    """A share of the lines is lost, all over the day."""
    lost = {id(log.lines[at]) for at in log.some(share)}
    return without(log, lambda line: id(line) in lost)


def evening_lost(log: Log, hours: int) -> Damaged:
    """The day's last hours are not there yet."""
    return without(log, lambda line: hour_of(line) >= 24 - hours)


def busy_hours_lost(log: Log, hours: int) -> Damaged:
    """The hours around the busiest one are lost."""
    counts = np.bincount([hour_of(line) for line in log.lines], minlength=24)
    totals = [counts[first : first + hours].sum() for first in range(25 - hours)]
    first = int(np.argmax(totals))
    return without(log, lambda line: first <= hour_of(line) < first + hours)


def lines_cut(log: Log, share: float) -> Damaged:
    """A share of the lines breaks off in the middle."""
    return rewritten(log, log.some(share), lambda line: json.dumps(line)[:40])


def yesterday_again(log: Log, share: float) -> Damaged:
    """A share of yesterday's file comes with today's; all of it comes in its place."""
    yesterday = log.before(1)
    if share == 1:
        return Damaged([*yesterday], frozenset(range(len(yesterday))))
    return with_more(log, yesterday[: round(share * len(yesterday))])


def yesterday_redated(log: Log, share: float) -> Damaged:
    """Yesterday's lines under today's date: a share of them beside today's; all of them in their place."""
    return _redated(log, share, n_days=1)


def old_file_redated(log: Log, share: float) -> Damaged:
    """The lines of four weeks ago under today's date: a share of them beside today's; all of them in their place."""
    return _redated(log, share, n_days=28)


def _redated(log: Log, share: float, n_days: int) -> Damaged:
    old = [moved(line, timedelta(days=n_days)) for line in log.before(n_days)]
    if share == 1:
        return Damaged([*old], frozenset(range(len(old))))
    return with_more(log, old[: round(share * len(old))])


# What clocks do.


def zone_changed(log: Log, hours: int) -> Damaged:
    """The writer's clock is some hours ahead, and it cuts its days by that clock."""
    around = [line for back in (1, 0, -1) for line in log.before(back)]
    ahead = [moved(line, timedelta(hours=hours)) for line in around]
    lines = [line for line in ahead if line["time"].startswith(log.day.isoformat())]
    return Damaged([*lines], frozenset(range(len(lines))))


def clock_wrong(log: Log, hours: int) -> Damaged:
    """The times are some hours ahead, in files that are cut by the right clock."""
    return rewritten(log, range(len(log.lines)), lambda line: moved(line, timedelta(hours=hours)))


def times_constant(log: Log, share: float) -> Damaged:
    """A share of the lines has the time at which a batch wrote them."""
    return rewritten(log, log.some(share), lambda line: {**line, "time": f"{log.day}T12:00:00.000"})


def times_cut(log: Log, characters: int) -> Damaged:
    """Times are cut to the minute (5 characters of them are left), the hour (2), or the day (0)."""
    return rewritten(
        log,
        range(len(log.lines)),
        lambda line: {**line, "time": line["time"][:11] + line["time"][11:][:characters] + "00:00:00.000"[characters:]},
    )


# What the program that writes the log does.


def query_renamed(log: Log, share: float) -> Damaged:
    """A share of the lines calls the query something else."""
    return rewritten(log, log.some(share), lambda line: _renamed(line, "query"))


def clicked_renamed(log: Log, share: float) -> Damaged:
    """A share of the lines calls the clicked item something else."""
    return rewritten(log, log.some(share), lambda line: _renamed(line, "clicked"))


def _renamed(line: Row, field: str) -> Row:
    return {f"{field}_v2" if name == field else name: value for name, value in line.items()}


def ids_as_numbers(log: Log, share: float) -> Damaged:
    """A share of the lines writes the clicked id as a number."""
    return rewritten(log, log.some(share), lambda line: {**line, "clicked": int(line["clicked"])})


def times_as_text_numbers(log: Log, share: float) -> Damaged:
    """A share of the lines writes its time as seconds since 1970, in quotes."""

    def change(line: Row) -> Row:
        seconds = datetime.fromisoformat(f"{line['time']}+00:00").timestamp()
        return {**line, "time": f"{seconds:.3f}"}

    return rewritten(log, log.some(share), change)


def queries_lower_cased(log: Log, share: float) -> Damaged:
    """A share of the queries is lower-cased."""
    return rewritten(log, log.some(share), lambda line: {**line, "query": line["query"].lower()})


def mojibake(log: Log, share: float) -> Damaged:
    """A share of the queries is written with accents, as UTF-8, and read as Latin-1."""

    def change(line: Row) -> Row:
        return {**line, "query": line["query"].lower().translate(_ACCENTS).encode().decode("latin-1")}

    vowels = set("aeiou")
    return rewritten(log, [at for at in log.some(share) if vowels & set(log.lines[at]["query"].lower())], change)


def queries_emptied(log: Log, share: float) -> Damaged:
    """A share of the queries is empty."""
    return rewritten(log, log.some(share), lambda line: {**line, "query": ""})


def queries_cut(log: Log, characters: int) -> Damaged:
    """Queries are cut after some characters."""
    return rewritten(log, range(len(log.lines)), lambda line: {**line, "query": line["query"][:characters]})


def ids_as_queries(log: Log, share: float) -> Damaged:
    """A share of the lines has the clicked id in the query's place."""
    return rewritten(log, log.some(share), lambda line: {**line, "query": line["clicked"]})


def queries_of_another_script(log: Log, share: float) -> Damaged:
    """A share of the queries is of another market: in Cyrillic letters."""
    return rewritten(log, log.some(share), lambda line: {**line, "query": line["query"].lower().translate(_CYRILLIC)})


def ids_of_another_shop(log: Log, share: float) -> Damaged:
    """A share of the clicks is on items of another shop."""
    ids = [line["clicked"] for line in log.stranger]
    return rewritten(log, log.some(share), lambda line: {**line, "clicked": str(log.chance.choice(ids))})


def lines_of_another_shop(log: Log, share: float) -> Damaged:
    """Another shop's log is mixed in, a share of today's lines beside them."""
    chosen = log.chance.choice(len(log.stranger), size=round(share * len(log.lines)))
    own = [log.lines[at] for at in log.chance.integers(len(log.lines), size=len(chosen))]
    more = [{**line, **log.stranger[at], "session": f"s-{at}"} for line, at in zip(own, chosen, strict=True)]
    return with_more(log, more)


def clicks_shifted(log: Log, share: float) -> Damaged:
    """In a share of the file each line has the click of the line before it."""
    where = log.stretch(share)
    clicks = iter([log.lines[at - 1]["clicked"] for at in where])
    return rewritten(log, where, lambda line: {**line, "clicked": next(clicks)})


def ids_given_anew(log: Log, share: float) -> Damaged:
    """A share of the items swapped their ids; the catalogue does not know."""
    ids = log.chance.permutation(log.item_ids)[: round(share * len(log.item_ids))]
    new = dict(zip(ids.tolist(), np.roll(ids, 1).tolist(), strict=True))
    return rewritten(
        log, range(len(log.lines)), lambda line: {**line, "clicked": new.get(line["clicked"], line["clicked"])}
    )


def clicks_lost(log: Log, share: float) -> Damaged:
    """A share of the searches has lost its click."""
    return rewritten(log, log.some(share), lambda line: {**line, "clicked": []})


def clicks_on_one_item(log: Log, share: float) -> Damaged:
    """A share of the clicks is written as clicks on one item."""
    item = str(log.chance.choice(log.item_ids))
    return rewritten(log, log.some(share), lambda line: {**line, "clicked": item})


# What robots do, and what makes people look like one.


def one_bot(log: Log, share: float) -> Damaged:
    """One client sends one query again and again, a share of today's lines beside them."""
    return with_more(log, [{**line, "session": "bot", "query": "free games"} for line in _robots(log, share)])


def one_bot_of_many_queries(log: Log, share: float) -> Damaged:
    """One client sends a new query each time, a share of today's lines beside them."""
    lines = _robots(log, share)
    return with_more(log, [{**line, "session": "bot", "query": f"part {n:05d}"} for n, line in enumerate(lines)])


def many_bots(log: Log, share: float) -> Damaged:
    """Many clients send one query, each once, a share of today's lines beside them."""
    lines = _robots(log, share)
    return with_more(log, [{**line, "session": f"bot-{n}", "query": "free games"} for n, line in enumerate(lines)])


def _robots(log: Log, share: float) -> list[Row]:
    n = round(share * len(log.lines))
    seconds = np.sort(log.chance.integers(86_400, size=n))
    midnight = datetime.combine(log.day, datetime.min.time())
    times = [(midnight + timedelta(seconds=int(it))).isoformat(timespec="milliseconds") for it in seconds]
    return [{"time": time, "clicked": str(log.chance.choice(log.item_ids))} for time in times]


def clients_all_the_same(log: Log, share: float) -> Damaged:
    """A share of the lines names one client: a proxy, or a default value."""
    return rewritten(log, log.some(share), lambda line: {**line, "session": "anonymous"})


KINDS = (
    Kind(day_doubled, (0.1, 0.5, 1.0)),
    Kind(copies_under_new_clients, (0.1, 0.5, 1.0)),
    Kind(lines_lost, (0.3, 0.5, 0.8)),
    Kind(evening_lost, (3, 6, 12)),
    Kind(busy_hours_lost, (1, 3, 6)),
    Kind(lines_cut, (0.02, 0.2, 0.8)),
    Kind(yesterday_again, (0.1, 0.5, 1)),
    Kind(yesterday_redated, (0.1, 0.5, 1)),
    Kind(old_file_redated, (0.1, 0.5, 1)),
    Kind(zone_changed, (2, 5, 10)),
    Kind(clock_wrong, (2, 5, 10)),
    Kind(times_constant, (0.1, 0.5, 1.0)),
    Kind(times_cut, (5, 2, 0)),
    Kind(query_renamed, (0.02, 0.3, 1.0)),
    Kind(clicked_renamed, (0.1, 0.5, 1.0)),
    Kind(ids_as_numbers, (0.1, 0.5, 1.0)),
    Kind(times_as_text_numbers, (0.02, 0.3, 1.0)),
    Kind(queries_lower_cased, (0.1, 0.5, 1.0)),
    Kind(mojibake, (0.02, 0.3, 1.0)),
    Kind(queries_emptied, (0.02, 0.3, 1.0)),
    Kind(queries_cut, (10, 6, 3)),
    Kind(ids_as_queries, (0.1, 0.5, 1.0)),
    Kind(queries_of_another_script, (0.05, 0.2, 1.0)),
    Kind(ids_of_another_shop, (0.02, 0.3, 1.0)),
    Kind(lines_of_another_shop, (0.02, 0.5, 1.0)),
    Kind(clicks_shifted, (0.1, 0.5, 1.0)),
    Kind(ids_given_anew, (0.1, 0.5, 1.0)),
    Kind(clicks_lost, (0.1, 0.5, 1.0)),
    Kind(clicks_on_one_item, (0.1, 0.5, 1.0)),
    Kind(one_bot, (0.1, 0.5, 2.0)),
    Kind(one_bot_of_many_queries, (0.1, 0.5, 2.0)),
    Kind(many_bots, (0.1, 0.5, 1.0)),
    Kind(clients_all_the_same, (0.1, 0.5, 1.0)),
)
