"""Messages go to their channels: each once, the oldest first, and what a channel does not take waits for the next run.

One channel's trouble is no other's. Within a run nothing is tried twice, and a channel that does not answer is left.
"""

import logging
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from embft.alerts_config import AlertChannels, Channel, EmailChannel, NotifierChannel, SlackChannel
from embft.errors import ChannelAway, ConfigError, EmbftError, TemporaryError
from embft.monitoring.connections import Connection
from embft.monitoring.email import send_email
from embft.monitoring.incidents import in_order
from embft.monitoring.message import Message
from embft.monitoring.notifier import filled_in
from embft.monitoring.outbox import Claims, is_sent, mark_sent, sent_pairs
from embft.monitoring.slack import send_slack
from embft.monitoring.webhook import send_webhook
from embft.paths import Paths
from embft.results import Record
from embft.storage import Storage

log = logging.getLogger(__name__)

# A slow channel keeps the rest of its messages: claims hold for five minutes, and others wait behind it.
_PATIENCE_S = 60.0


class Delivery(Record):
    """What became of a message at a channel."""

    message: str = Field(description="Its id.")
    channel: str
    outcome: Literal["sent", "kept", "airflow"] = Field(description="airflow: Airflow's task calls the notifier.")
    reason: str | None = Field(None, description="Why it was kept; of a sent e-mail, who did not get it.")
    retryable: bool = Field(True, description="Of what was kept: it may work later, without anybody's hand.")


class NotifierCall(Record):
    """One of Airflow's notifiers, to be called where Airflow is."""

    message: str = Field(description="The message's id.")
    channel: str
    notifier: str
    arguments: dict[str, Any] = Field(description="Filled in; no text of them is a template of Jinja.")


class Deliveries(Record):
    """What became of all messages."""

    deliveries: tuple[Delivery, ...]
    calls: tuple[NotifierCall, ...]


def deliver(
    storage: Storage,
    paths: Paths,
    messages: Sequence[Message],
    channels: AlertChannels,
    connections: Callable[[str], Connection],
    *,
    now: datetime,
) -> Deliveries:
    """Send every message to those of its receivers that did not take it yet.

    Args:
        storage: S3.
        paths: Of the model.
        messages: New ones and kept ones, in any order.
        channels: As of include/alerts.yaml; receivers that are not in it any more get nothing.
        connections: Gives an Airflow connection by its id.
        now: The time of day, for those who look at a claim.

    Returns:
        What became of each; nothing of those that all their channels had taken before.

    Raises:
        StorageUnavailable: S3 did not answer; what was sent and could not be marked is sent again after five minutes.
    """
    sent = sent_pairs(storage, paths) if messages else set()
    ordered = in_order(messages)
    deliveries: list[Delivery] = []
    calls: list[NotifierCall] = []
    for name, channel in channels.channels.items():
        due = [it for it in ordered if name in it.receivers and (it.id, name) not in sent]
        if isinstance(channel, NotifierChannel):
            calls += [notifier_call(it, name, channel) for it in due]
            deliveries += [Delivery(message=it.id, channel=name, outcome="airflow") for it in due]
        elif due:
            deliveries += _Sending(storage, paths, name, channel, connections).all_of(due, now)
    return Deliveries(deliveries=tuple(deliveries), calls=tuple(calls))


def notifier_call(message: Message, name: str, channel: NotifierChannel) -> NotifierCall:
    """Fill in a notifier's arguments.

    Args:
        message: The message.
        name: The channel's.
        channel: The notifier.

    Returns:
        The call.
    """
    arguments = filled_in(channel.arguments, message)
    return NotifierCall(message=message.id, channel=name, notifier=channel.notifier, arguments=arguments)


def send(message: Message, channel: Channel, connections: Callable[[str], Connection]) -> str | None:
    """Send a message to a channel, whether or not it took it before.

    Args:
        message: The message.
        channel: Any but a notifier.
        connections: Gives an Airflow connection by its id.

    Returns:
        Who did not get it, where others did; else None.

    Raises:
        ChannelAway: The channel did not answer.
        TemporaryError: It refused for now.
        ConfigError: A person must correct the channel, or its connection.
    """
    if isinstance(channel, NotifierChannel):
        raise ConfigError(f"{channel.notifier} is called by Airflow, not by embft")
    connection = connections(channel.connection)
    if isinstance(channel, EmailChannel):
        return send_email(message, channel, connection)
    if isinstance(channel, SlackChannel):
        send_slack(message, connection)
    else:
        send_webhook(message, connection)
    return None


class _Sending:
    """One channel's turn within a run."""

    def __init__(
        self, storage: Storage, paths: Paths, name: str, channel: Channel, connections: Callable[[str], Connection]
    ) -> None:
        self._storage, self._paths = storage, paths
        self._name, self._channel, self._connections = name, channel, connections
        self._away: str | None = None
        self._unsent_incidents: set[str] = set()

    def all_of(self, due: Sequence[Message], now: datetime) -> list[Delivery]:
        """Send the messages, the oldest first; nobody hears of an end before its beginning."""
        claims = Claims(self._storage, self._paths, self._name, [it.id for it in due], now)
        started = time.monotonic()
        deliveries = []
        for message in due:
            if self._away is None and time.monotonic() - started > _PATIENCE_S:
                self._away = f"{self._name} took more than {_PATIENCE_S:.0f} s for the messages before it"
            delivery = self._one(message, claims)
            if delivery is None or delivery.outcome != "sent":
                claims.release(message.id)
            if delivery is not None:
                deliveries.append(delivery)
        return deliveries

    def _one(self, message: Message, claims: Claims) -> Delivery | None:
        is_first = claims.is_first(message.id)
        if is_sent(self._storage, self._paths, message.id, self._name):
            return None  # by another run, since this one listed
        if not is_first:
            return self._kept(message, "another run is sending it", retryable=True)
        if self._away is not None:
            return self._kept(message, self._away, retryable=True)
        if message.incident in self._unsent_incidents:
            return self._kept(message, "an earlier message of its incident was not taken", retryable=True)
        try:
            note = send(message, self._channel, self._connections)
        except ChannelAway as error:
            self._away = str(error)
            return self._kept(message, str(error), retryable=True)
        except EmbftError as error:
            return self._kept(message, str(error), retryable=isinstance(error, TemporaryError))
        except Exception as error:  # a bug of ours in one channel must not silence the others
            # Neither its text nor its causes: they may hold an address that is a secret.
            log.error("channel %s:\n%s", self._name, "".join(traceback.format_tb(error.__traceback__)))
            return self._kept(message, f"a bug ({type(error).__name__}); the log shows where", retryable=False)
        mark_sent(self._storage, self._paths, message.id, self._name)
        return Delivery(message=message.id, channel=self._name, outcome="sent", reason=note)

    def _kept(self, message: Message, reason: str, *, retryable: bool) -> Delivery:
        self._unsent_incidents.add(message.incident)
        log.warning("%s was kept for %s: %s", message.id, self._name, reason)
        return Delivery(message=message.id, channel=self._name, outcome="kept", reason=reason, retryable=retryable)
