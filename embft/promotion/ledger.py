"""The history of champions in S3: one object for each change, none ever rewritten."""

import getpass
import os
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

from embft.errors import ConfigError
from embft.paths import Paths
from embft.promotion.history import Change, History, version_of
from embft.promotion.vector_sets import read_set
from embft.results import Champion, digest_of
from embft.storage import Storage

_PARALLEL = 8
_KEPT_ENTRIES = 10_000
_LONGEST_WHY = 1000


def read_history(storage: Storage, paths: Paths) -> History:
    """Read every change of a model's champion.

    Args:
        storage: S3.
        paths: Of the model.

    Returns:
        The history; an empty one before the first promotion.

    Raises:
        ConfigError: An entry is damaged, of another version of embft, or missing. Nobody may change the champion until
            it is mended, for what serves follows from all of them.
        StorageUnavailable: S3 did not answer.
    """
    listed = _listed(storage, paths)
    # Looked for in this order: a first promotion that ends meanwhile is listed before its vectors are pointed to.
    if not listed and read_set(storage, paths.current_vectors) and not (listed := _listed(storage, paths)):
        raise ConfigError(
            f"{paths.history} is empty, though {paths.current_vectors} says that a version serves: restore the "
            "history, from the bucket's versions or a backup; to begin anew without a champion, remove that pointer"
        )
    with ThreadPoolExecutor(_PARALLEL) as pool:
        changes = tuple(pool.map(lambda entry: _read(storage, *entry), listed))
    _must_be_whole(changes, paths)
    return History(changes)


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
        why: In a sentence; what would break out of a line is taken out, and what is longer than one is cut.
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
        why=_one_line(why) or "no reason was given",
    )
    storage.write(paths.change(number, kind, to.version, digest_of(request)), change.to_json())
    return read_history(storage, paths)


def actor() -> str:
    """Say who acts: $EMBFT_ACTOR, which Airflow's tasks set to their run, else the user of this machine."""
    if named := os.environ.get("EMBFT_ACTOR"):
        return _one_line(named)
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _listed(storage: Storage, paths: Paths) -> list[tuple[str, str]]:
    # Consoles that show a folder may have made an object of its name.
    return sorted((it.uri, it.etag) for it in storage.objects(paths.history) if it.uri.endswith(".json"))


# No entry is ever rewritten, and a command looks at all of them several times.
@lru_cache(_KEPT_ENTRIES)
def _read(storage: Storage, uri: str, etag: str) -> Change:
    raw = storage.read(uri)
    if raw is None:
        raise ConfigError(
            f"{uri} was removed while the history was read; who serves follows from every entry: restore it"
        )
    try:
        return Change.from_json(raw, uri)
    except ConfigError as error:
        problem = str(error).partition(";")[0]
        raise ConfigError(
            f"{problem}; who serves follows from every entry of the history: restore it, from the bucket's versions or "
            "a backup, or use the newer embft that wrote it"
        ) from None


def _must_be_whole(changes: Sequence[Change], paths: Paths) -> None:
    """See that no entry was removed, as by a rule of the bucket for old objects: an older champion would serve.

    A writer takes the number after the highest that it saw, so none is left out; several may have the same.

    Raises:
        ConfigError: One was.
    """
    there = {it.number for it in changes}
    gone = next((it for it in range(1, max(there, default=0)) if it not in there), None)
    if gone is not None:
        raise ConfigError(
            f"entry {gone} of {paths.history} is gone, and who serves follows from every entry: restore it, from the "
            "bucket's versions or a backup, and let no lifecycle rule remove what lies there. Where it is lost for "
            f"good: move that folder away, and choose who serves by `embft rollback --model {paths.model} --to …`"
        )


def _one_line(text: str) -> str:
    """Keep what people wrote from breaking out of a line of a log, a table, or a terminal."""
    line = "".join(it for it in " ".join(text.split()) if it.isprintable())
    return line if len(line) <= _LONGEST_WHY else f"{line[: _LONGEST_WHY - 1]}…"
