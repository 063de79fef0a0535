"""How soon a regression is told, and how often one is told that is none, on real clicks.

Rules at their defaults go over sixty monitored days of Best Buy's clicks (see `alert_days`), under champions of three
trainings, replaced weekly or never. What is planted begins on each day in turn from the third week on, so that two
weeks are left to tell it:

- `5`, `10`, `20`: noise is added to the item vectors, so much that nDCG@10 over all days falls by that share; the scale
  is found on all days, which no rule is told of. A noise of its own for each champion's training.
- `items_gone`: a tenth of the items, drawn at random, can no more be found.
- `query_mix`: only clicks for queries that occur three times at most in the whole log are left.

`alerts.days_until_told.*` is the median of the days until a message, 0 on the first day of the damage; what is not told
within two weeks counts as 15. `alerts.false_alarms` is the mean number of messages, recoveries aside, over sixty
undamaged days under a champion that is replaced weekly; `.stale` under one that never is, which does get worse.
`alerts.naive.*`, on the same days, is a rule that tells of five per cent below the mean of the last seven days, and
again only after a day without; `alerts.without_same_clicks.*` are embft's rules but for the one that ranks the clicks
of the day before again. The defaults were chosen on these days, so no other shop's figures need be as good.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks import clicks
from benchmarks.alert_days import (
    EVERY,
    MEASURE,
    N_DAYS,
    Damage,
    Histories,
    Log,
    base_figures,
    champions_of,
    items_gone,
    noisy,
    read_log,
)
from benchmarks.figures import print_figure
from embft.finetuning.threads import cpu_threads
from embft.monitoring.day import CHAMPION, MonitoredDay
from embft.monitoring.regressions import standings
from embft.monitoring_config import Monitoring, MonitorRule

_FIRST_START, _PATIENCE = 14, 14
_NEVER = _PATIENCE + 1
_RARE = 3
_DATA = "Best Buy clicks, 60 days from 2011-08-22"
Teller = Callable[[Sequence[MonitoredDay]], list[bool]]
"""Whether a message, recoveries aside, is sent on each day."""


@dataclass(frozen=True)
class Planted:
    """A kind of damage.

    Args:
        fall: Share by which it lowers nDCG@10 over all days.
        history: First damaged day → all days.
        is_weekly: Whether the champion is replaced every week.
    """

    is_weekly: bool
    fall: float
    history: Callable[[int], list[MonitoredDay]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, damage, and print what is told when."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alerts", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="trainings of the champions")
    options = parser.parse_args(arguments)
    if not clicks.has_data():
        print("alerts: no Best Buy clicks in the data folder; set EMBFT_DATA", file=sys.stderr)
        return 2
    log = read_log()
    with cpu_threads(1):
        base = base_figures(log)
        weekly = [champions_of(log, seed=seed, is_weekly=True) for seed in range(options.seeds)]
    fresh = [Histories(log, it, base) for it in weekly]
    stale = [Histories(log, it[:1], base) for it in weekly]
    defaults = Monitoring().rules
    tellers: dict[str, Teller] = {
        "": by_rules(defaults),
        "without_same_clicks.": by_rules([it for it in defaults if it.kind != "same_clicks"]),
        "naive.": naive,
    }
    planted = [
        *(_planted(log, it, seed, is_weekly=True) for seed, it in enumerate(fresh)),
        *(_planted(log, it, seed, is_weekly=False) for seed, it in enumerate(stale)),
    ]
    for name, teller in tellers.items():
        for kind in planted[0]:
            _report_planted(name, kind, [it[kind] for it in planted], teller)
        _report_false(f"alerts.{name}false_alarms", fresh, teller, "champions replaced weekly")
        _report_false(f"alerts.{name}false_alarms.stale", stale, teller, "champions never replaced, which get worse")
    return 0


def by_rules(rules: Sequence[MonitorRule]) -> Teller:
    """Tell what embft tells: a message where a regression begins, or gets much worse."""

    def told(days: Sequence[MonitoredDay]) -> list[bool]:
        causes: dict[str, str | None] = {}
        found = []
        for row in standings(days, rules):
            before = dict(causes)
            causes |= {it.slice: it.cause if it.is_on else None for it in row if it.is_on is not None}
            found.append(any(cause is not None and before.get(name) != cause for name, cause in causes.items()))
        return found

    return told


def naive(days: Sequence[MonitoredDay]) -> list[bool]:
    """Tell of more than five per cent below the mean of the last seven days, once for days in a row."""
    figures = np.array([it.sets[0].models[CHAMPION][MEASURE] for it in days], np.float64)
    is_low = [n >= 7 and bool(figures[n] < 0.95 * figures[n - 7 : n].mean()) for n in range(len(days))]
    return [low and not (number and is_low[number - 1]) for number, low in enumerate(is_low)]


def _planted(log: Log, histories: Histories, seed: int, *, is_weekly: bool) -> dict[str, Planted]:
    gone = items_gone(0.1, seed)
    rare = np.bincount(log.query)[log.query] <= _RARE
    noises = {f"{share}": _noise_for(histories, share / 100, seed) for share in (5, 10, 20)}
    return {
        **{kind: Planted(is_weekly, histories.fall(it), histories.damaged(it)) for kind, it in noises.items()},
        "items_gone": Planted(is_weekly, histories.fall(gone), histories.damaged(gone)),
        "query_mix": Planted(is_weekly, histories.fall_of(rare), histories.with_clicks(rare)),
    }


def _noise_for(histories: Histories, fall: float, seed: int) -> Damage:
    low, high = 0.0, 8.0
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (middle, high) if histories.fall(noisy(middle, seed)) < fall else (low, middle)
    return noisy((low + high) / 2, seed)


def _report_planted(name: str, kind: str, planted: Sequence[Planted], teller: Teller) -> None:
    days: list[int] = []
    with_new: list[bool] = []
    for it in planted:
        for start in range(_FIRST_START, N_DAYS - _PATIENCE):
            told = teller(it.history(start)[: start + _PATIENCE + 1])[start:]
            with_new.append(it.is_weekly and start % EVERY == 0)
            days.append(told.index(True) if True in told else _NEVER)
    fall = np.mean([it.fall for it in planted])
    shares = {
        "told the same day": np.mean([it == 0 for it in days]),
        "within three days": np.mean([it <= 3 for it in days]),
        "within two weeks": np.mean([it <= _PATIENCE for it in days]),
    }
    each = ", ".join(f"{100 * share:.0f} % {what}" for what, share in shares.items())
    hard = np.mean([day == 0 for day, is_new in zip(days, with_new, strict=True) if is_new])
    data = (
        f"{_DATA}; nDCG@10 {100 * fall:.0f} % lower over all days; 90th percentile {np.percentile(days, 90):g}; "
        f"{each}; {100 * hard:.0f} % the same day where the damage comes with a new champion"
    )
    median = float(np.median(days))
    print_figure(f"alerts.{name}days_until_told.{kind}", median, "days", baseline=None, n=len(days), data=data)


def _report_false(name: str, histories: Sequence[Histories], teller: Teller, which: str) -> None:
    counts = [sum(teller(it.days)) for it in histories]
    data = f"{_DATA}, undamaged, {which}; by training: {', '.join(map(str, counts))}"
    print_figure(name, round(float(np.mean(counts)), 3), "1", baseline=None, n=len(counts), data=data)


if __name__ == "__main__":
    sys.exit(main())
