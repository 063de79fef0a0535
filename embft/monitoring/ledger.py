"""What people were told, as it lies in S3: one object for each message, none ever rewritten."""

import logging
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import NamedTuple

from embft.errors import ConfigError
from embft.monitoring.incidents import in_order
from embft.monitoring.message import Message, State, Words
from embft.paths import Paths
from embft.results import digest_of
from embft.storage import Storage, StoredObject

log = logging.getLogger(__name__)

TO_BE_ROUTED = "*"
"""In place of receivers: nobody could say who they are when the message was written; whoever sends it looks anew."""

_PARALLEL = 8
_KEY = re.compile(
    r"(?P<incident>[a-z0-9][a-z0-9_-]*)/(?P<number>\d{6,})-(?P<state>opened|changed|recovered|happened)-[0-9a-f]+\.json"
)
_NOT_READABLE = "(cannot be read)"


class _Entry(NamedTuple):
    """A message, as its key tells of it; in the order of an incident's messages."""

    incident: str
    number: int
    uri: str
    state: State
    stored: StoredObject


class Ledger:
    """All messages of a model, listed once.

    Args:
        storage: S3.
        paths: Of the model.

    Raises:
        StorageUnavailable: S3 did not answer.
    """

    def __init__(self, storage: Storage, paths: Paths) -> None:
        self._storage = storage
        self._paths = paths
        self._entries: dict[str, list[_Entry]] = {}
        self._written: dict[str, Message] = {}
        # An S3 may list an object twice that somebody writes meanwhile.
        listed = {it.uri: it for it in storage.objects(paths.incidents)}
        for entry in sorted(filter(None, map(self._entry, listed.values()))):
            self._entries.setdefault(entry.incident, []).append(entry)

    def last(self, incident: str) -> Message | None:
        """Give the last message of an incident; None where it never had one.

        Of one that cannot be read, what its key says is given, so that a fault of one object silences no incident: at
        worst, something is told a second time.

        Args:
            incident: Its name.

        Returns:
            The message.

        Raises:
            StorageUnavailable: S3 did not answer.
        """
        if incident in self._written:
            return self._written[incident]
        entries = self._entries.get(incident)
        return self._read(entries[-1]) or _of_key(entries[-1], self._paths.model) if entries else None

    def open(self) -> list[Message]:
        """Give the last message of every incident that is not over, the oldest first.

        Raises:
            StorageUnavailable: S3 did not answer.
        """
        unsettled = (name for name, them in self._entries.items() if them[-1].state in ("opened", "changed"))
        return sorted(filter(None, map(self.last, unsettled)), key=lambda it: (it.since, it.incident))

    def since(self, moment: datetime) -> list[Message]:
        """Give the messages that were written from a moment on, the oldest first; those that can be read.

        Args:
            moment: With its zone.

        Returns:
            The messages.

        Raises:
            StorageUnavailable: S3 did not answer.
        """
        young = [it for entries in self._entries.values() for it in entries if not _is_older(it.stored, moment)]
        with ThreadPoolExecutor(_PARALLEL) as pool:
            messages = [it for it in pool.map(self._read, young) if it is not None and it.at_utc >= moment]
        return in_order(messages)

    def write(self, message: Message) -> None:
        """Add a message. Two who notice the same at once write the same object.

        Args:
            message: The message.

        Raises:
            StorageUnavailable: S3 did not answer; the same again writes it once.
        """
        cause = digest_of(message.cause)
        uri = self._paths.message(message.incident, message.number, message.state, cause)
        self._storage.write(uri, message.to_json())
        self._written[message.incident] = message

    def _entry(self, stored: StoredObject) -> _Entry | None:
        found = _KEY.fullmatch(stored.uri.removeprefix(f"{self._paths.incidents}/"))
        if found is None:
            return None  # somebody else's object
        state: State = found["state"]  # type: ignore[assignment]
        return _Entry(found["incident"], int(found["number"]), stored.uri, state, stored)

    def _read(self, entry: _Entry) -> Message | None:
        raw = self._storage.read(entry.uri)
        try:
            return None if raw is None else Message.from_json(raw, entry.uri)
        except ConfigError as error:
            log.warning("%s", str(error).partition(";")[0])
            return None


def kept(messages: Iterable[Message], sent: set[tuple[str, str]], channels: Iterable[str]) -> dict[str, list[str]]:
    """Say which messages wait for which channels.

    Args:
        messages: Those that may still be sent.
        sent: Pairs of a message's id and a channel that took it.
        channels: Names of those that there are; what was meant for another waits for nobody.

    Returns:
        The message's id → channels that did not take it yet; messages that everybody took are left out.
    """
    there = list(channels)
    waiting = {it.id: [name for name in there if name in it.receivers and (it.id, name) not in sent] for it in messages}
    return {id_: names for id_, names in waiting.items() if names}


def _of_key(entry: _Entry, model: str) -> Message:
    written = entry.stored.modified_utc or datetime.min.replace(tzinfo=UTC)
    return Message(
        id=f"{entry.incident}-{entry.number}",
        model=model,
        incident=entry.incident,
        number=entry.number,
        kind="stage_failed",
        state=entry.state,
        severity="warning",
        cause=_NOT_READABLE,
        day=date.min,  # so that any night may say how it stands
        since=written.date(),
        at_utc=written,
        receivers=(TO_BE_ROUTED,),
        words=Words(title=f"{entry.incident}: {entry.uri} {_NOT_READABLE}"),
    )


def _is_older(stored: StoredObject, moment: datetime) -> bool:
    return stored.modified_utc is not None and stored.modified_utc < moment
