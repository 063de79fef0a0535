"""Which channel took which message, and who is sending one now. In S3, one small object for each.

A sender claims before it sends, and the earliest claim that is younger than CLAIM_HOLDS sends. A sender that is killed
between sending and marking leaves its claim: the message is sent again when that has run out, at the earliest.
"""

import json
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import uuid4

from embft.paths import Paths
from embft.storage import Storage, StoredObject

CLAIM_HOLDS = timedelta(minutes=5)
# S3 tells times in whole seconds: only when its second is over is it certain that no earlier claim will come.
_SETTLES_S = 1.2


def sent_pairs(storage: Storage, paths: Paths) -> set[tuple[str, str]]:
    """List which channel took which message.

    Args:
        storage: S3.
        paths: Of the model.

    Returns:
        Pairs of a message's id and a channel's name.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    names = (it.uri.removeprefix(f"{paths.all_sent}/").partition("/") for it in storage.objects(paths.all_sent))
    return {(message, channel.removesuffix(".json")) for message, _, channel in names}


def is_sent(storage: Storage, paths: Paths, message_id: str, channel: str) -> bool:
    """Say whether a channel took a message.

    Args:
        storage: S3.
        paths: Of the model.
        message_id: The message's.
        channel: The channel's name.

    Returns:
        Whether it is marked.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    return storage.head(paths.sent(message_id, channel)) is not None


def mark_sent(storage: Storage, paths: Paths, message_id: str, channel: str) -> None:
    """Mark that a channel took a message; no run sends it there again.

    Args:
        storage: S3.
        paths: Of the model.
        message_id: The message's.
        channel: The channel's name.

    Raises:
        StorageUnavailable: S3 did not answer: it will be sent a second time.
    """
    mark = json.dumps({"message": message_id, "channel": channel})
    storage.write(paths.sent(message_id, channel), mark.encode())


class Claims:
    """Claims of one sender to messages for one channel.

    Args:
        storage: S3.
        paths: Of the model.
        channel: The channel's name.
        message_ids: What it means to send there.
        now: The time of day, for those who look at a claim.

    Raises:
        StorageUnavailable: S3 did not answer.
    """

    def __init__(self, storage: Storage, paths: Paths, channel: str, message_ids: Sequence[str], now: datetime) -> None:
        self._storage = storage
        self._paths = paths
        self._channel = channel
        self._uris: dict[str, str] = {}
        for message_id in message_ids:
            uri = f"{paths.claims(message_id, channel)}/{now:%Y%m%dT%H%M%S}-{uuid4().hex}.json"
            storage.write(uri, b"{}")
            self._uris[message_id] = uri
        time.sleep(_SETTLES_S)

    def is_first(self, message_id: str) -> bool:
        """Say whether this sender is the one that sends.

        Args:
            message_id: One that it claimed.

        Returns:
            Whether no live claim is earlier. Ask `is_sent` after it: an earlier sender may be done by now.

        Raises:
            StorageUnavailable: S3 did not answer.
        """
        found = self._storage.objects(self._paths.claims(message_id, self._channel))
        ours = next((it for it in found if it.uri == self._uris[message_id]), None)
        if ours is None:
            return False  # pruned, as it is too old to hold
        live = [it for it in found if _is_live(it, ours)]
        return min(live, key=lambda it: (it.modified_utc, it.uri)) is ours

    def release(self, message_id: str) -> None:
        """Give a claim up: what was not sent may be tried by the next run at once.

        Args:
            message_id: One that it claimed.

        Raises:
            StorageUnavailable: S3 did not answer; the claim runs out by itself.
        """
        self._storage.remove([self._uris[message_id]])


def _is_live(claim: StoredObject, ours: StoredObject) -> bool:
    """Measured by the server's clock alone: ours is as old as this run."""
    if claim is ours or claim.modified_utc is None or ours.modified_utc is None:
        return claim is ours
    return ours.modified_utc - claim.modified_utc < CLAIM_HOLDS
