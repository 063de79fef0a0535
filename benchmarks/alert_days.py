"""Monitored days made from real clicks: Best Buy's, under champions that are trained on the days before.

A history monitors 2011-08-22 to 2011-10-20, sixty days. Its first champion has learned from the eleven days before; a
`weekly` one gets a new champion every seventh day, from the fourteen days before, two of them held out; a `stale` one
keeps its first. What can be damaged is the item vectors that serve, from some day on; the base model never is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

import embft
from benchmarks import clicks, training
from embft.monitoring.day import BASE, CHAMPION, MonitoredDay, Pair, SameClicks, Shown, Traffic
from embft.promotion.evaluation_record import QuerySet

FIRST, N_DAYS = date(2011, 8, 22), 60
MEASURE = "ndcg_at_10"
_CUTOFF = 10
EVERY = 7
_WINDOW, _TEST_DAYS = 14, 2
_LOG_FROM = date(2011, 8, 11)
_N_NEGATIVES = 50

Figures = NDArray[np.float64]
Vectors = NDArray[np.float32]
Damage = Callable[[Vectors], Vectors]


@dataclass(frozen=True)
class Log:
    """All clicks, as numbers.

    Args:
        collection: Whose items they are of.
        day: Days since FIRST, int [clicks].
        query: Row of `queries`, int [clicks].
        item: Row of the collection's items, int [clicks].
        queries: Distinct ones.
    """

    collection: clicks.Collection
    day: NDArray[np.int64]
    query: NDArray[np.int64]
    item: NDArray[np.int64]
    queries: list[str]

    @property
    def texts(self) -> list[str]:
        """Of the items."""
        return [str(self.collection.items[id_]) for id_ in self.collection.items.ids]

    def of_days(self, start: int, end: int) -> list[clicks.Click]:
        """Give the clicks of days start ≤ day < end, oldest first."""
        rows = np.flatnonzero((self.day >= start) & (self.day < end))
        ids = self.collection.items.ids
        return [clicks.Click(self.queries[self.query[row]], ids[self.item[row]]) for row in rows]


@dataclass(frozen=True)
class Champion:
    """A model that served from some day on.

    Args:
        since: Days since FIRST.
        queries: Vectors of the log's queries, float32 [queries, dim].
        items: Vectors of the items, float32 [items, dim].
        promised: What it showed on the days held out of its window.
    """

    since: int
    queries: Vectors
    items: Vectors
    promised: Shown


def read_log() -> Log:
    """Read every click, oldest first."""
    collection = clicks.best_buy()
    dated = clicks.best_buy_dated()
    queries = list(dict.fromkeys(click.query for _, click in dated))
    row_of = {query: row for row, query in enumerate(queries)}
    item_of = {id_: row for row, id_ in enumerate(collection.items.ids)}
    return Log(
        collection,
        np.array([(day - FIRST).days for day, _ in dated]),
        np.array([row_of[click.query] for _, click in dated]),
        np.array([item_of[click.item] for _, click in dated]),
        queries,
    )


def champions_of(log: Log, *, seed: int, is_weekly: bool) -> list[Champion]:
    """Train the champions of a history, in order; a stale one's only champion is the first."""
    return [_champion(log, since, seed) for since in (range(0, N_DAYS, EVERY) if is_weekly else (0,))]


def base_figures(log: Log) -> Figures:
    """Give nDCG@10 of every click under the model that nobody trained."""
    model = training.load("static")
    return ndcg(log, model.encode_queries(log.queries), model.encode_items(log.texts))


def ndcg(log: Log, queries: Vectors, items: Vectors, rows: NDArray[np.int64] | None = None) -> Figures:
    """Give nDCG@10 of clicks: 1 / log2(1 + rank) of the clicked item, 0 below rank ten or where its vector is NaN.

    Args:
        log: The clicks.
        queries: float32 [queries, dim].
        items: float32 [items, dim].
        rows: Of the clicks; None for all.

    Returns:
        float64 [rows].
    """
    query, item = (log.query, log.item) if rows is None else (log.query[rows], log.item[rows])
    distinct, place = np.unique(query, return_inverse=True)
    scores = np.nan_to_num(queries[distinct] @ items.T, nan=-np.inf)
    own = scores[place, item]
    rank = 1 + (scores[place] > own[:, None]).sum(axis=1)
    return np.where((rank <= _CUTOFF) & np.isfinite(own), 1 / np.log2(1 + rank), 0.0)


def noisy(scale: float, seed: int) -> Damage:
    """Add to each unit vector a random direction, `scale` long."""

    def damage(items: Vectors) -> Vectors:
        noise = np.random.default_rng(seed).standard_normal(items.shape).astype(np.float32)
        noisy_items = items + scale * noise / np.linalg.norm(noise, axis=1, keepdims=True)
        unit: Vectors = noisy_items / np.linalg.norm(noisy_items, axis=1, keepdims=True)
        return unit

    return damage


def items_gone(share: float, seed: int) -> Damage:
    """Take a share of the items away."""

    def damage(items: Vectors) -> Vectors:
        gone = np.random.default_rng(seed).permutation(len(items))[: round(share * len(items))]
        left = items.copy()
        left[gone] = np.nan
        return left

    return damage


class Histories:
    """The monitored days of one series of champions, undamaged and damaged from any day on.

    Args:
        log: The clicks.
        champions: In order.
        base: nDCG@10 of every click under the base model.
    """

    def __init__(self, log: Log, champions: Sequence[Champion], base: Figures) -> None:
        self._log, self._base = log, base
        self._of_day = [[it for it in champions if it.since <= number][-1] for number in range(N_DAYS)]
        self._rows = [np.flatnonzero(log.day == number) for number in range(N_DAYS)]
        self.sound = self._figures(lambda items: items)
        self.days = [self._day(number, self.sound, self.sound) for number in range(N_DAYS)]

    def fall(self, damage: Damage) -> float:
        """Say by which share a damage lowers nDCG@10 over all days' clicks."""
        damaged, _ = self._figures(damage)
        return 1 - float(np.concatenate(damaged).mean() / np.concatenate(self.sound[0]).mean())

    def fall_of(self, is_kept: NDArray[np.bool_]) -> float:
        """Say by which share nDCG@10 over all days' clicks is lower where only some clicks are left."""
        sound, kept = np.concatenate(self.sound[0]), is_kept[np.concatenate(self._rows)]
        return 1 - float(sound[kept].mean() / sound.mean())

    def damaged(self, damage: Damage) -> Callable[[int], list[MonitoredDay]]:
        """Give what makes a history that is damaged from a day on."""
        figures = self._figures(damage)
        onset = [self._day(number, figures, self.sound) for number in range(N_DAYS)]
        after = [self._day(number, figures, figures) for number in range(N_DAYS)]
        return lambda start: [*self.days[:start], onset[start], *after[start + 1 :]]

    def with_clicks(self, is_kept: NDArray[np.bool_]) -> Callable[[int], list[MonitoredDay]]:
        """Give what makes a history of which from a day on only some clicks are left."""
        onset = [self._day(number, self.sound, self.sound, is_kept=is_kept) for number in range(N_DAYS)]
        after = [
            self._day(number, self.sound, self.sound, is_kept=is_kept, is_kept_before=is_kept)
            for number in range(N_DAYS)
        ]
        return lambda start: [*self.days[:start], onset[start], *after[start + 1 :]]

    def _figures(self, damage: Damage) -> tuple[list[Figures], list[Figures]]:
        """nDCG@10 of each day's clicks on their own day, and as the next day ranks them."""
        own: list[Figures] = []
        again: list[Figures] = []
        items = {it.since: damage(it.items) for it in self._of_day}
        for number, rows in enumerate(self._rows):
            of = [self._of_day[number], self._of_day[min(number + 1, N_DAYS - 1)]]
            own.append(ndcg(self._log, of[0].queries, items[of[0].since], rows))
            again.append(own[-1] if of[0] is of[1] else ndcg(self._log, of[1].queries, items[of[1].since], rows))
        return own, again

    def _day(
        self,
        number: int,
        figures: tuple[list[Figures], list[Figures]],
        before: tuple[list[Figures], list[Figures]],
        *,
        is_kept: NDArray[np.bool_] | None = None,
        is_kept_before: NDArray[np.bool_] | None = None,
    ) -> MonitoredDay:
        champion, rows = self._of_day[number], self._rows[number]
        kept = slice(None) if is_kept is None else is_kept[rows]
        own, queries = figures[0][number][kept], self._log.query[rows][kept]
        pair = None
        if number:
            rows_before = self._rows[number - 1]
            kept_before = slice(None) if is_kept_before is None else is_kept_before[rows_before]
            then, now = before[0][number - 1][kept_before], figures[1][number - 1][kept_before]
            pair = _pair(then, now, self._log.query[rows_before][kept_before])
        base = self._base[rows][kept]
        return _monitored(FIRST + timedelta(number), champion, own, base, queries, pair)


def _monitored(
    day: date, champion: Champion, own: Figures, base: Figures, queries: NDArray[np.int64], pair: Pair | None
) -> MonitoredDay:
    n_queries = len(np.unique(queries))
    models = {CHAMPION: {MEASURE: float(own.mean())}, BASE: {MEASURE: float(base.mean())}}
    shown = QuerySet(kind="slice", name="all", n_queries=n_queries, n_sessions=len(own), models=models)
    return MonitoredDay(
        model="xbox",
        day=day,
        status="measured",
        champion=str(champion.since),
        champion_day=FIRST + timedelta(champion.since - 1),
        vectors="published",
        sets=(shown,),
        errors={"all": {MEASURE: error_of_mean(own, queries)}},
        promised={"all": champion.promised},
        same_clicks=None if pair is None else SameClicks(day=day - timedelta(1), slices={"all": pair}),
        traffic=Traffic(
            lines=len(own),
            quarantined=0,
            sessions=len(own),
            clicked_sessions=len(own),
            lost_sessions=0,
            unseen_share=None,
            items=0,
            items_added=None,
            items_removed=None,
        ),
    )


def _pair(then: Figures, now: Figures, queries: NDArray[np.int64]) -> Pair:
    return Pair(
        n_queries=len(np.unique(queries)),
        before={MEASURE: float(then.mean())},
        now={MEASURE: float(now.mean())},
        errors={MEASURE: error_of_mean(now - then, queries)},
    )


def error_of_mean(figures: Figures, queries: NDArray[np.int64]) -> float:
    """Give the standard error of a mean over clicks that come by queries (linearised; a query is drawn as a whole).

    Args:
        figures: float64 [clicks].
        queries: int [clicks].

    Returns:
        √(G / (G - 1) Σ (Σ of a query's figures less the mean)²) / clicks, over G queries; 0 of one query.

    Source: Cochran 1977, Sampling Techniques, 9A and 6.4.
    """
    _, query = np.unique(queries, return_inverse=True)
    totals = np.bincount(query, figures - figures.mean())
    n = len(totals)
    return float(np.sqrt((totals**2).sum() * n / max(n - 1, 1)) / len(figures))


def _champion(log: Log, since: int, seed: int) -> Champion:
    start = max(since - _WINDOW, (_LOG_FROM - FIRST).days)
    learned, held_out = log.of_days(start, since - _TEST_DAYS), log.of_days(since - _TEST_DAYS, since)
    model: embft.EmbeddingsModelInterface = training.train_embft(
        "static", log.collection, train=learned, validation=held_out, n_negatives=_N_NEGATIVES, lr=None, seed=seed
    )
    queries, items = model.encode_queries(log.queries), model.encode_items(log.texts)
    rows = np.flatnonzero((log.day >= since - _TEST_DAYS) & (log.day < since))
    shown = ndcg(log, queries, items, rows)
    promised = Shown(
        n_queries=len(np.unique(log.query[rows])),
        figures={MEASURE: float(shown.mean())},
        errors={MEASURE: error_of_mean(shown, log.query[rows])},
    )
    return Champion(since, queries, items, promised)
