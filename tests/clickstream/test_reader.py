"""One day's objects: every line in its place, whatever the bytes are and however they are spread."""

from __future__ import annotations

import gzip
import json
import random
import re
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embft.clickstream import quarantine, reader, sessions
from embft.clickstream.quarantine import RAW_BYTES
from embft.log_config import LogFields, Logs, Noise
from tests.clickstream.good_lines import DAY, KEY, LOGS, Read, line

GOLDEN = {
    "blank": b"   \r",
    "not_utf8": b'{"query": "\xff"}',
    "not_json": b'{"query": "lamp"',
    "not_object": b'["lamp"]',
    "not_unicode": line(query="lamp \ud800"),
    "query_missing": line(query=...),
    "query_type": line(query=["lamp"]),
    "time_missing": line(time=None),
    "time_unreadable": line(time="yesterday"),
    "other_day": line(time="2026-03-11T00:00:00Z"),
    "clicked_type": line(clicked={"id": "a"}),
    "shown_type": line(shown="a"),
    "session_id_type": line(session_id=1.5),
    "client_type": line(client=True),
    "duplicate_key": line()[:-1] + b', "query": "blue lamp"}',
}


@pytest.mark.parametrize("reason", GOLDEN)
def test_bad_line_is_set_aside_with_its_reason_place_and_bytes(read: Read, reason: str) -> None:
    found = read(line() + b"\n" + GOLDEN[reason] + b"\n" + line(session_id="s2"))
    (row,) = found.quarantine.to_pylist()
    assert (row["object"], row["line"], row["reason"]) == ("s3://shop/part.jsonl", 2, reason)
    assert row["raw"] == re.sub(rb'"client": ("c1"|true)', b'"client": "<hidden>"', GOLDEN[reason])
    assert row["detail"]
    assert found.sessions["session_id"].to_pylist() == ["s1", "s2"]
    assert found.accounting.quarantined_by_reason == {reason: 1}


@pytest.mark.parametrize(
    ("reason", "bad"),
    [
        ("not_json", b'{"query": "lamp", "time": NaN}'),
        ("not_json", b"[" * 100_000),
        ("time_unreadable", line(time=1)[:-1].replace(b'"time": 1', b'"time": ' + b"9" * 5000) + b"}"),
        ("query_missing", line(query=" \u3000\t")),
        ("query_missing", line(query=None)),
        ("time_unreadable", line(time=True)),
        ("time_unreadable", line(time=[2026, 3, 10])),
        ("time_unreadable", line(time=1e300)),
        ("time_unreadable", line(time="2026-02-30T00:00:00Z")),
        ("other_day", line(time="0001-01-01T00:00:00+10:00")),
        ("clicked_type", line(clicked="")),
        ("clicked_type", line(clicked=["a", None])),
        ("clicked_type", line(clicked=1.0)),
        ("clicked_type", line(clicked=False)),
        ("shown_type", line(shown=["a", ["b"]])),
        ("shown_type", line(shown=3)),
        ("not_unicode", line(clicked=["\udfff"])),
    ],
)
def test_other_faces_of_a_bad_line(read: Read, reason: str, bad: bytes) -> None:
    assert read(bad).accounting.quarantined_by_reason == {reason: 1}


def test_a_list_of_ten_thousand_results_is_none_that_somebody_saw(read: Read) -> None:
    found = read(line(shown=[str(number) for number in range(10_000)]))
    (row,) = found.quarantine.to_pylist()
    assert row["reason"] == "too_many_results"
    assert "shown lists 10000 ids" in row["detail"]


def test_lines_may_end_as_on_windows(read: Read) -> None:
    found = read(b"\r\n".join([line(), line(session_id="s2"), b""]))
    assert (found.sessions.num_rows, found.accounting.quarantined) == (2, 0)


def test_a_day_of_garbage_keeps_the_bytes_of_some_lines_and_the_number_of_all(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_MAX_RAW_LINES", 3)
    found = read(b"garbage\n" * 10)
    assert found.accounting.quarantined_by_reason == {"not_json": 10}
    assert found.quarantine["raw"].to_pylist() == [b"garbage"] * 3 + [b""] * 7


def test_raw_bytes_in_quarantine_are_bounded(read: Read) -> None:
    found = read(b"x" * 10_000)
    assert found.quarantine["raw"].to_pylist() == [b"x" * RAW_BYTES]


def test_strangers_text_is_escaped_and_cut_in_the_detail(read: Read) -> None:
    detail = read(line(time="\x1b[31m\n" + "x" * 500)).quarantine["detail"][0].as_py()
    assert "\x1b" not in detail
    assert "\n" not in detail
    assert len(detail) < 300


def test_day_without_objects_or_lines_has_empty_tables(read: Read) -> None:
    for found in (read({}), read(b"")):
        assert found.accounting.lines == 0
        assert found.sessions.schema == sessions.SCHEMA
        assert found.quarantine.schema == quarantine.SCHEMA


def test_good_line_becomes_a_row(read: Read) -> None:
    (row,) = read(line()).sessions.to_pylist()
    assert row == {
        "session_id": "s1",
        "day": DAY,
        "time": datetime(2026, 3, 10, 12, tzinfo=UTC),
        "client": KEY.of(["c1"])[0],
        "query": "red lamp",
        "shown": ["a", "b"],
        "positions": None,
        "clicked": ["a"],
        "actions": None,
        "dwell_s": None,
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a", ["a"]), (7, ["7"]), (["b", 7, "b"], ["b", "7"]), ([], []), (None, []), (..., []), (10**30, [str(10**30)])],
)
def test_clicked_is_an_id_or_a_list_or_nothing(read: Read, value: Any, expected: list[str]) -> None:
    assert read(line(clicked=value)).sessions["clicked"].to_pylist() == [expected]


@pytest.mark.parametrize("value", [None, ...])
def test_shown_is_null_where_the_log_does_not_say(read: Read, value: Any) -> None:
    assert read(line(shown=value)).sessions["shown"].to_pylist() == [None]


def test_fields_are_named_by_the_config(read: Read) -> None:
    fields = LogFields(query="q", time="ts", clicked="sku", shown=None, session_id=None, client=None)
    raw = json.dumps({"q": "Lamp", "ts": "2026-03-10T12:00:00Z", "sku": 12, "shown": "no list", "client": []}).encode()
    (row,) = read(raw, logs=Logs(uri=LOGS.uri, fields=fields)).sessions.to_pylist()
    assert (row["query"], row["clicked"], row["shown"], row["client"]) == ("lamp", ["12"], None, None)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("  Red \t LAMP\u00a0", "red lamp"),
        ("沙发　床", "沙发 床"),
        ("🎁 for mum", "🎁 for mum"),
        ("<script>alert('x')</script>", "<script>alert('x')</script>"),
        ("cafe\u0301", "caf\u00e9"),
        ("STRASSE Ärmel", "strasse ärmel"),
    ],
)
def test_queries_are_normalised_and_otherwise_kept_as_text(read: Read, typed: str, kept: str) -> None:
    assert read(line(query=typed)).sessions["query"].to_pylist() == [kept]


@pytest.mark.parametrize(
    "time",
    [
        "2026-03-10T12:00:00Z",
        "2026-03-10 13:00:00+01:00",
        "2026-03-10T08:00:00.000-0400",
        "2026-03-10T12:00:00",
        1773144000,
        1773144000.0,
        1773144000000,
        "1773144000",
    ],
)
def test_times_in_any_of_the_forms_are_the_same_instant(read: Read, time: Any) -> None:
    assert read(line(time=time)).sessions["time"].to_pylist() == [datetime(2026, 3, 10, 12, tzinfo=UTC)]


def test_day_begins_and_ends_in_the_logs_zone_on_the_day_the_clock_goes_forward(read: Read) -> None:
    # Berlin, 29 March 2026: 23 hours, from 23:00Z to 22:00Z.
    logs = Logs(uri=LOGS.uri, timezone="Europe/Berlin")
    times = ["2026-03-28T22:59:59Z", "2026-03-28T23:00:00Z", "2026-03-29T21:59:59.999Z", "2026-03-29T22:00:00Z"]
    lines = b"\n".join(line(time=time, session_id=time) for time in times)
    found = read(lines, day=date(2026, 3, 29), logs=logs)
    assert found.sessions["session_id"].to_pylist() == times[1:3]
    assert set(found.sessions["day"].to_pylist()) == {date(2026, 3, 29)}
    assert found.accounting.quarantined_by_reason == {"other_day": 2}


def test_time_without_zone_is_in_the_logs_zone_and_the_first_where_it_happens_twice(read: Read) -> None:
    # Berlin, 25 October 2026: 02:30 happens at 00:30Z and again at 01:30Z.
    logs = Logs(uri=LOGS.uri, timezone="Europe/Berlin")
    found = read(line(time="2026-10-25T02:30:00"), day=date(2026, 10, 25), logs=logs)
    assert found.sessions["time"].to_pylist() == [datetime(2026, 10, 25, 0, 30, tzinfo=UTC)]


def test_copies_are_counted_once_wherever_they_are_delivered(read: Read) -> None:
    found = read({"1": line() + b"\n" + line(), "2.gz": gzip.compress(b" " + line() + b"\r\n")})
    assert found.sessions.num_rows == 1
    assert found.accounting.duplicates == 2


def test_lines_without_session_id_are_told_apart_by_content(read: Read) -> None:
    lines = [line(session_id=...), line(session_id=None), line(session_id=..., clicked=["b"])]
    found = read(b"\n".join(lines))
    ids = found.sessions["session_id"].to_pylist()
    assert len(set(ids)) == 2
    assert all(len(id_) == 16 and int(id_, 16) >= 0 for id_ in ids)
    assert found.accounting.duplicates == 1


def test_of_two_contents_with_one_session_id_the_earlier_stays_and_the_other_is_set_aside(read: Read) -> None:
    late, early = line(time="2026-03-10T13:00:00Z", query="沙发"), line()
    for objects in ({"1": late + b"\n" + late, "2": early}, {"1": early, "2": late + b"\n" + late}):
        found = read(objects)
        assert found.sessions["query"].to_pylist() == ["red lamp"]
        assert found.accounting.duplicates == 1
        (row,) = found.quarantine.to_pylist()
        assert row["reason"] == "session_id_conflict"
        assert "logs.fields.session_id" in row["detail"]
        assert json.loads(row["raw"])["query"] == "沙发"


def test_sessions_of_a_client_beyond_the_cap_are_filtered_the_latest_first(read: Read) -> None:
    logs = Logs(uri=LOGS.uri, noise=Noise(max_sessions_per_client=2))
    rows = [("bot", "12:03"), ("bot", "12:01"), ("bot", "12:02"), ("human", "12:09"), (None, "12:04"), (None, "12:05")]
    rows += [(None, "12:06")]
    lines = [line(client=client, time=f"2026-03-10T{time}:00Z", session_id=time) for client, time in rows]
    found = read(b"\n".join(lines), logs=logs)
    assert found.accounting.filtered == {"client_cap": 1}
    assert found.sessions["session_id"].to_pylist() == ["12:01", "12:02", "12:04", "12:05", "12:06", "12:09"]


def test_sessions_do_not_depend_on_the_order_or_the_split_of_the_lines(read: Read) -> None:
    rng = random.Random(5)
    lines = [
        line(
            session_id=f"s{rng.randrange(60)}",
            time=f"2026-03-10T12:{rng.randrange(3):02}:00Z",
            client=f"c{rng.randrange(8)}",
            clicked=[rng.randrange(3)],
        )
        for _ in range(200)
    ]
    logs = Logs(uri=LOGS.uri, noise=Noise(max_sessions_per_client=5))
    first = read(b"\n".join(lines), logs=logs)
    assert first.accounting.filtered["client_cap"]
    assert first.accounting.quarantined
    for n_objects in (2, 5):
        rng.shuffle(lines)
        objects = {str(number): b"\n".join(lines[number::n_objects]) for number in range(n_objects)}
        other = read(objects, logs=logs)
        assert other.sessions.equals(first.sessions)
        assert other.accounting == first.accounting


def test_order_in_which_objects_are_named_changes_nothing(read: Read) -> None:
    objects = {"b": line() + b"\nbad", "a": b"worse\n" + line(session_id="s2"), "c": line()}
    first, other = read(objects), read(dict(reversed(objects.items())))
    assert other.sessions.equals(first.sessions)
    assert other.quarantine.equals(first.quarantine)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.dictionaries(st.sampled_from(sorted(json.loads(line()))), JSON | st.just(...), max_size=3)
LINES = st.binary(max_size=40) | FIELDS.map(lambda change: line(**change)) | st.sampled_from([*GOLDEN.values(), line()])


@given(parts=st.lists(st.tuples(st.lists(LINES, max_size=6), st.booleans(), st.integers(0, 30)), max_size=3))
@settings(max_examples=30)
def test_any_bytes_are_accounted_for_and_nothing_raises(read: Read, parts: list[tuple[list[bytes], bool, int]]) -> None:
    objects = {}
    for number, (lines, packed, n_cut) in enumerate(parts):
        content = b"\n".join(lines)
        content = gzip.compress(content) if packed else content
        objects[f"{number}.gz" if packed else str(number)] = content[: max(len(content) - n_cut, 0)]
    found = read(objects)
    assert found.sessions.schema == sessions.SCHEMA
    assert found.accounting.sessions == found.sessions.num_rows
    assert found.accounting.quarantined == found.quarantine.num_rows
    assert len(set(found.sessions["session_id"].to_pylist())) == found.sessions.num_rows
