"""A log day pulled from a real S3: what is read again and what is not, in parts, late, and through faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from embft.errors import ConfigError, ObjectChanged, StorageUnavailable
from embft.results import StageResult
from embft.stages import pull
from embft.stages.log_days import ListedDay
from embft.storage import Storage, StoredObject
from embft.storage_download import Patience
from tests.buckets import new_bucket
from tests.faulty_s3 import faulty_s3
from tests.pipeline.conftest import Project
from tests.shop import NIGHT, day_sessions, make_shop

NEXT = NIGHT + timedelta(days=1)
SHORT = Patience(tries=3, first_wait_s=0.001, longest_wait_s=0.01, stall_s=0.3)
STEADY = Patience(tries=20, first_wait_s=0.001, longest_wait_s=0.01, stall_s=0.3)


@pytest.fixture
def shop(s3: str, tmp_path: Path) -> Project:
    bucket = new_bucket(s3)
    include = make_shop(tmp_path, bucket, s3, f"sqlite:///{tmp_path}/mlflow.db")
    return Project(include, bucket, "tiny")


def edit(shop: Project, change: Callable[[str], str]) -> None:
    path = shop.include / "models" / "tiny.yaml"
    path.write_text(change(path.read_text()))


def set_logs(shop: Project, **settings: Any) -> None:
    lines = "".join(f"  {name}: {json.dumps(value)}\n" for name, value in settings.items())
    edit(shop, lambda text: text.replace("catalogue:\n", f"{lines}catalogue:\n"))


def plan(shop: Project) -> list[str]:
    days: list[str] = shop.stage("plan", NIGHT).figures["days_to_pull"]
    return days


def pull_all(shop: Project) -> None:
    for day in plan(shop):
        shop.stage("pull", NIGHT, log_day=date.fromisoformat(day))


def pull_night(shop: Project, **options: Any) -> StageResult:
    return shop.stage("pull", NIGHT, log_day=NIGHT, **options)


def spread(shop: Project, day: date, n_objects: int, n_sessions: int = 80) -> None:
    """Lay a day out anew, over several objects."""
    shop.bucket.delete(f"logs/dt={day}/part-000.jsonl")
    sessions = [json.dumps(it).encode() for it in day_sessions(day, n_sessions)]
    for number in range(n_objects):
        shop.bucket.put(f"logs/dt={day}/part-{number:03d}.jsonl", b"\n".join(sessions[number::n_objects]))


def content(shop: Project, result: StageResult, name: str = "sessions.parquet") -> bytes:
    return shop.storage.read(result.outputs[name].uri) or b""


def test_a_day_is_read_again_only_when_its_objects_or_what_is_read_of_them_change(shop: Project) -> None:
    pull_all(shop)
    assert plan(shop) == []
    # Who may see a query, and how many tasks read a day, is nothing that sessions depend on.
    set_logs(shop, privacy={"min_clients": 9}, max_task_bytes=1 << 40)
    assert plan(shop) == []
    shop.bucket.put(f"logs/dt={NIGHT}/part-late.jsonl", json.dumps(day_sessions(NIGHT, 81)[-1]).encode())
    assert plan(shop) == [str(NIGHT)]
    assert pull_night(shop).figures["sessions"] == 81
    edit(shop, lambda text: text.replace("max_task_bytes", "inactivity_minutes: 9\n  max_task_bytes"))
    assert len(plan(shop)) == 5


def test_another_key_of_client_hashes_means_other_sessions(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(shop)
    first = pull_night(shop)
    monkeypatch.setenv("EMBFT_CLIENT_KEY", "another secret of theirs")
    with pytest.raises(ConfigError, match="EMBFT_CLIENT_KEY is not the one that the night was planned with"):
        pull_night(shop)
    plan(shop)
    second = pull_night(shop)
    assert not second.reused
    assert second.uri != first.uri
    assert content(shop, second) != content(shop, first)


def test_a_big_day_in_parts_gives_the_same_sessions_as_in_one_piece(shop: Project) -> None:
    spread(shop, NIGHT, 7)
    shop.bucket.put(f"logs/dt={NIGHT}/part-000a.jsonl", b"{broken\n" + json.dumps(day_sessions(NIGHT, 1)[0]).encode())
    pull_all(shop)
    whole = pull_night(shop)
    size = sum(it.size_bytes for it in shop.storage.objects(f"s3://{shop.bucket.name}/logs/dt={NIGHT}"))
    set_logs(shop, max_task_bytes=size // 3)
    shop.stage("plan", NIGHT)
    # Read by name, the result in one piece stands; a changed object makes it old.
    shop.bucket.put(
        f"logs/dt={NIGHT}/part-000.jsonl",
        (shop.storage.read(f"s3://{shop.bucket.name}/logs/dt={NIGHT}/part-000.jsonl") or b"") + b"\n",
    )
    names = plan(shop)
    assert names == [f"{NIGHT} {part}" for part in range(1, len(names) + 1)]
    assert 3 <= len(names) <= 5
    results = [pull_night(shop, part=int(name.split()[1])) for name in reversed(names)]
    assert ["parts/" in it.uri for it in results] == [*[True] * (len(names) - 1), False]
    assert content(shop, results[-1]) == content(shop, whole)
    assert content(shop, results[-1], "quarantine.parquet") == content(shop, whole, "quarantine.parquet")
    figures = [it.figures | {"s3_retries": 0} for it in (results[-1], whole)]
    assert figures[0] == figures[1]
    assert plan(shop) == []
    with pytest.raises(ConfigError, match=rf"--part 99: the log day {NIGHT} has {len(names)} parts by now"):
        pull_night(shop, part=99)


def test_clicks_settle_in_the_next_days_objects(shop: Project) -> None:
    set_logs(shop, settle_hours=3)
    late, tomorrow = day_sessions(NIGHT, 81)[-1], day_sessions(NEXT, 5)
    pull_all(shop)
    assert pull_night(shop).figures["sessions"] == 80
    shop.bucket.put(f"logs/dt={NEXT}/part-000.jsonl", b"\n".join(json.dumps(it).encode() for it in [late, *tomorrow]))
    assert plan(shop) == [str(NIGHT)]
    figures = pull_night(shop).figures
    assert (figures["sessions"], figures["filtered"]) == (81, {"other_day": 5})
    following = shop.stage("plan", NEXT).figures["days_to_pull"]
    assert str(NIGHT) not in following
    figures = shop.stage("pull", NEXT, log_day=NEXT).figures
    assert (figures["sessions"], figures["filtered"], figures["quarantined"]) == (5, {"other_day": 1}, 0)


def test_a_day_missing_in_the_middle_of_the_window_is_passed_over_and_told(shop: Project) -> None:
    missing = NIGHT - timedelta(days=2)
    shop.bucket.delete(f"logs/dt={missing}/part-000.jsonl")
    figures = shop.stage("plan", NIGHT).figures
    assert figures["days_without_logs"] == [str(missing)]
    assert str(missing) not in figures["days_to_pull"]


def test_an_object_that_vanished_after_it_was_listed_ends_in_75(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(shop)
    listed = pull.list_day

    def with_a_ghost(storage: Storage, *others: Any) -> ListedDay:
        day = listed(storage, *others)
        item, role = day.objects[0]
        ghost = StoredObject(item.uri.replace("part-000", "gone"), item.size_bytes, item.etag)
        return ListedDay(day.day, (*day.objects, (ghost, role)), ((0, len(day.objects) + 1),))

    monkeypatch.setattr(pull, "list_day", with_a_ghost)
    with pytest.raises(
        ObjectChanged, match=r"gone\.jsonl was listed with ETag .* was removed before it was read"
    ) as gone:
        pull_night(shop)
    assert gone.value.exit_code == 75
    assert not shop.storage.objects(f"{shop.paths.root}/sessions")


def test_a_faulty_s3_gives_the_same_sessions_and_counts_its_retries(
    shop: Project, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread(shop, NIGHT, 24)
    plan(shop)
    expected = content(shop, pull_night(shop))
    with faulty_s3(s3) as proxy:
        edit(shop, lambda text: text.replace(s3, proxy.endpoint))
        monkeypatch.setattr(Storage.__init__, "__defaults__", (STEADY,))
        proxy.faults.slow_down = 0.2
        proxy.faults.cut_body = proxy.faults.reset = 0.05
        result = pull_night(shop, force=True)
        assert content(shop, result) == expected
        assert result.figures["s3_retries"] > 0
        before = {it.uri for it in shop.storage.objects(f"{shop.paths.root}/sessions")}

        monkeypatch.setattr(Storage.__init__, "__defaults__", (SHORT,))
        proxy.faults.cut_body = 1.0
        with pytest.raises(StorageUnavailable, match="tried 3 times") as away:
            pull_night(shop, force=True)
        assert away.value.exit_code == 75
    edit(shop, lambda text: text.replace(proxy.endpoint, s3))
    assert {it.uri for it in shop.storage.objects(f"{shop.paths.root}/sessions")} == before
