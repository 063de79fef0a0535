"""The rules over the monitoring history: what the newest day says, and what would have been told on which past day."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

from pydantic import Field

from embft.config import ModelConfig
from embft.monitoring.day import MonitoredDay
from embft.monitoring.incidents import next_message
from embft.monitoring.message import Message, Signal
from embft.monitoring.regression_words import words_of
from embft.monitoring.regressions import Standing, standings
from embft.monitoring.rules import RuleState
from embft.results import Record


class NotJudged(Record):
    """A day, or days in a row, of which a rule could say nothing."""

    rule: str
    first: date
    last: date
    state: RuleState
    reason: str = Field(description="Of the last of the days.")


class Replay(Record):
    """What the rules, as they are now, would have told."""

    model: str
    first: date | None = Field(description="Of the days that were looked at; None where there is none.")
    last: date | None
    n_days: int
    messages: tuple[Message, ...] = Field(description="The oldest first; `at_utc` is the morning after the day.")
    not_judged: tuple[NotJudged, ...]


def regression_signals(days: Sequence[MonitoredDay], config: ModelConfig) -> list[Signal]:
    """Say what the rules make of the newest day, in the light of all before it.

    Args:
        days: The monitoring history, the oldest first.
        config: The model's.

    Returns:
        A signal for each group of queries that a rule looks at, where the day can tell.
    """
    rows = standings(days, config.monitoring.rules)
    return _signals(days, rows[-1], config) if rows else []


def replay(
    days: Sequence[MonitoredDay], config: ModelConfig, *, from_day: date | None = None, to_day: date | None = None
) -> Replay:
    """Go through the history as if each day were the newest, with the rules as they are now.

    Args:
        days: The monitoring history, the oldest first.
        config: The model's.
        from_day: First day that may tell something; those before it still say what is usual. None: the first.
        to_day: Last day that is looked at; None: the last.

    Returns:
        The messages, and the days that were not judged, with the reason.
    """
    days = [it for it in days if to_day is None or it.day <= to_day]
    looked_at = [number for number, it in enumerate(days) if from_day is None or it.day >= from_day]
    rows = standings(days, config.monitoring.rules)
    last: dict[str, Message] = {}
    messages = []
    for number in looked_at:
        # Nobody looked at the log of a day before it was over.
        at = datetime.combine(days[number].day + timedelta(1), time(), UTC)
        for signal in _signals(days, rows[number], config):
            message = next_message(last.get(signal.incident), signal, model=config.name, at_utc=at)
            if message is not None:
                last[signal.incident] = message
                messages.append(message.model_copy(update={"synthetic": config.synthetic}))
    return Replay(
        model=config.name,
        first=days[looked_at[0]].day if looked_at else None,
        last=days[looked_at[-1]].day if looked_at else None,
        n_days=len(looked_at),
        messages=tuple(messages),
        not_judged=tuple(_not_judged(days, rows, looked_at)),
    )


def _signals(days: Sequence[MonitoredDay], row: Sequence[Standing], config: ModelConfig) -> list[Signal]:
    return [
        Signal(
            incident=it.incident,
            kind="regression",
            day=days[it.day].day,
            state="on" if it.is_on else "off",
            cause=it.cause if it.is_on else "",
            severity=it.severity,
            words=words_of(days, it, row, model=config.name),
        )
        for it in row
        if it.is_on is not None
    ]


def _not_judged(
    days: Sequence[MonitoredDay], rows: Sequence[Sequence[Standing]], looked_at: Sequence[int]
) -> list[NotJudged]:
    runs: dict[str, list[NotJudged]] = {}
    for number in looked_at:
        for verdict in (it for standing in rows[number] for it in standing.verdicts):
            of_rule = runs.setdefault(verdict.rule, [])
            if verdict.is_judged:
                continue
            day, reason = days[number].day, verdict.reason or verdict.state
            before = days[number - 1].day if number else None
            if of_rule and of_rule[-1].last == before and of_rule[-1].state == verdict.state:
                of_rule[-1] = of_rule[-1].model_copy(update={"last": day, "reason": reason})
            else:
                of_rule.append(NotJudged(rule=verdict.rule, first=day, last=day, state=verdict.state, reason=reason))
    return [it for of_rule in runs.values() for it in of_rule]
