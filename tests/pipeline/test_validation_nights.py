"""Nights of validation alone: what earlier ones left is what later ones compare with; pages go when they are old."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from embft.results import StageResult
from embft.stages.retention import remove_old_pages
from tests.buckets import new_bucket
from tests.pipeline.conftest import Project
from tests.shop import FIRST, ITEMS, day_sessions, make_shop, write_day, write_items

N_DAYS = 9
LAST = FIRST + timedelta(days=N_DAYS - 1)


@pytest.fixture
def shop(s3: str, tmp_path: Path) -> Project:
    """Nine days of 200 sessions; nights learn from five."""
    bucket = new_bucket(s3)
    include = make_shop(tmp_path, bucket, s3, f"sqlite:///{tmp_path}/mlflow.db")
    for number in range(N_DAYS):
        day = FIRST + timedelta(days=number)
        write_day(bucket, day, day_sessions(day, 200))
    return Project(include, bucket, "tiny")


def validated(shop: Project, day: date, *, force: bool = False) -> StageResult:
    """Run a night as far as `validate_sessions`."""
    for name in shop.stage("plan", day).figures["days_to_pull"]:
        shop.stage("pull", day, log_day=date.fromisoformat(name))
    return shop.stage("validate_sessions", day, force=force)


def nights(shop: Project, first: date, last: date) -> list[StageResult]:
    return [validated(shop, first + timedelta(days=n)) for n in range((last - first).days + 1)]


def damage(shop: Project, day: date, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    write_day(shop.bucket, day, change(day_sessions(day, 200)))


def clickless(sessions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**session, "clicked": []} for session in sessions]


def named(result: StageResult, name: str) -> dict[str, Any]:
    (rule,) = (it for it in result.figures["rules"] if it["name"] == name)
    return dict(rule)


def test_usual_is_what_earlier_nights_saw(shop: Project) -> None:
    first, *later = nights(shop, FIRST + timedelta(days=4), LAST - timedelta(days=1))
    assert any("no earlier night" in note for note in first.figures["notes"])
    assert named(first, "click_rate_usual")["success"] is None
    assert named(first, "items_stay")["success"] is None
    assert all(night.status == "done" and not night.figures["warnings"] for night in later)
    assert named(later[-1], "click_rate_usual")["success"] is True
    assert named(later[-1], "items_stay")["success"] is True

    # A day without clicks stops its night, and the reason says what is usual.
    damage(shop, LAST, clickless)
    stopped = validated(shop, LAST)
    assert stopped.status == "rejected"
    assert stopped.reason is not None
    assert stopped.reason.startswith(f"the sessions of {LAST}: click_rate is 0, usually 0.87")
    assert "validation.overrides" in stopped.reason or "compare the day's click events" in stopped.reason

    # The next night learns from the days around it.
    after = LAST + timedelta(days=1)
    write_day(shop.bucket, after, day_sessions(after, 200))
    went_on = validated(shop, after)
    assert went_on.status == "done"
    assert list(went_on.figures["days_left_out"]) == [LAST.isoformat()]
    assert went_on.figures["sessions"]["left_out"] == 200
    left = pq.read_table(shop.storage.fetch(went_on.outputs["sessions.parquet"], shop.include.parent / "s.parquet"))
    assert LAST not in left["day"].to_pylist()

    # Mended, it is learned from again.
    write_day(shop.bucket, LAST, day_sessions(LAST, 200))
    assert validated(shop, LAST).status == "done"
    assert validated(shop, after).figures["days_left_out"] == {}


def test_a_backfill_compares_with_the_days_before_its_own(shop: Project) -> None:
    middle = LAST - timedelta(days=1)
    nights(shop, FIRST + timedelta(days=4), LAST)
    standing = validated(shop, middle)
    assert standing.reused  # later nights changed nothing for it
    damage(shop, middle, clickless)
    again = validated(shop, middle)
    assert again.status == "rejected"
    told = named(again, "click_rate_usual")["broken_days"][middle.isoformat()]
    assert f"median of {(middle - FIRST).days} earlier days" in told


def test_a_vanished_reference_is_missed_and_said_so(shop: Project) -> None:
    nights(shop, LAST - timedelta(days=2), LAST - timedelta(days=1))
    for n in range(N_DAYS - 3, N_DAYS - 1):
        shop.delete(f"{shop.paths.stage(FIRST + timedelta(days=n), 'validate_sessions')}/result.json")
    lonely = validated(shop, LAST)
    assert lonely.status == "done"
    assert any("no earlier night to compare with" in note for note in lonely.figures["notes"])


def test_a_rejected_catalogue_is_no_reference(shop: Project) -> None:
    day = FIRST + timedelta(days=4)
    assert validated(shop, day).status == "done"
    write_items(shop.bucket, dict(list(ITEMS.items())[:10]))
    cut_short = validated(shop, day + timedelta(days=1))
    assert cut_short.status == "rejected"
    assert cut_short.reason is not None
    assert "size_change is -0.75" in cut_short.reason
    # The night after is compared with the last good one, and stopped too.
    assert validated(shop, day + timedelta(days=2)).status == "rejected"
    write_items(shop.bucket, ITEMS)
    assert validated(shop, day + timedelta(days=3)).status == "done"


def test_a_comment_in_a_suite_repeats_no_work_and_a_limit_does(shop: Project) -> None:
    day = FIRST + timedelta(days=4)
    validated(shop, day)
    suite = shop.include / "expectations" / "sessions.yaml"
    suite.write_text("# a comment\n" + suite.read_text())
    assert validated(shop, day).reused
    suite.write_text(suite.read_text().replace("max_value: 500", "max_value: 400"))
    assert not validated(shop, day).reused


def test_overrides_of_one_model(shop: Project) -> None:
    path = shop.include / "models" / "tiny.yaml"
    changes = "validation: {overrides: {sessions: {click_rate: {severity: critical, kwargs: {min_value: 0.9}}}}}"
    path.write_text(f"{path.read_text()}{changes}\n")
    stopped = validated(shop, FIRST + timedelta(days=4))
    assert stopped.status == "rejected"
    assert stopped.reason is not None
    assert "click_rate is 0.875; it must be at least 0.9 (rule click_rate)" in stopped.reason
    path.write_text(path.read_text().replace("severity: critical, kwargs: {min_value: 0.9}", "off: true"))
    done = validated(shop, FIRST + timedelta(days=4))
    assert done.status == "done"
    assert "click_rate" not in {rule["name"] for rule in done.figures["rules"]}


def test_pages_are_no_outputs_and_go_when_they_are_old(shop: Project) -> None:
    day = FIRST + timedelta(days=4)
    first = validated(shop, day)
    forced = validated(shop, day, force=True)
    assert set(forced.pages) == {"docs/index.html", "docs/catalogue.html", "docs/sessions.html"}
    assert forced.outputs.keys() == first.outputs.keys()
    # What later stages read came out alike, so they repeat nothing.
    assert [it.sha256 for it in forced.outputs.values()] == [it.sha256 for it in first.outputs.values()]
    pages = f"{shop.paths.all_pages}/"
    assert len(shop.storage.objects(pages)) == 6

    now = datetime.now(UTC)
    assert remove_old_pages(shop.storage, shop.paths, 90, now=now + timedelta(days=89)) == 0
    assert remove_old_pages(shop.storage, shop.paths, 90, now=now + timedelta(days=91)) == 6
    assert shop.storage.objects(pages) == []
    assert remove_old_pages(shop.storage, shop.paths, 90, now=now + timedelta(days=91)) == 0
    # The verdict stands without its pages.
    assert validated(shop, day).reused
