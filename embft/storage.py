"""S3, and the only module that imports boto3: listing, parallel reads, one-PUT results, digests.

Retries are botocore's standard mode with a bound, but log objects are read by `embft.storage_download`, which also
resumes what breaks off; every request that was repeated is counted. Whatever S3 says is turned into one sentence:
`StorageRefused` where a person must change something, `StorageUnavailable` where waiting may help.
"""

import hashlib
import logging
import mimetypes
import os
import re
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from pydantic import ValidationError

from embft.config import StorageConfig
from embft.errors import ConfigError, DataRejected, ObjectChanged, ObjectMissing, StorageRefused, StorageUnavailable
from embft.paths import Paths
from embft.results import Artifact, StageResult
from embft.storage_download import PATIENCE, Download, Patience, may_pass
from embft.storage_errors import CUT_BODY, explaining_s3, split_uri

log = logging.getLogger(__name__)

_PIECE_BYTES = 256 * 1024
_PARALLEL = 8
_MAX_REMOVED = 1000  # as many as S3 takes in one request


@dataclass(frozen=True)
class StoredObject:
    """One object of a listing."""

    uri: str
    size_bytes: int
    etag: str
    modified_utc: datetime | None = None


def sha256_of(path: Path) -> str:
    """Give a file's sha256 as 64 hex digits, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Storage:
    """One S3 endpoint, with credentials from the environment.

    Args:
        config: Endpoint and region.
        patience: With log objects.
    """

    def __init__(self, config: StorageConfig, patience: Patience = PATIENCE) -> None:
        self._endpoint = config.endpoint_url or f"AWS S3 in {config.region}"
        self._patience = patience
        self._retries = 0
        self._lock = threading.Lock()
        with self._explained(config.artifacts):
            # A session of its own: boto3's default one keeps the credentials that it saw first.
            session = boto3.session.Session()
            self._s3 = self._client(session, config, read_timeout=60, retries={"mode": "standard", "max_attempts": 4})
            # A download repeats requests itself, headers and bodies alike: two layers would multiply their patience.
            self._log_s3 = self._client(
                session, config, read_timeout=patience.stall_s, retries={"mode": "standard", "total_max_attempts": 1}
            )
        self._transfer = TransferConfig(max_concurrency=_PARALLEL)

    def _client(self, session: Any, config: StorageConfig, **bounds: Any) -> Any:
        client = session.client(
            "s3",
            endpoint_url=config.endpoint_url,
            region_name=config.region,
            config=Config(
                connect_timeout=5,
                max_pool_connections=2 * _PARALLEL,
                # Servers other than AWS send the whole object's checksum with a range, or none at all;
                # our own sha256 digests are checked on every download instead.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                **bounds,
            ),
        )
        # Emitted for every request that is sent, so that also those of a call that fails in the end are counted, which
        # carry no RetryAttempts where nothing answered.
        client.meta.events.register("request-created.s3", self._count_botocore_retry)
        return client

    @property
    def retries(self) -> int:
        """Requests that had to be repeated, of every kind of call, since this was made.

        Not in it: what boto3's transfer manager repeats in `download` where a body breaks off.
        """
        return self._retries

    def _count_retry(self) -> None:
        with self._lock:
            self._retries += 1

    def _count_botocore_retry(self, request: Any, **_: Any) -> None:
        if request.context.get("retries", {}).get("attempt", 1) > 1:
            self._count_retry()

    def objects(self, prefix_uri: str, *, is_folder: bool = True) -> list[StoredObject]:
        """List every object below a prefix, in key order.

        Args:
            prefix_uri: s3://bucket/prefix.
            is_folder: Take the prefix as a folder; else as what keys begin with.

        Returns:
            The objects; empty where there is none.

        Raises:
            StorageRefused: The bucket does not exist or the credentials do not reach it.
            StorageUnavailable: S3 did not answer.
        """
        bucket, key = split_uri(prefix_uri)
        prefix = f"{key.rstrip('/')}/" if key and is_folder else key
        with self._explained(prefix_uri):
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            return [
                StoredObject(
                    f"s3://{bucket}/{item['Key']}", item["Size"], item["ETag"].strip('"'), item["LastModified"]
                )
                for page in pages
                for item in page.get("Contents", ())
            ]

    def head(self, uri: str) -> StoredObject | None:
        """Describe one object, or give None where there is none.

        Args:
            uri: s3://bucket/key.

        Returns:
            The object's size and ETag.

        Raises:
            StorageRefused: The bucket does not exist or the credentials do not reach it.
            StorageUnavailable: S3 did not answer.
        """
        bucket, key = split_uri(uri)
        try:
            with self._explained(uri):
                found = self._s3.head_object(Bucket=bucket, Key=key)
        except ObjectMissing:
            return None
        return StoredObject(uri, found["ContentLength"], found["ETag"].strip('"'), found["LastModified"])

    def read(self, uri: str) -> bytes | None:
        """Read a small object whole, or give None where there is none.

        Args:
            uri: s3://bucket/key.

        Returns:
            Its bytes.

        Raises:
            StorageRefused: The bucket does not exist or the credentials do not reach it.
            StorageUnavailable: S3 did not answer.
        """
        again = self._patience.retrying(_body_was_cut, self._count_retry)
        try:
            body: bytes = again(self._read_once, uri)
        except ObjectMissing:
            return None
        return body

    def _read_once(self, uri: str) -> Any:
        bucket, key = split_uri(uri)
        with self._explained(uri):
            return self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    def read_result(self, stage_prefix: str) -> StageResult | None:
        """Read a stage's committed result, or None where it has none that this version of embft can read.

        Args:
            stage_prefix: The stage's prefix, from `Paths`.

        Returns:
            The result, `reused` unset.

        Raises:
            StorageRefused: The bucket does not exist or the credentials do not reach it.
            StorageUnavailable: S3 did not answer.
        """
        uri = Paths.result(stage_prefix)
        raw = self.read(uri)
        try:
            return None if raw is None else StageResult.from_json(raw, uri)
        except ConfigError as error:
            log.warning("%s; it counts as missing", error)
            return None

    def missing_output(self, result: StageResult) -> Artifact | None:
        """Say which output of a result is not there any more, or has another size.

        Args:
            result: A stage's.

        Returns:
            The first such output; None where the result is whole.

        Raises:
            StorageRefused: The credentials do not reach the bucket.
            StorageUnavailable: S3 did not answer.
        """
        if not result.outputs:
            return None
        prefix = Paths.attempt(os.path.dirname(result.uri), result.attempt)
        sizes = {item.uri: item.size_bytes for item in self.objects(prefix)}
        return next((it for it in result.outputs.values() if sizes.get(it.uri) != it.size_bytes), None)

    def remove(self, uris: Sequence[str]) -> None:
        """Remove objects; those that are gone already are no fault.

        Args:
            uris: Of one bucket.

        Raises:
            StorageRefused: The credentials do not reach the bucket, or may not remove.
            StorageUnavailable: S3 did not answer.
        """
        for first in range(0, len(uris), _MAX_REMOVED):
            chunk = uris[first : first + _MAX_REMOVED]
            with self._explained(chunk[0]):
                answer = self._s3.delete_objects(
                    Bucket=split_uri(chunk[0])[0],
                    Delete={"Objects": [{"Key": split_uri(uri)[1]} for uri in chunk], "Quiet": True},
                )
            # S3 answers 200 even where it removed nothing.
            for fault in answer.get("Errors", ()):
                raise StorageRefused(
                    f"{chunk[0]}: S3 would not remove {fault.get('Key')}: {fault.get('Code')} {fault.get('Message')}"
                )

    def write(self, uri: str, data: bytes) -> None:
        """Write a small object with a single PUT: readers see the old one or the new one.

        Args:
            uri: s3://bucket/key.
            data: Its bytes.

        Raises:
            StorageRefused: The bucket does not exist or the credentials may not write there.
            StorageUnavailable: S3 did not answer.
        """
        bucket, key = split_uri(uri)
        with self._explained(uri):
            self._s3.put_object(Bucket=bucket, Key=key, Body=data, ContentType=_content_type(key))

    def download(self, uri: str, path: Path) -> None:
        """Download one object of any size to a file.

        Args:
            uri: s3://bucket/key.
            path: Where to; its folder is made.

        Raises:
            StorageRefused: There is no such object or bucket, or the credentials do not reach it.
            StorageUnavailable: S3 did not answer.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        bucket, key = split_uri(uri)
        with self._explained(uri):
            self._s3.download_file(bucket, key, str(path), Config=self._transfer)

    def download_listed(self, listed: StoredObject, path: Path, cancelled: threading.Event | None = None) -> None:
        """Download one object as it was listed, through whatever S3 does meanwhile: the same bytes, or an error.

        A body that breaks off or stalls is resumed where it broke; nothing half-written is left.

        Args:
            listed: As `objects` gives it.
            path: Where to; its folder is made.
            cancelled: Ends it from another thread.

        Raises:
            ObjectChanged: It was replaced or removed since it was listed.
            StorageRefused: The bucket is gone, or the credentials do not reach it.
            StorageUnavailable: S3 did not recover in time, or the download was cancelled.
        """
        Download(
            partial(self._read_from, listed),
            listed.uri,
            listed.size_bytes,
            patience=self._patience,
            repeated=self._count_retry,
            cancelled=cancelled or threading.Event(),
        ).into(path)

    def head_bytes(self, listed: StoredObject, n_bytes: int) -> bytes:
        """Read the first bytes of an object as it was listed; a body that breaks off is read again.

        Args:
            listed: As `objects` gives it.
            n_bytes: How many are wanted, few enough for the memory.

        Returns:
            As many, or all bytes of a smaller object.

        Raises:
            ObjectChanged: It was replaced or removed since it was listed.
            StorageRefused: The bucket is gone, or the credentials do not reach it.
            StorageUnavailable: S3 did not recover in time.
        """
        head: bytes = self._patience.retrying(may_pass, self._count_retry)(self._head_once, listed, n_bytes)
        return head

    def _head_once(self, listed: StoredObject, n_bytes: int) -> bytes:
        head = bytearray()
        with closing(self._read_from(listed, 0)) as pieces:
            for _, piece in pieces:
                head += piece
                if len(head) >= n_bytes:
                    break
        return bytes(head[:n_bytes])

    def _read_from(self, listed: StoredObject, start: int) -> Generator[tuple[int, bytes], None, None]:
        bucket, key = split_uri(listed.uri)
        rest = {"Range": f"bytes={start}-"} if start else {}
        try:
            with self._explained(listed.uri):
                answer = self._log_s3.get_object(Bucket=bucket, Key=key, IfMatch=f'"{listed.etag}"', **rest)
                with closing(answer["Body"]) as body:
                    # Not every S3 heeds If-Match.
                    if answer.get("ETag", "").strip('"') != listed.etag:
                        raise ObjectChanged(f"{listed.uri} has another ETag")
                    offset = _first_byte(answer, listed)
                    for piece in body.iter_chunks(_PIECE_BYTES):
                        yield offset, piece
                        offset += len(piece)
        except (ObjectChanged, ObjectMissing) as error:
            done = "removed" if isinstance(error, ObjectMissing) else "replaced"
            raise ObjectChanged(
                f"{listed.uri} was listed with ETag {listed.etag}, but was {done} before it was read; "
                "run the command again"
            ) from error

    def upload(self, path: Path, uri: str) -> Artifact:
        """Upload one file of any size.

        Args:
            path: The file.
            uri: s3://bucket/key.

        Returns:
            The artifact with its size and digest.

        Raises:
            StorageRefused: The bucket does not exist or the credentials may not write there.
            StorageUnavailable: S3 did not answer.
        """
        bucket, key = split_uri(uri)
        with self._explained(uri):
            self._s3.upload_file(
                str(path), bucket, key, Config=self._transfer, ExtraArgs={"ContentType": _content_type(key)}
            )
        return Artifact(uri=uri, size_bytes=path.stat().st_size, sha256=sha256_of(path))

    def upload_all(self, files: dict[str, Path], prefix_uri: str) -> dict[str, Artifact]:
        """Upload files side by side.

        Args:
            files: Name below the prefix → local file.
            prefix_uri: s3:// prefix.

        Returns:
            Name → artifact.

        Raises:
            StorageRefused: The bucket does not exist or the credentials may not write there.
            StorageUnavailable: S3 did not answer.
        """
        with ThreadPoolExecutor(_PARALLEL) as pool:
            artifacts = pool.map(lambda item: self.upload(item[1], f"{prefix_uri}/{item[0]}"), files.items())
            return dict(zip(files, artifacts, strict=True))

    def fetch(self, artifact: Artifact, path: Path) -> Path:
        """Download an artifact and check that it is the one that was written.

        Args:
            artifact: As a result names it.
            path: Where to.

        Returns:
            `path`.

        Raises:
            DataRejected: The bytes are not those that the result was written for.
            StorageRefused: The object is gone or out of reach.
            StorageUnavailable: S3 did not answer.
        """
        self.download(artifact.uri, path)
        found = sha256_of(path)
        if found != artifact.sha256:
            raise DataRejected(
                f"{artifact.uri} has sha256 {found[:12]}…, its result says {artifact.sha256[:12]}…: it was changed "
                "after it was written; run the stage that wrote it again with --force"
            )
        return path

    def _explained(self, uri: str) -> AbstractContextManager[None]:
        return explaining_s3(self._endpoint, uri)


def storage_of_environment(uri: str, *, named: str) -> Storage:
    """Reach S3 as the AWS_* environment says, for commands that need no config.

    Args:
        uri: The address that will be asked for.
        named: What a message calls it.

    Returns:
        S3, with the endpoint of AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, and the region of AWS_REGION or
        AWS_DEFAULT_REGION.

    Raises:
        ConfigError: The address or the endpoint is malformed.
        StorageRefused: The environment's settings of AWS cannot be used.
    """
    environment = os.environ
    try:
        config = StorageConfig(
            artifacts=uri,
            endpoint_url=environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL"),
            region=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1",
        )
    except ValidationError as error:
        fault = error.errors()[0]
        what = "AWS_ENDPOINT_URL" if fault["loc"] == ("endpoint_url",) else named
        raise ConfigError(f"{what}: {fault['msg'].removeprefix('Value error, ')}") from None
    return Storage(config)


def _body_was_cut(error: BaseException) -> bool:
    return isinstance(error.__cause__, CUT_BODY)


def _first_byte(answer: Any, listed: StoredObject) -> int:
    # The status says nothing: rclone answers a range with 200. An S3 that took no notice of it sends everything, and
    # then the length is the whole object's; without that check, an end could be taken for a beginning.
    said = answer.get("ContentRange", "bytes 0-")
    found = re.match(r"bytes (\d+)-", said)
    offset = int(found[1]) if found else -1
    rest = answer.get("ContentLength", listed.size_bytes - offset)
    if offset < 0 or offset + rest != listed.size_bytes:
        raise StorageUnavailable(
            f"S3 answered {rest} bytes of {listed.uri} as {said!r}, where {listed.size_bytes} bytes were listed"
        )
    return offset


def _content_type(key: str) -> str:
    if key.endswith(".json"):
        return "application/json"
    return mimetypes.guess_type(key)[0] or "application/octet-stream"
