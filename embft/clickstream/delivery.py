"""Deliver simulated objects to a folder or a bucket."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from embft.config import StorageConfig
from embft.storage import Storage


def deliver(objects: Iterable[tuple[str, bytes]], to: str) -> Iterator[str]:
    """Write objects below a folder or an S3 prefix.

    Args:
        objects: Relative key and content.
        to: A folder, or s3://bucket/prefix; S3 is reached as the AWS_* environment says.

    Yields:
        Where each object lies.
    """
    if to.startswith("s3://"):
        storage = Storage(StorageConfig(artifacts=to))
        for key, data in objects:
            uri = f"{to.rstrip('/')}/{key}"
            storage.write(uri, data)
            yield uri
        return
    for key, data in objects:
        path = Path(to) / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        yield str(path)
