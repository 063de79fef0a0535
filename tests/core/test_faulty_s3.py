"""Log objects through an S3 that fails: the same bytes, every retry counted, and an end where it never recovers."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from demo import services
from embft.config import StorageConfig
from embft.errors import ObjectChanged, StorageRefused, StorageUnavailable
from embft.storage import Storage, StoredObject, _first_byte
from embft.storage_download import Download, Patience
from tests.buckets import Bucket, new_bucket
from tests.faulty_s3 import Faults, Proxy, faulty_s3

# Where two requests in five fail, 20 tries lose one object in thirty million.
IMPATIENT = Patience(tries=20, first_wait_s=0.001, longest_wait_s=0.01, stall_s=0.4)
SHORT = Patience(tries=3, first_wait_s=0.001, longest_wait_s=0.01, stall_s=0.2)

Serve = Callable[..., tuple[Storage, Faults]]


@pytest.fixture(scope="module")
def proxy(s3_endpoint: tuple[str, Path]) -> Iterator[Proxy]:
    with faulty_s3(s3_endpoint[0]) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def storages() -> dict[Patience, Storage]:
    """Storages by their patience: a client takes a third of a second to make."""
    return {}


@pytest.fixture(scope="module")
def client(s3_endpoint: tuple[str, Path]) -> Any:
    """A client that goes straight to the real S3."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in services.s3_environment(s3_endpoint[0]).items():
            patch.setenv(name, value)
        return new_bucket(s3_endpoint[0]).client


@pytest.fixture
def bucket(client: Any) -> Bucket:
    name = f"faulty-{uuid4().hex[:8]}"
    client.create_bucket(Bucket=name)
    return Bucket(name, client)


@pytest.fixture
def serve(s3: str, proxy: Proxy, storages: dict[Patience, Storage]) -> Serve:
    """Plan faults, and give a storage that meets them; its retries count from here on."""

    def plan(patience: Patience = IMPATIENT, **faults: Any) -> tuple[Storage, Faults]:
        if patience not in storages:
            config = StorageConfig(artifacts="s3://shop/models", endpoint_url=proxy.endpoint)
            storages[patience] = Storage(config, patience)
        storages[patience]._retries = 0
        proxy.faults = Faults(**faults)
        return storages[patience], proxy.faults

    return plan


def put_many(bucket: Bucket, number: int) -> dict[str, bytes]:
    """Put objects of 0 bytes to some pieces' length, and give what is in each."""
    rng = random.Random(number)
    sizes = [0, 1, 700_000, *(rng.randrange(2, 20_000) for _ in range(number - 3))]
    objects = {f"s3://{bucket.name}/logs/{i:03d}": rng.randbytes(size) for i, size in enumerate(sizes)}
    for uri, data in objects.items():
        bucket.put(uri.split("/", 3)[3], data)
    return objects


def one(storage: Storage, bucket: Bucket, data: bytes) -> StoredObject:
    bucket.put("logs/one", data)
    (listed,) = storage.objects(f"s3://{bucket.name}/logs")
    return listed


def read_all(storage: Storage, bucket: Bucket, folder: Path) -> dict[str, bytes]:
    listed = storage.objects(f"s3://{bucket.name}/logs")
    return downloaded(storage, listed, folder)


def downloaded(storage: Storage, listed: list[StoredObject], folder: Path) -> dict[str, bytes]:
    """Download objects side by side; nothing but the files is left."""

    def get(numbered: tuple[int, StoredObject]) -> tuple[str, bytes]:
        path = folder / str(numbered[0])
        storage.download_listed(numbered[1], path)
        content = path.read_bytes()
        path.unlink()
        return numbered[1].uri, content

    with ThreadPoolExecutor(8) as pool:
        return dict(pool.map(get, enumerate(listed)))


@pytest.mark.parametrize("kind", ["slow_down", "cut_error", "cut_body", "reset", "reset_body", "stall", "silence"])
def test_each_fault_alone_costs_one_repeated_request(serve: Serve, bucket: Bucket, tmp_path: Path, kind: str) -> None:
    expected = put_many(bucket, 12)
    storage, faults = serve()
    listed = storage.objects(f"s3://{bucket.name}/logs")
    assert storage.retries == 0
    setattr(faults, kind, 1.0)
    faults.budget = 4
    found = downloaded(storage, listed, tmp_path / "day")
    assert found == expected
    assert faults.injected == {kind: 4}
    assert storage.retries == 4
    assert list((tmp_path / "day").iterdir()) == []


def test_a_day_of_all_faults_together_gives_the_same_bytes(serve: Serve, bucket: Bucket, tmp_path: Path) -> None:
    expected = put_many(bucket, 80)
    storage, faults = serve(slow_down=0.2, cut_body=0.08, cut_error=0.02, reset=0.05, reset_body=0.05, seed=7)
    faults.stall = faults.silence = 0.01
    assert read_all(storage, bucket, tmp_path) == expected
    assert len(faults.injected) >= 6
    assert storage.retries == faults.total


def test_listings_and_small_reads_and_writes_are_counted_too(serve: Serve, bucket: Bucket) -> None:
    uri = f"s3://{bucket.name}/logs/a"
    storage, faults = serve(budget=0)
    for kind in ("slow_down", "reset"):
        setattr(faults, kind, 1.0)
        for call in (
            lambda: storage.write(uri, b"{}"),
            lambda: storage.objects(f"s3://{bucket.name}"),
            lambda: storage.head(uri),
        ):
            faults.budget = faults.total + 1
            before = storage.retries
            call()
            assert storage.retries == before + 1
        setattr(faults, kind, 0.0)


@pytest.mark.parametrize("kind", ["cut_error", "cut_body", "reset_body"])
def test_a_small_object_whose_body_is_cut_is_read_again(serve: Serve, bucket: Bucket, kind: str) -> None:
    bucket.put("result.json", b'{"stage": "pull"}')
    storage, faults = serve(budget=3, **{kind: 1.0})
    assert storage.read(f"s3://{bucket.name}/result.json") == b'{"stage": "pull"}'
    assert storage.retries == faults.total == 3


def test_a_body_goes_on_where_it_broke(
    serve: Serve, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random.Random(1).randbytes(3_000_000)
    storage, faults = serve(budget=0, cut_body=1.0)
    listed = one(storage, bucket, data)
    faults.budget = 12
    # 12 halvings leave less than a thousandth for the last request.
    starts: list[int] = []
    read_from = storage._read_from
    monkeypatch.setattr(storage, "_read_from", lambda it, start: starts.append(start) or read_from(it, start))
    storage.download_listed(listed, tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == data
    assert starts == sorted(starts)
    assert len(data) - starts[-1] < len(data) / 1_000
    assert storage.retries == 12


def test_a_server_that_takes_no_range_starts_again(serve: Serve, bucket: Bucket, tmp_path: Path) -> None:
    data = random.Random(2).randbytes(1_000_000)
    storage, faults = serve(budget=0, cut_body=1.0, honours_range=False)
    listed = one(storage, bucket, data)
    storage.download_listed(listed, tmp_path / "first")
    faults.budget = 3
    storage.download_listed(listed, tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == data
    assert storage.retries == 3


@pytest.mark.parametrize("kind", ["slow_down", "cut_error", "cut_body", "reset", "reset_body", "stall", "silence"])
def test_an_s3_that_never_recovers_is_given_up_and_leaves_nothing(
    serve: Serve, bucket: Bucket, tmp_path: Path, kind: str
) -> None:
    storage, faults = serve(SHORT, budget=0)
    data = random.Random(3).randbytes(100_000)
    listed = one(storage, bucket, data)
    (tmp_path / "day").mkdir()
    setattr(faults, kind, 1.0)
    faults.budget = None
    started = time.monotonic()
    with pytest.raises(StorageUnavailable, match=rf"{listed.uri}.*; tried 3 times$") as failure:
        storage.download_listed(listed, tmp_path / "day" / "one")
    assert time.monotonic() - started < 3
    assert failure.value.exit_code == 75
    assert storage.retries == 2
    assert faults.total == 3
    assert list((tmp_path / "day").iterdir()) == []


def test_a_removed_object_says_so_at_once(serve: Serve, bucket: Bucket, tmp_path: Path) -> None:
    storage, _ = serve()
    listed = one(storage, bucket, b"a line\n")
    bucket.delete("logs/one")
    said = (
        rf"^{listed.uri} was listed with ETag {listed.etag}, but was removed before it was read; run the command again$"
    )
    with pytest.raises(ObjectChanged, match=said) as failure:
        storage.download_listed(listed, tmp_path / "one")
    assert failure.value.exit_code == 75
    assert storage.retries == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("honours_if_match", [True, False])
def test_a_replaced_object_of_the_same_size_says_so_at_once(
    serve: Serve, bucket: Bucket, tmp_path: Path, honours_if_match: bool
) -> None:
    storage, _ = serve(honours_if_match=honours_if_match)
    listed = one(storage, bucket, b"a line\n")
    bucket.put("logs/one", b"A LINE\n")
    with pytest.raises(ObjectChanged, match=r"but was replaced before it was read; run the command again") as failure:
        storage.download_listed(listed, tmp_path / "one")
    assert ("412" in str(failure.value.__cause__)) == honours_if_match
    assert storage.retries == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("honours_if_match", [True, False])
@pytest.mark.parametrize("size", [100_000, 10])
def test_an_object_replaced_in_the_middle_is_never_a_mixture(
    serve: Serve, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, honours_if_match: bool, size: int
) -> None:
    storage, faults = serve(budget=0, cut_body=1.0, honours_if_match=honours_if_match)
    listed = one(storage, bucket, b"a" * 100_000)
    faults.budget = 1
    read_from = storage._read_from

    def replaced_between(item: StoredObject, start: int) -> object:
        if start:
            assert faults.total == 1
            bucket.put("logs/one", b"b" * size)
        return read_from(item, start)

    monkeypatch.setattr(storage, "_read_from", replaced_between)
    with pytest.raises(ObjectChanged, match=r"but was replaced before it was read"):
        storage.download_listed(listed, tmp_path / "one")
    assert list(tmp_path.iterdir()) == []


def download(read_from: Callable[[int], Any], size_bytes: int, path: Path, repeated: Callable[[], None]) -> None:
    never = threading.Event()
    Download(read_from, "s3://b/k", size_bytes, patience=SHORT, repeated=repeated, cancelled=never).into(path)


def test_a_connection_that_breaks_now_and_then_is_not_given_up(tmp_path: Path) -> None:
    size, repeated = 8 << 20, []

    def read_from(start: int) -> Iterator[tuple[int, bytes]]:
        yield start, bytes(1 << 20)
        if start + (1 << 20) < size:
            raise StorageUnavailable("broken off")

    download(read_from, size, tmp_path / "x", lambda: repeated.append(1))
    assert (tmp_path / "x").stat().st_size == size
    assert len(repeated) == 7


def test_a_server_that_always_starts_again_is_given_up(tmp_path: Path) -> None:
    repeated: list[int] = []

    def read_from(start: int) -> Iterator[tuple[int, bytes]]:
        yield 0, bytes((2 << 20) if len(repeated) % 2 else (1 << 20))
        raise StorageUnavailable("broken off")

    with pytest.raises(StorageUnavailable, match="tried 3 times"):
        download(read_from, 8 << 20, tmp_path / "x", lambda: repeated.append(1))
    # Twice it got a megabyte further than before.
    assert len(repeated) == 4
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_not_tried_again(tmp_path: Path) -> None:
    calls = []

    def read_from(start: int) -> Iterator[tuple[int, bytes]]:
        calls.append(start)
        raise OSError(28, "No space left on device")
        yield

    with pytest.raises(OSError, match="No space left"):
        download(read_from, 3, tmp_path / "x", lambda: None)
    assert calls == [0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "answers",
    [
        [[(0, b"ab")], [(3, b"d")]],  # a hole
        [[(0, b"abcdefgh")]],  # more than was listed
        [[(0, b"ab")], []],  # an end without a word
    ],
)
def test_bytes_that_do_not_fit_are_fetched_again(tmp_path: Path, answers: list[list[tuple[int, bytes]]]) -> None:
    left = iter(answers)

    def read_from(start: int) -> Iterator[tuple[int, bytes]]:
        yield from next(left, [(start, b"abcd"[start:])])

    path = tmp_path / "x"
    download(read_from, 4, path, lambda: None)
    assert path.read_bytes() == b"abcd"


def test_odd_keys(serve: Serve, bucket: Bucket, tmp_path: Path) -> None:
    names = [
        "a b",
        "ü/日本",
        "100%",
        "%2F",
        "a+b",
        "line\nbreak",
        "..hidden",
        "a..b/c",
        "?q=1&r=2",
        "#frag",
        "'\"<>&;",
        "~",
    ]
    for name in names:
        bucket.put(f"logs/{name}", name.encode())
    storage, _ = serve(slow_down=0.2)
    found = read_all(storage, bucket, tmp_path)
    assert sorted(found) == sorted(f"s3://{bucket.name}/logs/{name}" for name in names)
    assert sorted(found.values()) == sorted(name.encode() for name in names)


@pytest.mark.parametrize("key", ["logs/../x", "logs/..", "logs/./x", "logs//x", "/x"])
def test_keys_that_are_no_paths_reach_s3_as_they_are(
    serve: Serve, proxy: Proxy, bucket: Bucket, tmp_path: Path, key: str
) -> None:
    storage, _ = serve()
    # This S3 keeps its objects as files, and so has none of them.
    with pytest.raises((ObjectChanged, StorageRefused)):
        storage.download_listed(StoredObject(f"s3://{bucket.name}/{key}", 1, "0"), tmp_path / "x")
    assert proxy.asked == f"/{bucket.name}/{key}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "answer", [{"ContentLength": 3}, {"ContentRange": "bytes 7-9/10", "ContentLength": 4}, {"ContentRange": "?"}]
)
def test_an_answer_that_may_be_another_part_is_not_used(answer: dict[str, Any]) -> None:
    with pytest.raises(StorageUnavailable, match="where 10 bytes were listed"):
        _first_byte(answer, StoredObject("s3://b/k", 10, "0"))
