"""`embft alerts tell`: what there is to say of a model is written down, and then sent.

Written first, each message once: whoever is killed, or finds a channel down, leaves it to the next one who tells.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from embft.alerts_config import AlertChannels, load_channels
from embft.errors import ConfigError, EmbftError, TemporaryError
from embft.monitoring.connections import Connection
from embft.monitoring.day import MonitoredDay
from embft.monitoring.delivery import Deliveries, Delivery, NotifierCall, deliver
from embft.monitoring.gauge import Gauge
from embft.monitoring.incidents import next_message
from embft.monitoring.ledger import TO_BE_ROUTED, Ledger, kept
from embft.monitoring.message import Message, Signal, Words
from embft.monitoring.metrics import gauges_of
from embft.monitoring.outbox import sent_pairs
from embft.monitoring.run_facts import RunFacts
from embft.paths import Paths
from embft.promotion.history import History
from embft.promotion.ledger import read_history
from embft.results import Record
from embft.stages.champion_signals import YOUNG, change_signals, silence_signal
from embft.stages.evidence import Evidence
from embft.stages.metrics import exported_gauges
from embft.stages.night_signals import run_signals
from embft.stages.stage import open_model
from embft.storage import Storage

log = logging.getLogger(__name__)

T = TypeVar("T")

# What a channel did not take in so long is no news any more.
KEPT_FOR = timedelta(days=14)


class Told(Record):
    """What was told."""

    model: str
    messages: tuple[Message, ...] = Field(description="Those that are new.")
    deliveries: tuple[Delivery, ...] = Field(description="Of these, and of those that were kept.")
    calls: tuple[NotifierCall, ...] = Field(description="Left to Airflow, which knows its notifiers.")
    gauges: tuple[Gauge, ...] = Field(description="The model's figures, for Airflow's own metrics.")
    problems: tuple[str, ...] = Field((), description="What could not be looked at, or where nothing can be sent.")

    @property
    def exit_code(self) -> int:
        """As of errors.py: 75 where something was kept that may be sent later, 2 where a person must mend something."""
        left = [it for it in self.deliveries if it.outcome == "kept"]
        if any(it.retryable for it in left):
            return TemporaryError.exit_code
        return ConfigError.exit_code if left or self.problems else 0


def tell(
    model: str,
    *,
    include: Path,
    run: RunFacts | None,
    connections: Callable[[str], Connection],
    now: datetime,
) -> Told:
    """Write down what there is to tell of a model, and send it with what was kept.

    What cannot be looked at stops nothing else: it is a problem that the caller sees.

    Args:
        model: The model's name.
        include: The project's `include` folder.
        run: Airflow's word on the run that has ended, or is late; None: the history and what was kept, of no night.
        connections: Gives an Airflow connection by its id.
        now: The time of day, with its zone.

    Returns:
        What was told, and to whom.

    Raises:
        ConfigError: There is no such model, or its config is wrong.
        StorageUnavailable: S3 did not answer; the same again tells what is missing.
    """
    config, storage, paths = open_model(model, include)
    problems: list[str] = []
    channels = _looked_at(problems, lambda: load_channels(include))
    history = _looked_at(problems, lambda: read_history(storage, paths))
    evidence = Evidence(config, storage, paths, history, now)
    ledger = Ledger(storage, paths)
    messages = []
    for signal in _signals(evidence, history, run, ledger, problems):
        message = _written(evidence, ledger, signal, channels)
        if message is not None:
            messages.append(message)
    sent = _sent(storage, paths, channels, connections, now) if channels else Deliveries(deliveries=(), calls=())
    gauges = _looked_at(problems, lambda: _gauges(evidence, history, ledger)) or []
    exported = exported_gauges(model, gauges, channels.prometheus) if channels and channels.prometheus else []
    return Told(
        model=model,
        messages=tuple(messages),
        deliveries=(*sent.deliveries, *exported),
        calls=sent.calls,
        gauges=tuple(gauges),
        problems=tuple(problems),
    )


def _gauges(evidence: Evidence, history: History | None, ledger: Ledger) -> list[Gauge]:
    return gauges_of(evidence.days, history, ledger.open(), evidence.config.zone) if history else []


def _signals(
    evidence: Evidence, history: History | None, run: RunFacts | None, ledger: Ledger, problems: list[str]
) -> list[Signal]:
    sources: list[Callable[[], Sequence[Signal | None]]] = []
    if run is not None:
        sources.append(lambda: run_signals(evidence, run))
    if history is not None:
        sources.append(lambda: change_signals(evidence, history, lambda it: ledger.last(it) is not None, run))
        sources.append(lambda: [silence_signal(evidence, history)])
    if run is None or run.kind == "monitor":
        sources.append(lambda: _regressions(evidence, run))
    found = (_looked_at(problems, it) or () for it in sources)
    return [signal for signals in found for signal in signals if signal is not None]


def _regressions(evidence: Evidence, run: RunFacts | None) -> list[Signal]:
    from embft.monitoring.replay import regression_signals

    days = evidence.days
    # Who monitors old days anew looks at them; `embft monitor --replay` says what would have been told.
    if not days or (run is None and days[-1].day < evidence.today - YOUNG):
        return []
    links = _pages_of(evidence, days[-1], run)
    signals = regression_signals(days, evidence.config)
    told = [_told_of_who_serves(it, days[-1].champion, evidence.history) for it in signals]
    return [it.model_copy(update={"words": _with_links(it.words, links)}) for it in told]


def _pages_of(evidence: Evidence, day: MonitoredDay, run: RunFacts | None) -> dict[str, str]:
    """Find where a regression is looked into: the night that its champion comes from, the day's data, the run."""
    gate = evidence.results(day.champion_day)["gate"] if day.champion_day else None
    validated = evidence.results(day.day)["validate_sessions"]
    pages = {
        f"Report of version {day.champion}": gate.links.get("Report") if gate else None,
        "Data Docs": validated.links.get("Data Docs") if validated else None,
        "Airflow run": run.url if run else None,
    }
    return {name: url for name, url in pages.items() if url}


def _with_links(words: Words, links: dict[str, str]) -> Words:
    return words.model_copy(update={"links": {**words.links, **links}})


def _told_of_who_serves(signal: Signal, measured: str | None, history: History | None) -> Signal:
    """Propose a rollback only where it goes from the version that was measured to another one.

    A day's champion has not learned from it; a model of that night may serve by now, and would be lost by a rollback.
    """
    champion = history.champion if history else None
    words = signal.words
    if champion is not None and measured not in (None, champion.version):
        serves = f"Version {champion.version}, from the night of {champion.day}, serves now; no figure here is of it."
        words = words.model_copy(update={"details": (*words.details, serves), "command": None})
    elif words.command and (history is None or history.previous is None):
        details = (*words.details, "There is no version before it to go back to.") if history else words.details
        words = words.model_copy(update={"details": details, "command": None})
    return signal.model_copy(update={"words": words})


def _looked_at(problems: list[str], source: Callable[[], T]) -> T | None:
    try:
        return source()
    except TemporaryError:
        raise
    except EmbftError as error:
        problems.append(str(error))
    except Exception as error:  # a bug of ours in one rule must not silence all others
        log.exception("this was not looked at")
        problems.append(f"a bug: {type(error).__name__}: {error}; the lines above show where")
    log.error("%s", problems[-1])
    return None


def _written(evidence: Evidence, ledger: Ledger, signal: Signal, channels: AlertChannels | None) -> Message | None:
    last = ledger.last(signal.incident)
    message = next_message(last, signal, model=evidence.model, at_utc=evidence.now)
    if message is None:
        return None
    receivers = _receivers(message, last, channels) if channels else (TO_BE_ROUTED,)
    message = message.model_copy(update={"receivers": receivers, "synthetic": evidence.config.synthetic})
    ledger.write(message)
    level = logging.INFO if message.severity == "info" or message.state == "recovered" else logging.WARNING
    log.log(level, "%s: %s", message.state.upper(), message.words.title)
    return message


def _receivers(message: Message, last: Message | None, channels: AlertChannels) -> tuple[str, ...]:
    """Name who gets a message: as routed, and whoever was told that the incident is there."""
    names = set(channels.receivers(message.model, message.severity))
    if last is not None and message.state in ("changed", "recovered"):
        names |= set(routed(last, channels).receivers)
    return tuple(it for it in channels.channels if it in names)


def routed(message: Message, channels: AlertChannels) -> Message:
    """Give a message with its receivers, where nobody could say when it was written who they are.

    Args:
        message: As it was written.
        channels: Those that there are now.

    Returns:
        The message.
    """
    if TO_BE_ROUTED not in message.receivers:
        return message
    receivers = channels.receivers(message.model, message.severity)
    return message.model_copy(update={"receivers": tuple(receivers)})


def waiting(storage: Storage, paths: Paths, channels: AlertChannels, now: datetime) -> list[tuple[Message, list[str]]]:
    """Find the messages of the last two weeks that a channel did not take yet.

    Args:
        storage: S3.
        paths: Of the model.
        channels: Those that there are.
        now: The time of day, with its zone.

    Returns:
        Each with those channels, the oldest first.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    messages = _young(storage, paths, channels, now)
    left = kept(messages, sent_pairs(storage, paths), channels.channels)
    return [(it, left[it.id]) for it in messages if it.id in left]


def _sent(
    storage: Storage,
    paths: Paths,
    channels: AlertChannels,
    connections: Callable[[str], Connection],
    now: datetime,
) -> Deliveries:
    # Listed anew: another run may have written some.
    messages = _young(storage, paths, channels, now)
    return deliver(storage, paths, messages, channels, connections, now=now)


def _young(storage: Storage, paths: Paths, channels: AlertChannels, now: datetime) -> list[Message]:
    return [routed(it, channels) for it in Ledger(storage, paths).since(now - KEPT_FOR)]
