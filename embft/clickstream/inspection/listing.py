"""The objects of a log, in S3 or on this machine, each with a way to its first bytes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from embft.clickstream.inspection.partitions import Placed, place
from embft.errors import ConfigError
from embft.storage import storage_of_environment
from embft.storage_errors import split_uri

YOUR_BUCKET = "s3://your-bucket/"

_PARENTS = 3  # the day may stand in the names of as many folders above the one that was given: 2026/03/10


class LogFile(NamedTuple):
    """An object of a log; `head` gives its first bytes, as many as are asked for."""

    uri: str
    key: str
    placed: Placed | None
    size_bytes: int
    head: Callable[[int], bytes]


def list_log(uri: str) -> tuple[str, list[LogFile]]:
    """List a log's objects, without those that are empty or hidden.

    Raises:
        ConfigError: There is nothing to look at, or it cannot be read.
        StorageRefused: S3 said no.
        StorageUnavailable: S3 did not answer.
    """
    root, found = _listed_in_s3(uri) if uri.startswith("s3://") else _listed_on_disk(uri)
    objects = [it for it in found if it.size_bytes and not it.key.rsplit("/", 1)[-1].startswith(("_", "."))]
    if not objects:
        raise ConfigError(
            f"{_printable(uri)} holds no log: {len(found)} objects lie there, all empty or hidden; check the address"
        )
    return root, objects


def _listed_in_s3(uri: str) -> tuple[str, list[LogFile]]:
    storage = storage_of_environment(uri, named=_printable(uri))
    uri = uri.rstrip("/")
    found = storage.objects(uri, is_folder=False)
    exact = [it for it in found if it.uri == uri]
    # logs also begins logs2/…: meant is the folder, where there is one.
    found = exact or [it for it in found if it.uri.startswith(uri + "/")] or found
    objects = []
    for it in found:
        key = split_uri(it.uri)[1]
        objects.append(LogFile(it.uri, key, place(key), it.size_bytes, partial(storage.head_bytes, it)))
    return f"s3://{split_uri(uri)[0]}/", objects


def _listed_on_disk(uri: str) -> tuple[str, list[LogFile]]:
    if "://" in uri:
        raise ConfigError(f"{_printable(uri)}: expected s3://bucket/prefix, or a folder or file of this machine")
    with _explained(uri):
        path = Path(uri).resolve(strict=True)
        files = sorted(it for it in path.rglob("*") if it.is_file()) if path.is_dir() else [path]
        top = path if path.is_dir() else path.parent
        bases = (top, *top.parents[:_PARENTS])
        base = next((base for base in bases if any(place(_key(it, base)) for it in files)), top)
        keys = [_key(it, base) for it in files]
        return YOUR_BUCKET, [
            LogFile(str(it), key, place(key), it.stat().st_size, partial(_head, it))
            for it, key in zip(files, keys, strict=True)
        ]


def _key(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix()


def _head(path: Path, n_bytes: int) -> bytes:
    with _explained(str(path)), path.open("rb") as file:
        return file.read(n_bytes)


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{_printable(uri)} cannot be read: {error.strerror}") from None


def _printable(uri: str) -> str:
    return ascii(uri)[1:-1]
