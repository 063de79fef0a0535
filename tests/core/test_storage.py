"""S3 against a real server: what is read and written, and what a person is told when S3 says no."""

from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from demo.services import free_port
from embft.config import StorageConfig
from embft.errors import DataRejected, ObjectChanged, ObjectMissing, StorageRefused, StorageUnavailable
from embft.storage import Storage


@pytest.fixture
def storage(s3: str) -> Storage:
    return Storage(StorageConfig(artifacts="s3://shop/models", endpoint_url=s3))


def test_listing_goes_past_one_page_in_key_order(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    names = [f"{number:04d}" for number in range(1_203)]
    storage.upload_all(dict.fromkeys(names, tmp_path / "x"), "s3://shop/many")
    assert [item.uri for item in storage.objects("s3://shop/many")] == [f"s3://shop/many/{name}" for name in names]


def test_prefix_is_a_folder(storage: Storage) -> None:
    storage.write("s3://shop/day=1/a", b"1")
    storage.write("s3://shop/day=10/a", b"2")
    assert [item.uri for item in storage.objects("s3://shop/day=1")] == ["s3://shop/day=1/a"]


def test_missing_prefix_is_empty_and_missing_object_is_none(storage: Storage) -> None:
    assert storage.objects("s3://shop/nothing") == []
    assert storage.read("s3://shop/nothing/here") is None
    assert storage.head("s3://shop/nothing/here") is None


def test_uploaded_files_come_back_with_their_digests(storage: Storage, tmp_path: Path) -> None:
    files = {f"part/{number}.bin": tmp_path / f"{number}.bin" for number in range(20)}
    for number, path in enumerate(files.values()):
        path.write_bytes(bytes([number]) * 1_000)
    artifacts = storage.upload_all(files, "s3://shop/up")
    for name, artifact in artifacts.items():
        assert storage.fetch(artifact, tmp_path / "back" / name).read_bytes() == files[name].read_bytes()
    downloaded = [storage.fetch(artifact, tmp_path / "all" / name) for name, artifact in artifacts.items()]
    assert [path.read_bytes() for path in downloaded] == [path.read_bytes() for path in files.values()]


def test_large_object_goes_in_parts(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"0123456789abcdef" * 1_600_000)
    artifact = storage.upload(path, "s3://shop/large")
    assert storage.fetch(artifact, tmp_path / "again").read_bytes() == path.read_bytes()


def test_first_bytes_are_read_of_the_object_that_was_listed(storage: Storage) -> None:
    whole = b"0123456789" * 100_000
    storage.write("s3://shop/head/a", whole)
    (listed,) = storage.objects("s3://shop/head")
    assert storage.head_bytes(listed, 700_001) == whole[:700_001]
    assert storage.head_bytes(listed, 0) == b""
    assert storage.head_bytes(listed, 2_000_000) == whole
    storage.write("s3://shop/head/a", b"another")
    with pytest.raises(ObjectChanged, match="was replaced"):
        storage.head_bytes(listed, 5)


def test_changed_artifact_is_refused_with_the_remedy(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"as written")
    artifact = storage.upload(path, "s3://shop/changed")
    storage.write("s3://shop/changed", b"tampered !")
    with pytest.raises(DataRejected, match=r"changed after it was written; run the stage .* again with --force"):
        storage.fetch(artifact, tmp_path / "b")


def test_missing_bucket_is_named(storage: Storage) -> None:
    with pytest.raises(StorageRefused, match="bucket 'no-such-bucket' does not exist"):
        storage.objects("s3://no-such-bucket/logs")
    with pytest.raises(StorageRefused, match="bucket 'no-such-bucket' does not exist"):
        storage.write("s3://no-such-bucket/result.json", b"{}")


def test_missing_object_is_named_on_download(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(ObjectMissing, match="s3://shop/not-here does not exist"):
        storage.download("s3://shop/not-here", tmp_path / "x")


def test_wrong_credentials_say_which_variables_to_check(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    storage = Storage(StorageConfig(artifacts="s3://shop/models", endpoint_url=s3))
    with pytest.raises(StorageRefused, match=r"refused the credentials .*AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        storage.objects("s3://shop/logs")


def test_no_credentials_say_which_variables_to_set(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "none")
    monkeypatch.setenv("AWS_CONFIG_FILE", "none")
    storage = Storage(StorageConfig(artifacts="s3://shop/models", endpoint_url=s3))
    with pytest.raises(StorageRefused, match=r"no S3 credentials .*AWS_ACCESS_KEY_ID"):
        storage.objects("s3://shop/logs")


def test_server_that_is_away_is_temporary(s3: str) -> None:
    storage = Storage(StorageConfig(artifacts="s3://shop/models", endpoint_url=f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(StorageUnavailable, match=r"does not answer .*storage\.endpoint_url"):
        storage.objects("s3://shop/logs")


@pytest.mark.parametrize(
    ("code", "status", "kind", "said"),
    [
        ("RequestTimeTooSkewed", 403, StorageRefused, "set the clock"),
        ("AccessDenied", 403, StorageRefused, "forbids ListObjectsV2"),
        ("InternalError", 500, StorageUnavailable, "answered 500"),
        ("SlowDown", 503, StorageUnavailable, "answered 503"),
    ],
)
def test_answers_that_the_test_server_never_gives(
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    status: int,
    kind: type[Exception],
    said: str,
) -> None:
    error = ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "ListObjectsV2",
    )
    client = boto3.client("s3")

    class Paginator:
        def paginate(self, **_: str) -> None:
            raise error

    monkeypatch.setattr(storage, "_s3", client)
    monkeypatch.setattr(client, "get_paginator", lambda _: Paginator())
    with pytest.raises(kind, match=said):
        storage.objects("s3://shop/logs")
