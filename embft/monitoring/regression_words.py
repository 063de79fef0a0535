"""What people are told of a regression, and of its end."""

import shlex
from collections.abc import Sequence
from datetime import timedelta

from embft.monitoring.causes import likely_causes, scene_of
from embft.monitoring.day import MonitoredDay
from embft.monitoring.message import Chart, Words
from embft.monitoring.regressions import KEPT_DAYS, Standing
from embft.monitoring.rules import Verdict
from embft.monitoring.wording import figure_text, share_text, where
from embft.promotion.wording import is_lower_better, measure_name

_CHART_DAYS = 14


def words_of(days: Sequence[MonitoredDay], standing: Standing, others: Sequence[Standing], *, model: str) -> Words:
    """Put a standing into words.

    Args:
        days: The history.
        standing: With a regression, or its end.
        others: Standings of the same day on other queries.
        model: The model's name.

    Returns:
        Words for a message.
    """
    if standing.is_on:
        return _of_regression(days, standing, others, model)
    return _of_end(days, standing, model)


def _of_regression(days: Sequence[MonitoredDay], standing: Standing, others: Sequence[Standing], model: str) -> Words:
    told, day = standing.told, days[standing.day]
    assert told is not None
    assert standing.since is not None
    since = next(number for number, it in enumerate(days) if it.day == standing.since)
    scene = scene_of(days, standing.day, since, told, standing.verdicts)
    title = f"{model}: {_finding(told, day)}"
    # What slowly goes stale was never better; it needs to be trained anew.
    can_help = told.kind != "decline" and scene.is_of_the_model is not False and not scene.has_lost_items
    why = f"{measure_name(told.measure)}{where(told.slice)} got worse on {standing.since}"
    return Words(
        title=title,
        details=tuple(_details(days, standing, others, told)),
        causes=likely_causes(scene),
        chart=_chart(days[: standing.day + 1], told),
        links=_links(day),
        command=f"embft rollback --model {shlex.quote(model)} --why {shlex.quote(why)}" if can_help else None,
    )


def _of_end(days: Sequence[MonitoredDay], standing: Standing, model: str) -> Words:
    day, told, since = days[standing.day], standing.told, standing.since
    if told is None or told.figure is None or since is None:
        queries = "all queries" if standing.slice == "all" else f"{standing.slice} queries"
        return Words(title=f"{model}: no rule is broken on {queries} any more ({day.day})", links=_links(day))
    name = f"{measure_name(told.measure)}{where(told.slice)}"
    if _is_still_low(standing):
        title = f"{name} stays at {figure_text(told.figure)} on {day.day}; that counts as usual now"
    else:
        usual = "" if told.usual is None else f" (usual: {figure_text(told.usual)})"
        title = f"{name} has recovered: {figure_text(told.figure)} on {day.day}{usual}"
    n_days = (day.day - since).days
    return Words(
        title=f"{model}: {title}",
        details=(
            f"It was worse from {since} on, for {n_days} days; every rule was kept on {KEPT_DAYS} days in a row now.",
            *_what_was_usual(standing),
            *_served(days[: standing.day + 1]),
        ),
        chart=_chart(days[: standing.day + 1], told),
        links=_links(day),
    )


def _is_still_low(standing: Standing) -> bool:
    """Say whether it is what is usual that has moved, not the figure."""
    first, told = standing.first, standing.told
    if first is None or told is None or told.figure is None or not first.usual or first.kind == "same_clicks":
        return any(it.is_new_usual for it in standing.verdicts)
    drop = (first.usual - told.figure) / abs(first.usual)
    return (-drop if is_lower_better(told.measure) else drop) > (first.drop or 0.0) / 2


def _what_was_usual(standing: Standing) -> list[str]:
    first = standing.first
    if first is None or first.usual is None or not _is_still_low(standing):
        return []
    return [f"Before, {figure_text(first.usual)} was usual."]


def _finding(it: Verdict, day: MonitoredDay) -> str:
    """Say in one clause what a rule found."""
    assert it.figure is not None
    name, figure = f"{measure_name(it.measure)}{where(it.slice)}", figure_text(it.figure)
    fell, below = ("rose", "above") if is_lower_better(it.measure) else ("fell", "below")
    if it.usual is None:
        assert it.limit is not None
        side = "above" if it.figure > it.limit else "below"
        return f"{name} was {figure} on {day.day}, {side} the limit of {it.limit:g}"
    drop = share_text(it.drop or 0.0)
    usual = figure_text(it.usual)
    if it.kind == "decline":
        return f"{name} has slowly got worse: {figure} on the last days to {day.day}, {drop} {below} the usual {usual}"
    assert it.limit is not None
    limit = f"(limit {share_text(abs(it.limit - it.usual) / abs(it.usual))})" if it.usual else f"(limit {it.limit:g})"
    if it.kind == "promotion":
        return f"{name} was {figure} on {day.day}, {drop} {below} the {usual} promised on its night {limit}"
    if it.kind == "same_clicks":
        return f"{name} of the same clicks {fell} to {figure} on {day.day}, {drop} {below} the {usual} before {limit}"
    return f"{name} {fell} to {figure} on {day.day}, {drop} {below} the usual {usual} {limit}"


def _details(days: Sequence[MonitoredDay], standing: Standing, others: Sequence[Standing], told: Verdict) -> list[str]:
    day = days[standing.day]
    found = []
    if standing.since != day.day:
        worse = "; it has got much worse since" if standing.depth > 1 else ""
        found.append(f"It began on {standing.since}{worse}.")
    shown = next((it for it in day.sets if it.name == standing.slice), None)
    if shown is not None:
        found.append(f"Measured on {shown.n_sessions:,} searches with a click, {shown.n_queries:,} distinct queries.")
    found += _served(days[: standing.day + 1])
    # What fell with all queries is no message of its own.
    of_others = [it for other in others if other.slice != standing.slice for it in other.verdicts]
    broken = [it for it in (*standing.verdicts, *of_others) if it.state == "broken" and it != told]
    return [*found, *(f"Rule {it.rule}: {_finding(it, day)}." for it in broken)]


def _served(days: Sequence[MonitoredDay]) -> list[str]:
    day = days[-1]
    if day.champion is None:
        return []
    since = day.day
    for it in reversed(days):
        if it.champion not in (day.champion, None):
            break
        since = it.day if it.champion else since
    return [f"Version {day.champion}, from the night of {day.champion_day}, serves; it is measured since {since}."]


def _chart(days: Sequence[MonitoredDay], told: Verdict) -> Chart:
    """Show two weeks; days that lack a record, or clicks, are gaps."""
    of_day = {it.day: it for it in days}
    last = days[-1].day
    span = [last - timedelta(back) for back in reversed(range(_CHART_DAYS))]
    is_daily = told.kind in ("trailing", "limit", "promotion")
    queries = "all queries" if told.slice == "all" else f"{told.slice} queries"
    return Chart(
        label=f"{measure_name(told.measure)}, {queries}",
        days=tuple(span),
        figures=tuple(_charted(of_day.get(it), told) for it in span),
        limit=told.limit if is_daily else None,
    )


def _charted(day: MonitoredDay | None, told: Verdict) -> float | None:
    shown = None if day is None else day.shown(told.slice)
    return None if shown is None else shown.figures.get(told.measure)


def _links(day: MonitoredDay) -> dict[str, str]:
    return {"MLflow": day.mlflow_url} if day.mlflow_url else {}
