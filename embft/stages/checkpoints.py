"""Checkpoints of an interrupted training in S3."""

import logging
import os
import re
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from embft.errors import DataRejected, ObjectMissing, TemporaryError
from embft.finetuning.checkpoints import KEPT
from embft.results import Artifact
from embft.stages.retention import remove_if_allowed
from embft.storage import Storage, StoredObject, sha256_of

log = logging.getLogger(__name__)

_NAME = re.compile(r"/(?P<step>\d{12})-(?P<sha256>[0-9a-f]{64})\.ckpt")


class StoredCheckpoints:
    """A `CheckpointStore` in S3: `<prefix>/<steps>-<sha256>.ckpt`, the last two of them.

    An object of S3 is whole or not there, and its name tells its digest: there is nothing else to keep in step. A
    second process that trains the same (a pod that was taken for dead) adds files of its own, any of which is good to
    go on from.

    Uploads go on beside the training, one at a time. S3 away costs a checkpoint, not the training.

    Args:
        storage: S3.
        prefix_uri: Of this training alone: same inputs, settings and code.
        folder: For downloads, and for files on their way.
    """

    def __init__(self, storage: Storage, prefix_uri: str, folder: Path) -> None:
        self._storage = storage
        self._prefix = prefix_uri
        self._folder = folder
        self._found: Path | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._upload: Future[None] | None = None

    def newest(self) -> Path | None:
        """Download the newest checkpoint, digest checked; later calls give the same file.

        Returns:
            The file; None where there is none that can be read.

        Raises:
            StorageRefused: The credentials do not reach the bucket.
            StorageUnavailable: S3 did not answer.
        """
        for stored in [] if self._found else self._stored():
            try:
                self._found = self._fetched(stored)
                break
            except (DataRejected, ObjectMissing) as error:
                log.warning("a checkpoint cannot be used, so training goes on from the one before it: %s", error)
        return self._found

    def keep(self, path: Path, step: int) -> None:
        """Begin to upload a checkpoint; waits for the one before it.

        Args:
            path: Its file, which is taken over.
            step: Optimiser steps done.

        Raises:
            StorageRefused: S3 refused the one before: the result would be refused too.
        """
        try:
            self.settle()
        except TemporaryError as error:
            log.warning("a checkpoint was not kept, training goes on: %s", error)
        self._folder.mkdir(parents=True, exist_ok=True)
        mine = self._folder / f"{step:012d}.ckpt"
        os.replace(path, mine)
        self._upload = self._pool.submit(self._uploaded, mine, step)

    def settle(self) -> None:
        """Wait until the last checkpoint is in S3.

        Raises:
            StorageRefused: S3 refused it.
            StorageUnavailable: S3 did not answer.
        """
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.result()

    def _uploaded(self, path: Path, step: int) -> None:
        try:
            self._storage.upload(path, f"{self._prefix}/{step:012d}-{sha256_of(path)}.ckpt")
        finally:
            path.unlink()
        log.info("checkpoint after %d steps is in S3", step)
        remove_if_allowed(self._storage, [it.uri for it in self._stored()[KEPT:]])

    def _stored(self) -> list[StoredObject]:
        """The checkpoints there are, the newest first."""
        found = [(name["step"], it) for it in self._storage.objects(self._prefix) if (name := _NAME.search(it.uri))]
        # Batches without a pair make no step: then the time tells.
        return [it for _, it in sorted(found, key=lambda pair: (pair[0], str(pair[1].modified_utc)), reverse=True)]

    def _fetched(self, stored: StoredObject) -> Path:
        name = _NAME.search(stored.uri)
        assert name
        artifact = Artifact(uri=stored.uri, size_bytes=stored.size_bytes, sha256=name["sha256"])
        return self._storage.fetch(artifact, self._folder / f"found-{name['step']}-{name['sha256'][:12]}.ckpt")
