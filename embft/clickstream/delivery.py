"""Deliver simulated objects to a folder or a bucket."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from embft.errors import ConfigError
from embft.storage import storage_of_environment


def deliver(objects: Iterable[tuple[str, bytes]], to: str) -> Iterator[str]:
    """Write objects below a folder or an S3 prefix.

    Args:
        objects: Relative key and content.
        to: A folder, or s3://bucket/prefix; S3 is reached as the AWS_* environment says.

    Yields:
        Where each object lies.

    Raises:
        ConfigError: `to` is no bucket's name, or a folder that cannot be written.
    """
    if to.startswith("s3://"):
        storage = storage_of_environment(to, named=f"--to {to}")
        for key, data in objects:
            uri = f"{to.rstrip('/')}/{key}"
            storage.write(uri, data)
            yield uri
        return
    for key, data in objects:
        path = Path(to) / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise ConfigError(f"--to {to}: {path} cannot be written: {error.strerror}") from None
        yield str(path)
