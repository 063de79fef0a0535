"""Bytes that broke the reader once: they raised, took minutes, or left in quarantine who searched."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embft.clickstream import arrow_lines
from embft.clickstream.days import Day, Role
from embft.clickstream.parsing import ObjectParser, Parsed
from embft.clickstream.privacy import private_parts
from embft.clickstream.quarantine import BadLine
from embft.clickstream.values import json_object, value_at
from embft.log_config import LogFields, Logs, Noise
from tests.clickstream.good_lines import DAY, KEY, LOGS, Read, line
from tests.clickstream.test_parsing import UBI_LOGS, outcome

NOON = 1773144000
EVENT_LOGS = Logs(
    uri="s3://shop/{day}",
    format="events",
    fields=LogFields(dwell_s="dwell"),
    noise=Noise(max_sessions_per_minute=None),
)
SECRET = "secretguy"


def event(**fields: Any) -> bytes:
    return json.dumps(
        {"time": NOON, "action": "click", "search_id": "q", "query": "lamp", "item": "i"} | fields
    ).encode()


def table(**columns: Any) -> pa.Table:
    n_rows = len(next(iter(columns.values())))
    usual = {
        "query": ["lamp"] * n_rows,
        "time": [NOON] * n_rows,
        "clicked": [["a"]] * n_rows,
        "session_id": [f"s{number}" for number in range(n_rows)],
    }
    return pa.table(usual | columns)


def parquet(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="none")
    return sink.getvalue()


def strings(values: list[bytes]) -> pa.Array:
    return pa.Array.from_buffers(pa.string(), len(values), pa.array(values).buffers())


@pytest.mark.parametrize("dwell", [10**400, 1e300, -1])
def test_dwell_that_no_clock_tells_is_set_aside(read: Read, dwell: float) -> None:
    log = read(event(dwell=dwell), logs=EVENT_LOGS)
    assert log.accounting.quarantined_by_reason == {"dwell_type": 1}


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ({"query": strings([b"a", b"\xff\xfe", b"b"])}, "not_utf8"),
        ({"clicked": pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), strings([b"a", b"\xff", b"b"]))},
         "not_utf8"),
        ({"client": strings([b"a", b"\xff\xfe", b"b"])}, "not_utf8"),
        ({"time": pa.array([NOON * 10**6, 2**63 - 1, NOON * 10**6], pa.timestamp("us"))}, "time_unreadable"),
        ({"time": pa.array([NOON, 2**40, NOON], pa.timestamp("s", "UTC"))}, "time_unreadable"),
        ({"query": pa.array(["a", None, "b"], pa.string_view())}, "query_missing"),
    ],
)  # fmt: skip
def test_one_bad_row_of_a_parquet_object_costs_that_row(read: Read, column: dict[str, Any], reason: str) -> None:
    log = read({"a.parquet": parquet(table(**column))})
    assert (log.accounting.lines, log.accounting.used) == (3, 2)
    assert log.quarantine.select(["line", "reason"]).to_pylist() == [{"line": 2, "reason": reason}]


def test_parquet_columns_of_one_name_are_set_aside(read: Read) -> None:
    columns = [pa.array(["a"]), pa.array([NOON]), pa.array([NOON]), pa.array([["a"]])]
    log = read({"a.parquet": parquet(pa.table(columns, names=["query", "time", "time", "clicked"]))})
    assert log.accounting.quarantined_by_reason == {"duplicate_key": 1}


def test_parquet_column_name_that_is_not_utf8_is_set_aside(read: Read) -> None:
    log = read({"a.parquet": parquet(table(query=["lamp"])).replace(b"query", b"que\xa6y")})
    assert log.accounting.quarantined_by_reason == {"corrupt_parquet": 1}


@pytest.mark.parametrize("clicked", [[[1.0], [2.5]], [[True], [False]]])
def test_parquet_ids_that_are_no_ids_are_not_written_out_as_texts(read: Read, clicked: list[Any]) -> None:
    log = read({"a.parquet": parquet(table(clicked=clicked))})
    assert log.accounting.quarantined_by_reason == {"clicked_type": 2}


def test_parquet_nan_within_a_struct_is_a_missing_value_for_a_row_that_is_read_alone() -> None:
    rows = pa.table(
        {
            "event_attributes": [{"position": {"ordinal": float("nan")}, "object": {"object_id": "a"}}],
            "timestamp": [NOON + 86_400],
            "action_name": ["click"],
            "query_id": ["q"],
        }
    )
    parser = ObjectParser(Day.of(DAY, UBI_LOGS), UBI_LOGS, KEY)
    assert outcome(parser, parquet(rows), Role.NEXT) == ([], [], {"other_day": 1}, 1)


def test_parquet_column_below_another_that_is_null(read: Read) -> None:
    rows = pa.table(
        {
            "event_attributes.object.object_id": ["i"],
            "event_attributes": pa.array([None], pa.struct([("position", pa.struct([("ordinal", pa.int64())]))])),
            "timestamp": [NOON],
            "action_name": ["click"],
            "query_id": [""],
        }
    )
    log = read({"a.parquet": parquet(rows)}, logs=UBI_LOGS)
    assert log.accounting.quarantined_by_reason == {"search_id_type": 1}


@pytest.mark.parametrize("ids", [["a", "b"], [1, 2]])
def test_hit_ids_of_old_ubi_logs_are_read_by_lines_together(ids: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    search = {"timestamp": NOON, "user_query": "lamp", "action_name": "search"}
    lines = [
        json.dumps(search | {"query_id": f"q{number}", "query_response_object_ids": ids}).encode()
        for number in range(3)
    ]
    for mixed in ([], [json.dumps(search | {"query_id": "new", "query_response_hit_ids": ["c"]}).encode()]):
        content = b"\n".join(lines + mixed)
        together = outcome(ObjectParser(Day.of(DAY, UBI_LOGS), UBI_LOGS, KEY), content, Role.OWN)
        assert [row["shown"] for row in together[0]] == [[str(it) for it in ids]] * 3 + [["c"]] * len(mixed)
        with monkeypatch.context() as patch:
            patch.setattr(arrow_lines, "_is_plain", lambda *_: False)
            assert outcome(ObjectParser(Day.of(DAY, UBI_LOGS), UBI_LOGS, KEY), content, Role.OWN) == together


def test_ubi_log_without_hit_ids(read: Read) -> None:
    logs = Logs(uri="s3://shop/{day}", format="ubi", fields=LogFields(shown=None))
    content = b'{"timestamp": %d, "action_name": "search", "query_id": "q", "user_query": "lamp"}' % NOON
    assert read(content, logs=logs).accounting.filtered == {"nothing_shown": 1}


def look_for_addresses(size: int) -> None:
    private_parts("a" * (25 * size) + " @")


def look_for_repeated_keys(size: int) -> None:
    repeating = json_object(b"{" + b",".join(b'"%d":1,"%d":1' % (it, it) for it in range(size)) + b"}")
    with pytest.raises(BadLine, match="stands twice"):
        value_at(repeating, "7")


@pytest.mark.parametrize("look", [look_for_addresses, look_for_repeated_keys])
def test_work_grows_no_faster_than_the_line(look: Callable[[int], None]) -> None:
    """Eight times the line costs eight times the work; with work by the square of it, 64 times."""
    costs = []
    for size in (2_000, 16_000):
        started = time.process_time()
        look(size)
        costs.append(time.process_time() - started)
    assert costs[1] < 32 * costs[0]


def test_a_search_of_many_impressions_and_clicks_fits_the_memory(read: Read) -> None:
    events = [event(action="search", item=None)]
    for number in range(20_000):
        events += [
            event(action="impression", item=f"item {number}", position=number, time=NOON + 1),
            event(item=f"item {number}", time=NOON + 2),
        ]
    (session,) = read(b"\n".join(events), logs=EVENT_LOGS).sessions.to_pylist()
    assert session["positions"] == list(range(1, 20_001))
    assert sorted(session["clicked"]) == sorted(session["shown"])


@pytest.mark.parametrize(
    "content",
    [
        line(client=[SECRET]),
        line(client={"id": SECRET}),
        line(client=[[SECRET, "]"], {"a": SECRET}]),
        line(client=["]", SECRET], time="yesterday"),
        line(client=SECRET + "\ud800"),
        line(client=[SECRET])[:-3],
        parquet(table(query=["lamp"], client=[SECRET]))[:-10],
        parquet(table(query=["lamp"], client=[SECRET]).drop_columns("time")),
    ],
)
def test_quarantine_tells_nobody_who_searched(read: Read, content: bytes) -> None:
    log = read(content)
    assert log.accounting.quarantined == 1
    assert SECRET not in repr(log.quarantine.to_pylist())


def test_quarantine_shows_no_client_that_is_no_id(read: Read) -> None:
    log = read(line(client=12345678.5))
    assert "12345678" not in repr(log.quarantine.to_pylist())


def test_what_was_set_aside_does_not_hold_on_to_the_line() -> None:
    parsed = Parsed()
    ObjectParser(Day.of(DAY, LOGS), LOGS, KEY)._parse_each([(1, b"no JSON")], Role.OWN, parsed)
    ((_, _, bad),) = parsed.bad
    assert bad.__traceback__ is None
    assert bad.__context__ is None
