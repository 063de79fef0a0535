"""What each regression rule says of each monitored day. Reads no clock, disk or network.

A day is judged by what came before it alone, so that a replay of the history says what was, or would have been, said.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from math import isfinite
from typing import Any, Literal, TypeGuard

from pydantic import Field

from embft.monitoring.day import MonitoredDay
from embft.monitoring.usual import Reading, decline_of, usual_of
from embft.monitoring_config import (
    DeclineRule,
    LimitRule,
    MonitorRule,
    PromotionRule,
    SameClicksRule,
    TrailingRule,
)
from embft.promotion.wording import is_lower_better, measure_name
from embft.results import Record

NEW_USUAL_AFTER = 42
"""Days after which what was lost at once is lost for good, and no news."""

_USUAL_FOR = 3  # times the days that a rule looks back: what is older says nothing of what is usual

RuleState = Literal["kept", "broken", "not_enough_clicks", "not_enough_days", "not_measured"]


class Verdict(Record):
    """What a rule says of one day."""

    rule: str
    kind: Literal["limit", "trailing", "same_clicks", "decline", "promotion"]
    measure: str
    slice: str
    severity: Literal["warning", "critical"]
    state: RuleState
    reason: str | None = Field(None, description="Why the day was not judged, in a sentence.")
    figure: float | None = None
    usual: float | None = Field(None, description="What the figure is held against: the trailing median, the promise …")
    limit: float | None = Field(None, description="What the figure must not be worse than.")
    drop: float | None = Field(None, description="Share of `usual` by which it is worse; below 0 it is better.")
    noise: float | None = Field(None, description="Share of `usual` by which chance alone moves it: one deviation.")
    n_queries: int | None = None
    n_days: int | None = Field(None, description="Days that say what is usual.")
    is_new_usual: bool = Field(False, description="Days on which the rule was broken became the usual ones.")

    @property
    def is_judged(self) -> bool:
        """Whether the day could be judged."""
        return self.state in ("kept", "broken")


def judge(rule: MonitorRule, days: Sequence[MonitoredDay]) -> Verdict:
    """Say what a rule makes of the newest day.

    Args:
        rule: Of the config.
        days: The monitoring history, the oldest first; at least one.

    Returns:
        The last of `verdicts`.
    """
    return verdicts(rule, days)[-1]


def verdicts(rule: MonitorRule, days: Sequence[MonitoredDay]) -> list[Verdict]:
    """Say what a rule makes of each day, by that day and those before it.

    Each kind holds a figure x against `usual` u, with a limit l that x must not be worse than; written for a measure of
    which more is better (of a loss, all signs turn):

    - limit: l as it stands in the config.
    - trailing: u is the median of the judged days before, l = u - max(max_drop u, deviations s); see `usual_of` for s.
      Days that broke the rule say nothing of what is usual, so a fall that stays is not forgotten the week after; but
      where all others are older than three times the rule's days, it is the usual level.
    - same_clicks: x and u are of the same clicks, ranked now and on their own day; l = u - max(max_drop u, deviations
      e), where e is the standard error of their difference if there is a new champion, which ranks some queries better
      and some worse; else 0: the same model on the same clicks moves by no chance. Once broken, it stays so until what
      was lost since has come back to within max_drop, u then being x over the product of all steps since, or for
      NEW_USUAL_AFTER days.
    - decline: by a CUSUM; see `decline_of`.
    - promotion: u is what the champion showed on the night it was promoted, l as of trailing with s² = e² + e_u².

    Args:
        rule: Of the config.
        days: The monitoring history, the oldest first.

    Returns:
        A verdict for each day, in order.
    """
    if isinstance(rule, SameClicksRule):
        return _same_clicks(rule, days)
    judged_by = _judges(rule)
    past: list[Reading] = []
    found = []
    for day in days:
        reading = _reading(rule, day)
        if isinstance(reading, Verdict):
            found.append(reading)
            continue
        found.append(judged_by(day, reading, past))
        past.append(replace(reading, is_broken=found[-1].state == "broken"))
    return found


Judge = Callable[[MonitoredDay, Reading, Sequence[Reading]], Verdict]


def _judges(rule: MonitorRule) -> Judge:
    if isinstance(rule, LimitRule):
        return lambda _day, reading, _past: _by_limit(rule, reading)
    if isinstance(rule, TrailingRule):
        return lambda _day, reading, past: _by_trailing(rule, reading, past)
    if isinstance(rule, DeclineRule):
        return lambda _day, reading, past: _by_decline(rule, reading, past)
    assert isinstance(rule, PromotionRule)
    return lambda day, reading, _past: _by_promise(rule, reading, day)


def _by_limit(rule: LimitRule, reading: Reading) -> Verdict:
    x, n = reading.figure, reading.n_queries
    if rule.at_least is not None:
        limit, worse = rule.at_least, rule.at_least - x
    else:
        assert rule.at_most is not None
        limit, worse = rule.at_most, x - rule.at_most
    drop = worse / abs(limit) if limit else None
    return _verdict(rule, "broken" if worse > 0 else "kept", figure=x, limit=limit, drop=drop, n_queries=n)


def _by_trailing(rule: TrailingRule, reading: Reading, past: Sequence[Reading]) -> Verdict:
    recent = [it for it in past if (reading.day - it.day).days <= _USUAL_FOR * rule.days]
    kept = [it for it in recent if not it.is_broken]
    is_new = len(kept) < rule.min_days <= len(recent)
    said = (recent if is_new else kept)[-rule.days :]
    if len(said) < rule.min_days:
        return _too_few_days(rule, reading, len(said))
    usual, noise = usual_of(said, reading)
    return _held(rule, reading, usual, noise, n_days=len(said), is_new_usual=is_new)


def _by_promise(rule: PromotionRule, reading: Reading, day: MonitoredDay) -> Verdict:
    promised = day.promised.get(rule.slice)
    usual = None if promised is None else promised.figures.get(rule.measure)
    if promised is None or not _is_number(usual):
        reason = f"what version {day.champion} showed on its night is not known"
        return _verdict(rule, "not_measured", reason=reason, figure=reading.figure, n_queries=reading.n_queries)
    if promised.n_queries < rule.min_queries:
        reason = f"its night held out {promised.n_queries} queries, {rule.min_queries} are needed"
        return _verdict(rule, "not_enough_clicks", reason=reason, figure=reading.figure, n_queries=reading.n_queries)
    noise = (reading.error**2 + _error(promised.errors.get(rule.measure)) ** 2) ** 0.5
    return _held(rule, reading, usual, noise)


def _by_decline(rule: DeclineRule, reading: Reading, past: Sequence[Reading]) -> Verdict:
    window = [it for it in past if (reading.day - it.day).days <= 2 * rule.days][-(rule.days - 1) :]
    if len(window) < rule.min_days:
        return _too_few_days(rule, reading, len(window))
    found = decline_of(
        [*window, reading],
        n_usual=rule.min_days,
        slack=rule.slack,
        is_worse_up=is_lower_better(rule.measure),
    )
    is_broken = found.added_up > rule.threshold and found.is_still_worse
    return _verdict(
        rule,
        "broken" if is_broken else "kept",
        figure=found.recent,
        usual=found.usual,
        limit=None,
        drop=_share(rule, found.usual, found.recent),
        noise=found.noise / abs(found.usual) if found.usual else None,
        n_queries=reading.n_queries,
        n_days=len(window),
    )


@dataclass(frozen=True)
class _Lost:
    """What same clicks have lost: since when, the share that is left, and what they showed before."""

    since: date
    level: float
    usual: float


def _same_clicks(rule: SameClicksRule, days: Sequence[MonitoredDay]) -> list[Verdict]:
    found: list[Verdict] = []
    champions = {it.day: it.champion for it in days}
    lost: _Lost | None = None
    for day in days:
        verdict = _by_same_clicks(rule, day, champions, lost)
        if lost and (day.day - lost.since).days > NEW_USUAL_AFTER and verdict.is_judged:
            verdict = verdict.model_copy(update={"state": "kept", "is_new_usual": True})
        found.append(verdict)
        if verdict.state == "broken":
            assert verdict.figure is not None
            assert verdict.usual
            level = verdict.figure / verdict.usual
            lost = _Lost(lost.since, level, lost.usual) if lost else _Lost(day.day, level, verdict.usual)
        elif verdict.state == "kept":
            lost = None
    return found


def _by_same_clicks(
    rule: SameClicksRule, day: MonitoredDay, champions: Mapping[date, str | None], lost: _Lost | None
) -> Verdict:
    pair = None if day.same_clicks is None else day.same_clicks.slices.get(rule.slice)
    now, before = (None, None) if pair is None else (pair.now.get(rule.measure), pair.before.get(rule.measure))
    if day.same_clicks is None or pair is None or not _is_number(now) or not _is_number(before) or not (before or lost):
        return _verdict(rule, "not_measured", reason=day.reason or "no clicks of a day before were ranked again")
    if pair.n_queries < rule.min_queries:
        reason = f"{pair.n_queries} queries were clicked the day before, {rule.min_queries} are needed"
        return _verdict(rule, "not_enough_clicks", reason=reason, n_queries=pair.n_queries)
    usual, noise = before, 0.0
    if lost is not None:
        # What those clicks would show had nothing been lost; where all was lost, no ratio tells of it.
        usual = before / lost.level if before and lost.level else lost.usual
    elif day.champion is None or champions.get(day.same_clicks.day) != day.champion:
        noise = _error(pair.errors.get(rule.measure))
    return _held(rule, Reading(day.day, now, noise, pair.n_queries), usual, noise)


def _held(
    rule: TrailingRule | PromotionRule | SameClicksRule,
    reading: Reading,
    usual: float,
    noise: float,
    *,
    n_days: int | None = None,
    is_new_usual: bool = False,
) -> Verdict:
    allowed = max(rule.max_drop * abs(usual), rule.deviations * noise)
    worse = _worse(rule, usual, reading.figure)
    return _verdict(
        rule,
        "broken" if worse > allowed else "kept",
        figure=reading.figure,
        usual=usual,
        limit=usual + allowed if is_lower_better(rule.measure) else usual - allowed,
        drop=_share(rule, usual, reading.figure),
        noise=noise / abs(usual) if usual else None,
        n_queries=reading.n_queries,
        n_days=n_days,
        is_new_usual=is_new_usual,
    )


def _worse(rule: MonitorRule, usual: float, figure: float) -> float:
    return figure - usual if is_lower_better(rule.measure) else usual - figure


def _share(rule: MonitorRule, usual: float, figure: float) -> float | None:
    return _worse(rule, usual, figure) / abs(usual) if usual else None


def _reading(rule: MonitorRule, day: MonitoredDay) -> Reading | Verdict:
    """Read the day's figure; where it cannot be judged, the verdict that says why."""
    shown = day.shown(rule.slice)
    figure = None if shown is None else shown.figures.get(rule.measure)
    if shown is None or not _is_number(figure):
        reason = day.reason or f"{measure_name(rule.measure)} of {rule.slice} queries was not measured"
        return _verdict(rule, "not_measured", reason=reason)
    if shown.n_queries < rule.min_queries:
        reason = f"{shown.n_queries} {'queries' if shown.n_queries != 1 else 'query'}, {rule.min_queries} are needed"
        return _verdict(rule, "not_enough_clicks", reason=reason, figure=figure, n_queries=shown.n_queries)
    return Reading(day.day, figure, _error(shown.errors.get(rule.measure)), shown.n_queries)


def _too_few_days(rule: TrailingRule | DeclineRule, reading: Reading, n: int) -> Verdict:
    reason = f"{n} judged {'day' if n == 1 else 'days'} before it, {rule.min_days} are needed"
    return _verdict(
        rule, "not_enough_days", reason=reason, figure=reading.figure, n_queries=reading.n_queries, n_days=n
    )


def _verdict(rule: MonitorRule, state: RuleState, **found: Any) -> Verdict:
    return Verdict(
        rule=rule.name,
        kind=rule.kind,
        measure=rule.measure,
        slice=rule.slice,
        severity=rule.severity,
        state=state,
        **found,
    )


def _is_number(figure: float | None) -> TypeGuard[float]:
    return figure is not None and isfinite(figure)


def _error(error: float | None) -> float:
    return error if _is_number(error) else 0.0
