"""Days: where they begin and end, in which objects their lines lie, and what is taken from the next day's."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embft.clickstream.days import Day, DayPattern, Role, objects_of
from embft.log_config import Logs
from tests.clickstream.good_lines import DAY, line, read_day

HOUR_US = 3_600_000_000
SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)  # Berlin sets its clocks


def logs(zone: str = "UTC", settle_hours: int = 0, uri: str = "s3://shop/dt={day}") -> Logs:
    return Logs(uri=uri, timezone=zone, settle_hours=settle_hours)


@pytest.mark.parametrize(
    ("day", "zone", "hours"),
    [
        (DAY, "Europe/Berlin", 24),
        (SPRING, "Europe/Berlin", 23),
        (AUTUMN, "Europe/Berlin", 25),
        # Lord Howe sets its clocks by half an hour; in Santiago and Beirut the clock skips midnight itself.
        (date(2026, 4, 5), "Australia/Lord_Howe", 24.5),
        (date(2026, 9, 6), "America/Santiago", 23),
    ],
)
def test_a_day_is_as_long_as_the_clock_says(day: date, zone: str, hours: float) -> None:
    found = Day.of(day, logs(zone))
    assert (found.end_us - found.start_us) / HOUR_US == hours


@given(
    day=st.dates(date(1990, 1, 1), date(2035, 1, 1)),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/Santiago", "Asia/Kolkata", "Pacific/Apia"]),
    second=st.integers(0, 86_399),
)
def test_days_follow_one_another_and_hold_the_times_of_their_date(day: date, zone: str, second: int) -> None:
    today, tomorrow = (Day.of(it, logs(zone)) for it in (day, day + timedelta(days=1)))
    assert today.end_us == tomorrow.start_us
    time = datetime.fromtimestamp(today.start_us / 1e6 + second, UTC)
    local = time.astimezone(ZoneInfo(zone)).date()
    assert today.settles(today.start_us + second * 1_000_000) == (local == day)


def test_sessions_belong_to_the_day_of_their_zone_whatever_their_offset(tmp_path: Path) -> None:
    times = {
        "first": "2026-03-29T00:00:00+01:00",
        "before": "2026-03-28T22:59:59.999999Z",
        # Twice the same moment, and the last one of a day of 23 hours.
        "offset": "2026-03-29T18:30:00+05:30",
        "utc": "2026-03-29T13:00:00Z",
        "last": "2026-03-29T21:59:59.999999Z",
        "after": "2026-03-29T22:00:00Z",
        # Without an offset: local time; one that the clock skipped is as long after midnight as it says.
        "local": "2026-03-29T23:59:59",
        "skipped": "2026-03-29T02:30:00",
    }
    content = b"\n".join(line(session_id=name, time=time, client=None) for name, time in times.items())
    found = read_day({"a": content}, tmp_path, day=SPRING, logs=logs("Europe/Berlin"))
    kept = dict(zip(found.sessions["session_id"].to_pylist(), found.sessions["time"].to_pylist(), strict=True))
    assert set(times) - set(kept) == {"before", "after"}
    assert kept["offset"] == kept["utc"]
    assert kept["local"] == datetime(2026, 3, 29, 21, 59, 59, tzinfo=UTC)
    assert kept["skipped"] == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    (before, after) = found.quarantine["detail"].to_pylist()
    assert before.startswith("2026-03-28T22:59:59.999999+00:00 is on 2026-03-28 in Europe/Berlin")
    assert "logs.timezone" in after


def test_an_hour_that_comes_twice_is_the_first_one_and_both_are_of_the_day(tmp_path: Path) -> None:
    content = (
        line(session_id="a", time="2026-10-25T02:30:00") + b"\n" + line(session_id="b", time="2026-10-25T01:30:00Z")
    )
    found = read_day({"a": content}, tmp_path, day=AUTUMN, logs=logs("Europe/Berlin")).sessions
    assert found["time"].to_pylist() == [datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1)]


@pytest.mark.parametrize(
    ("template", "prefix", "inside", "outside"),
    [
        ("s3://shop/dt={day}", "s3://shop/dt=2026-03-10", ["/part-000.gz", "/a/b"], ["x", "0/a"]),
        ("s3://shop/{day:%Y/%m/%d}/", "s3://shop/2026/03/10", ["/x", "/a/b"], ["0/x"]),
        ("s3://shop/dt={day}/hour=*", "s3://shop/dt=2026-03-10/hour=", ["07/part", "7/a/b"], ["/"]),
        (
            "s3://shop/*/{day}",
            "s3://shop/",
            ["eu/2026-03-10/x", "us/2026-03-10/y"],
            ["eu/2026-03-11/x", "2026-03-10/x"],
        ),
        ("s3://shop/events-{day}.jsonl.gz", "s3://shop/events-2026-03-10.jsonl.gz", [""], [".tmp"]),
        ("s3://shop/{day}/*.parquet", "s3://shop/2026-03-10/", ["a.parquet"], ["a.csv", "b/a.parquet.crc"]),
    ],
)
def test_a_template_names_the_objects_of_a_day(
    template: str, prefix: str, inside: list[str], outside: list[str]
) -> None:
    pattern = DayPattern.of(Logs(uri=template).uri[0], DAY)
    assert pattern.prefix == prefix
    assert all(pattern.matches.fullmatch(prefix + rest) for rest in inside)
    assert not any(pattern.matches.fullmatch(prefix + rest) for rest in outside)


KEYS = [f"s3://shop/dt={DAY + timedelta(days=n)}/hour={hour:02d}/x" for n in (-1, 0, 1) for hour in range(24)]


def roles(config: Logs) -> dict[str, Role]:
    found = objects_of(DAY, config, lambda prefix: [key for key in KEYS if key.startswith(prefix)], lambda key: key)
    return dict(found)


def test_without_settling_a_day_reads_its_own_objects_alone() -> None:
    assert roles(logs(uri="s3://shop/dt={day}/hour={hour}")) == dict.fromkeys(KEYS[24:48], Role.OWN)


def test_settling_reads_the_next_days_first_hours_or_all_that_it_has() -> None:
    by_hour = roles(logs(settle_hours=2, uri="s3://shop/dt={day}/hour={hour}"))
    assert [key for key, role in by_hour.items() if role is Role.EARLY] == KEYS[24:26]
    assert [key for key, role in by_hour.items() if role is Role.NEXT] == KEYS[48:50]
    whole = roles(logs(settle_hours=2, uri="s3://shop/dt={day}/hour=*"))
    assert [key for key, role in whole.items() if role is Role.NEXT] == KEYS[48:]


def test_a_late_session_is_taken_by_its_own_day_and_by_it_alone(tmp_path: Path) -> None:
    tomorrow = DAY + timedelta(days=1)
    late, own = line(session_id="late", time=f"{DAY}T23:59:00Z"), line(session_id="own", time=f"{tomorrow}T08:00:00Z")
    objects = {"next": late + b"\n" + own}
    settling = logs(settle_hours=6)
    first = read_day(objects, tmp_path / "1", logs=settling, roles={"next": Role.NEXT})
    second = read_day(objects, tmp_path / "2", day=tomorrow, logs=settling, roles={"next": Role.EARLY})
    assert first.sessions["session_id"].to_pylist() == ["late"]
    assert second.sessions["session_id"].to_pylist() == ["own"]
    assert first.accounting.filtered == second.accounting.filtered == {"other_day": 1}
    # Where the day before never looks, a line of it is lost, and says so.
    lost = read_day(objects, tmp_path / "3", day=tomorrow, logs=logs(), roles={"next": Role.OWN})
    assert lost.accounting.quarantined_by_reason == {"other_day": 1}
