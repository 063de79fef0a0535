"""Logs as Parquet: what was written by whom or with which types makes no difference to what is read."""

from __future__ import annotations

import io
import math
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embft.log_config import Logs
from tests.clickstream.good_lines import DAY, Read, line

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
UBI = Logs(uri="s3://shop/{day}", format="ubi")


def parquet(table: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def sessions(**columns: pa.Array) -> pa.Table:
    usual = {
        "query": pa.array(["Red  Lamp", "sofa"]),
        "time": pa.array([NOON, NOON], pa.timestamp("us", "UTC")),
        "clicked": pa.array([["a"], []], pa.list_(pa.string())),
        "shown": pa.array([["a", "b"], ["c"]], pa.list_(pa.string())),
        "session_id": pa.array(["s1", "s2"]),
        "client": pa.array(["c1", None]),
    }
    return pa.table(usual | columns)


def test_parquet_is_read_as_lines_of_json_are(read: Read) -> None:
    lines = b"\n".join(
        [line(query="Red  Lamp"), line(session_id="s2", query="sofa", clicked=[], shown=["c"], client=None)]
    )
    expected = read(lines)
    found = read({"part.parquet": parquet(sessions())})
    assert found.sessions.equals(expected.sessions)
    assert found.accounting == expected.accounting


@pytest.mark.parametrize(
    "columns",
    [
        {"query": pa.array(["Red  Lamp", "sofa"]).dictionary_encode()},
        {"query": pa.array(["Red  Lamp", "sofa"], pa.large_string())},
        {"shown": pa.array([["a", "b"], ["c"]], pa.large_list(pa.large_string()))},
        {"time": pa.array([NOON, NOON], pa.timestamp("ns", "Europe/Berlin"))},
        {"time": pa.array([NOON.replace(tzinfo=None)] * 2, pa.timestamp("ms"))},
        {"time": pa.array([int(NOON.timestamp())] * 2, pa.int32())},
        {"time": pa.array([NOON.timestamp() * 1000] * 2, pa.float64())},
        {"time": pa.array([NOON.isoformat()] * 2)},
        {"further": pa.array([{"x": [1]}, None]), "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64()))},
    ],
    ids=lambda columns: "-".join(f"{name}:{it.type}" for name, it in columns.items())[:40],
)
def test_types_that_mean_the_same_give_the_same(read: Read, columns: dict[str, pa.Array]) -> None:
    expected = read({"part.parquet": parquet(sessions())}).sessions
    found = read({"part.parquet": parquet(sessions(**columns))})
    assert found.accounting.quarantined == 0
    assert found.sessions.equals(expected)


def test_numbers_as_ids_are_texts(read: Read) -> None:
    table = sessions(
        clicked=pa.array([[7], []], pa.list_(pa.int32())),
        shown=pa.array([[7, 8], [9]], pa.list_(pa.int64())),
        session_id=pa.array([1, 2], pa.int16()),
    )
    rows = read({"part.parquet": parquet(table)}).sessions.to_pylist()
    assert [(row["session_id"], row["shown"], row["clicked"]) for row in rows] == [
        ("1", ["7", "8"], ["7"]),
        ("2", ["9"], []),
    ]


def test_a_bad_row_is_set_aside_by_its_number(read: Read) -> None:
    table = sessions(query=pa.array(["lamp", None]), shown=pa.array([["a", None], ["c"]], pa.list_(pa.string())))
    found = read({"part.parquet": parquet(table)})
    rows = [(row["line"], row["reason"]) for row in found.quarantine.to_pylist()]
    assert rows == [(1, "shown_type"), (2, "query_missing")]
    assert b'"query": "lamp"' in found.quarantine["raw"].to_pylist()[0]
    assert b"c1" not in found.quarantine["raw"].to_pylist()[0]


@pytest.mark.parametrize("nested", [True, False], ids=["structs", "dotted names"])
def test_ubi_as_structs_or_under_dotted_names_with_floats_for_positions(read: Read, nested: bool) -> None:
    places, items = pa.array([math.nan, 1.0, 2.0]), pa.array([None, "a", "b"])
    attributes = {
        "event_attributes.object.object_id": items,
        "event_attributes.position.ordinal": places,
    }
    if nested:
        objects = pa.StructArray.from_arrays([items], ["object_id"])
        positions = pa.StructArray.from_arrays([places], ["ordinal"])
        attributes = {"event_attributes": pa.StructArray.from_arrays([objects, positions], ["object", "position"])}
    table = pa.table(
        {
            "action_name": pa.array([None, "impression", "impression"]),
            "query_id": pa.array(["q"] * 3),
            "client_id": pa.array(["c"] * 3),
            "timestamp": pa.array([NOON] * 3, pa.timestamp("ms", "UTC")),
            "user_query": pa.array(["lamp", None, None]),
            **attributes,
        }
    )
    found = read({"part.parquet": parquet(table)}, logs=UBI)
    (row,) = found.sessions.to_pylist()
    assert (row["query"], row["shown"], row["positions"]) == ("lamp", ["a", "b"], [1, 2])


def test_what_is_no_parquet_or_lacks_the_time_is_one_line_of_quarantine(read: Read) -> None:
    whole = parquet(sessions(), row_group_size=1)
    cases = {
        "corrupt_parquet": whole[:-9],
        "column_missing": parquet(sessions().drop_columns(["time"])),
    }
    for reason, content in cases.items():
        assert read({"part.parquet": content}).accounting.quarantined_by_reason == {reason: 1}
    named = read({"part.parquet": b"no parquet at all"})
    assert named.accounting.quarantined_by_reason == {"corrupt_parquet": 1}
    detail = read({"p": cases["column_missing"]}).quarantine["detail"].to_pylist()[0]
    assert "no column time, only query, clicked" in detail
    assert "logs.fields.time" in detail


def test_an_empty_table_is_an_empty_object(read: Read) -> None:
    found = read({"part.parquet": parquet(sessions().slice(0, 0))}, day=DAY)
    assert (found.accounting.lines, found.sessions.num_rows) == (0, 0)
