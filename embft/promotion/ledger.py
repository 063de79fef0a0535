"""The history of champions in S3: one object for each change, none ever rewritten."""

import getpass
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Literal

from embft.errors import ConfigError
from embft.paths import Paths
from embft.promotion.history import Change, History, version_of
from embft.results import Champion, digest_of
from embft.storage import Storage

_PARALLEL = 8


def read_history(storage: Storage, paths: Paths) -> History:
    """Read every change of a model's champion.

    Args:
        storage: S3.
        paths: Of the model.

    Returns:
        The history; an empty one before the first promotion.

    Raises:
        ConfigError: An entry is damaged or of another version of embft. Nobody may change the champion until it is
            mended, for what serves follows from all of them.
        StorageUnavailable: S3 did not answer.
    """
    uris = sorted(it.uri for it in storage.objects(paths.history))
    with ThreadPoolExecutor(_PARALLEL) as pool:
        return History(tuple(pool.map(lambda uri: _read(storage, uri), uris)))


def append(
    storage: Storage,
    paths: Paths,
    kind: Literal["promotion", "rollback"],
    to: Champion,
    *,
    request: str,
    why: str,
    leaves: Champion | None = None,
    forced: bool = False,
) -> History:
    """Add a change, unless this request has made it already.

    Two writers that see the same history may take the same number: both changes stay, ordered by their keys.

    Args:
        storage: S3.
        paths: Of the model.
        kind: Of the change.
        to: The version that shall serve.
        request: What asks for it.
        why: In a sentence.
        leaves: Whom it shall replace, as it was decided; left out, the champion.
        forced: As of `Change`.

    Returns:
        The history with the change in it.

    Raises:
        ConfigError: As of `read_history`.
        StorageUnavailable: S3 did not answer; the same request again makes the change once.
    """
    history = read_history(storage, paths)
    # A version that somebody deleted in MLflow may have been made again for the same request, under another number.
    if any((it.kind, it.to.version, it.request) == (kind, to.version, request) for it in history.changes):
        return history
    number = max((it.number for it in history.changes), default=0) + 1
    change = Change(
        number=number,
        kind=kind,
        to=to,
        leaves=version_of(leaves or history.champion),
        forced=forced,
        request=request,
        who=actor(),
        at_utc=datetime.now(UTC),
        why=why,
    )
    storage.write(paths.change(number, kind, to.version, digest_of(request)), change.to_json())
    return read_history(storage, paths)


def actor() -> str:
    """Say who acts: $EMBFT_ACTOR, which Airflow's tasks set to their run, else the user of this machine."""
    if named := os.environ.get("EMBFT_ACTOR"):
        return named
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _read(storage: Storage, uri: str) -> Change:
    raw = storage.read(uri)
    if raw is None:
        raise ConfigError(
            f"{uri} was removed while the history was read; who serves follows from every entry: restore it"
        )
    return Change.from_json(raw, uri)
