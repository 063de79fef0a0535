"""Checkpoints in S3 when S3 is away, refuses, or loses one in between."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from embft.config import StorageConfig
from embft.errors import StorageRefused, StorageUnavailable
from embft.paths import Paths
from embft.stages.checkpoints import StoredCheckpoints
from embft.stages.retention import remove_spent_checkpoints
from embft.storage import Storage
from tests.buckets import Bucket, new_bucket
from tests.faulty_s3 import Faults, faulty_s3


@pytest.fixture
def bucket(s3: str) -> Bucket:
    return new_bucket(s3)


def storage(endpoint: str, bucket: Bucket) -> Storage:
    return Storage(StorageConfig(artifacts=f"s3://{bucket.name}/models", endpoint_url=endpoint))


def store(endpoint: str, bucket: Bucket, folder: Path, prefix: str = "kept") -> StoredCheckpoints:
    return StoredCheckpoints(storage(endpoint, bucket), f"s3://{bucket.name}/{prefix}", folder)


def written(folder: Path, text: str) -> Path:
    path = folder / "next.ckpt"
    path.write_text(text)
    return path


def names(endpoint: str, bucket: Bucket) -> list[str]:
    found = storage(endpoint, bucket).objects(f"s3://{bucket.name}/kept")
    return [it.uri.rpartition("/")[2].partition("-")[0] for it in found]


def test_the_last_two_are_kept_and_the_newest_comes_back(s3: str, bucket: Bucket, tmp_path: Path) -> None:
    mine = store(s3, bucket, tmp_path / "mine")
    assert mine.newest() is None
    for step in (9, 10, 100):
        mine.keep(written(tmp_path, f"after {step}"), step)
    mine.settle()
    assert names(s3, bucket) == [f"{step:012d}" for step in (10, 100)]
    assert list((tmp_path / "mine").iterdir()) == []  # no copy fills the disk
    newest = store(s3, bucket, tmp_path / "other").newest()
    assert newest is not None
    assert newest.read_text() == "after 100"


def test_s3_away_costs_the_checkpoint_and_not_the_training(
    s3: str, bucket: Bucket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with faulty_s3(s3) as proxy:
        proxy.faults = Faults(slow_down=1.0)
        mine = store(proxy.endpoint, bucket, tmp_path / "mine")
        mine.keep(written(tmp_path, "lost"), 1)
        mine.keep(written(tmp_path, "lost too"), 2)
        assert "a checkpoint was not kept, training goes on" in caplog.text
        with pytest.raises(StorageUnavailable):
            mine.settle()  # at the end, whoever is told to stop must know
        proxy.faults = Faults()
        mine.keep(written(tmp_path, "after 3"), 3)
        mine.settle()
    assert names(s3, bucket) == [f"{3:012d}"]


def test_s3_that_refuses_ends_the_training_at_once(s3: str, bucket: Bucket, tmp_path: Path) -> None:
    """It would refuse the result too, hours later."""
    mine = StoredCheckpoints(storage(s3, bucket), "s3://no-such-bucket/kept", tmp_path / "mine")
    mine.keep(written(tmp_path, "x"), 1)
    with pytest.raises(StorageRefused, match="no-such-bucket"):
        mine.keep(written(tmp_path, "y"), 2)


def test_one_that_another_process_removed_meanwhile_is_passed_over(
    s3: str, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mine = store(s3, bucket, tmp_path / "mine")
    for step in (1, 2):
        mine.keep(written(tmp_path, f"after {step}"), step)
    mine.settle()
    theirs = storage(s3, bucket)
    listed = theirs.objects(f"s3://{bucket.name}/kept")
    bucket.delete(listed[-1].uri.split("/", 3)[3])
    monkeypatch.setattr(theirs, "objects", lambda prefix: listed)
    newest = StoredCheckpoints(theirs, f"s3://{bucket.name}/kept", tmp_path / "theirs").newest()
    assert newest is not None
    assert newest.read_text() == "after 1"
    assert "goes on from the one before it" in caplog.text


def test_spent_and_forgotten_checkpoints_are_removed_and_those_of_other_nights_stay(s3: str, bucket: Bucket) -> None:
    paths = Paths(f"s3://{bucket.name}/models", "shop")
    tonight, before = date(2026, 3, 5), date(2026, 3, 4)
    for day in (tonight, before):
        bucket.put(paths.checkpoints(day, "fine_tune").split("/", 3)[3] + "/ab/1.ckpt", b"x")
    mine, now = storage(s3, bucket), datetime.now(UTC)
    spent = paths.checkpoints(tonight, "fine_tune")
    assert remove_spent_checkpoints(mine, paths, spent, now=now) == 1
    assert [it.uri for it in mine.objects(paths.all_checkpoints)] == [
        f"{paths.checkpoints(before, 'fine_tune')}/ab/1.ckpt"
    ]
    assert remove_spent_checkpoints(mine, paths, spent, now=now + timedelta(days=15)) == 1
    assert mine.objects(paths.all_checkpoints) == []


def test_whoever_may_not_remove_old_ones_still_keeps_new_ones(
    s3: str, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = storage(s3, bucket)

    def forbidden(**_: object) -> dict[str, object]:
        return {"Errors": [{"Key": "kept", "Code": "AccessDenied", "Message": "Access Denied"}]}

    monkeypatch.setattr(theirs._s3, "delete_objects", forbidden)
    mine = StoredCheckpoints(theirs, f"s3://{bucket.name}/kept", tmp_path / "mine")
    for step in (1, 2, 3, 4):
        mine.keep(written(tmp_path, f"after {step}"), step)
    mine.settle()
    assert names(s3, bucket) == [f"{step:012d}" for step in (1, 2, 3, 4)]
    assert "1 old objects stay in S3" in caplog.text


def test_of_two_after_the_same_step_the_later_one_is_the_newest(
    s3: str, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches without a pair of a click and a not-clicked result make no step."""
    theirs = storage(s3, bucket)
    mine = StoredCheckpoints(theirs, f"s3://{bucket.name}/kept", tmp_path / "mine")
    for text in ("earlier", "later"):
        mine.keep(written(tmp_path, text), 5)
        mine.settle()
    listed = {it.size_bytes: it for it in theirs.objects(f"s3://{bucket.name}/kept")}
    for first, second in ((7, 5), (5, 7)):
        now = datetime(2026, 3, 11, tzinfo=UTC)
        found = [replace(listed[first], modified_utc=now), replace(listed[second], modified_utc=now + timedelta(1))]
        monkeypatch.setattr(theirs, "objects", lambda prefix, found=found: found)
        newest = StoredCheckpoints(theirs, f"s3://{bucket.name}/kept", tmp_path / f"{second}").newest()
        assert newest is not None
        assert len(newest.read_text()) == second
