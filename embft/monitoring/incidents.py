"""One incident, one message, until it changes. Reads no clock, disk or network."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from embft.monitoring.message import Message, Severity, Signal, State
from embft.results import digest_of

CAUSES_ARE_PARTED_BY = ", "


def next_message(
    last: Message | None, signal: Signal, *, model: str, at_utc: datetime, receivers: Sequence[str] = ()
) -> Message | None:
    """Say what people are to be told of an observation, if anything.

    Args:
        last: The last message of the signal's incident; None where it never had one.
        signal: The observation.
        model: The model's name.
        at_utc: When it was made.
        receivers: Channels that the message goes to.

    Returns:
        The message; None where the same was told already, where there is nothing to recover from, or where something
        newer was told before.
    """
    state = _state(last, signal)
    if state is None:
        return None
    number = last.number + 1 if last else 1
    is_open = last is not None and last.state in ("opened", "changed")
    # Whoever was told that it is bad is told that it is over.
    severity: Severity = last.severity if last and state == "recovered" else signal.severity
    cause = "" if state == "recovered" else signal.cause
    return Message(
        id=digest_of([model, signal.incident, number, state, cause])[:24],
        model=model,
        incident=signal.incident,
        number=number,
        kind=signal.kind,
        state=state,
        severity=severity,
        cause=cause,
        day=signal.day,
        since=last.since if last and is_open else signal.day,
        # A clock that went back must not let an end be sent before its beginning.
        at_utc=max(at_utc, last.at_utc) if last else at_utc,
        receivers=tuple(receivers),
        words=signal.words,
    )


def in_order(messages: Iterable[Message]) -> list[Message]:
    """Put messages in the order in which they are sent.

    Args:
        messages: Of any incidents.

    Returns:
        The oldest first; those of an incident by their number, even where a clock went back between them.
    """
    moments: dict[str, datetime] = {}
    keyed = []
    for it in sorted(messages, key=lambda it: it.number):
        moments[it.incident] = max(it.at_utc, moments.get(it.incident, it.at_utc))
        keyed.append((moments[it.incident], it.incident, it.number, it))
    return [it for *_, it in sorted(keyed, key=lambda key: key[:3])]


def _state(last: Message | None, signal: Signal) -> State | None:
    if signal.state == "happened":
        return None if last else "happened"
    if last and signal.day < last.day:
        return None
    is_open = last is not None and last.state in ("opened", "changed")
    if signal.state == "off":
        return "recovered" if is_open else None
    if last is None or not is_open:
        return "opened"
    # Of several rules, some are broken on one night and not on the next: only one more is news.
    known = set(last.cause.split(CAUSES_ARE_PARTED_BY))
    return None if known.issuperset(signal.cause.split(CAUSES_ARE_PARTED_BY)) else "changed"
