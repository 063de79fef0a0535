"""Lines read together and lines read alone come to the same, whatever they hold."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embft.clickstream import arrow_lines, parsing
from embft.clickstream.days import Day, Role
from embft.clickstream.parsing import ObjectParser
from embft.log_config import LogFields, Logs, Noise, Privacy
from tests.clickstream.good_lines import DAY, KEY

IDS = st.one_of(
    st.sampled_from(["a", "b", "ä", "007"]), st.integers(-3, 10**12), st.sampled_from(["", None, 1.5, True])
)
LISTS = st.one_of(st.lists(IDS, max_size=4), st.sampled_from(["a", 5, None, {}, [["a"]]]))
TIMES = st.one_of(
    st.sampled_from(
        [
            "2026-03-10T12:00:00Z",
            "2026-03-10 12:00:00.123456",
            "2026-03-10T23:30:00+0200",
            "2026-03-10T12:00:00.123456789Z",
            " 2026-03-10T12:00:00+00:00 ",
            "2026-03-10",
            "20260310T120000",
            "2026-03-09T23:59:59.999999Z",
            "2026-03-11T00:30:00Z",
            "2026-03-29T02:30:00",
            "1773144000",
            "yesterday",
            "",
        ]
    ),
    st.datetimes().map(str),
    st.integers(1773100000, 1773190000),
    st.integers(1773100000000, 1773190000000),
    st.floats(1773100000, 1773190000),
    st.sampled_from([None, True, 10**20, -(2**63), [2026]]),
)
QUERIES = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["Red  LAMP", "İstanbul ΣΑΣ", "mail me@example.com", "call +49 30 1234567", "  ", None, 42, "灯"]),
)
SESSIONS = st.fixed_dictionaries(
    {"query": QUERIES, "time": TIMES, "clicked": LISTS},
    optional={
        "shown": LISTS,
        "session_id": IDS,
        "client": IDS,
        "agent": st.sampled_from(["Mozilla", "Googlebot/2.1", None, 3]),
        "ip": st.sampled_from(["10.1.2.3", "8.8.8.8", "::1", "no address", None, 4]),
        "more": st.sampled_from([float("nan"), "NaN", [1, {"a": "}{"}], {"b": None}]),
    },
)
EVENTS = st.fixed_dictionaries(
    {
        "timestamp": TIMES,
        "action_name": st.sampled_from(["search", "impression", "click", "purchase", "page_exit", None, 7]),
        "query_id": IDS,
    },
    optional={
        "user_query": QUERIES,
        "client_id": IDS,
        "query_response_hit_ids": LISTS,
        "event_attributes": st.one_of(
            st.none(),
            st.just("text"),
            st.fixed_dictionaries(
                {"object": st.one_of(st.none(), st.fixed_dictionaries({"object_id": IDS}))},
                optional={"position": st.fixed_dictionaries({"ordinal": st.one_of(IDS, st.integers(-1, 30))})},
            ),
        ),
    },
)
RAW = st.sampled_from(
    [
        b"",
        b"   ",
        b"[1]",
        b"null",
        b'{"query": "lamp"',
        b'{"query": "a", "query": "b"}',
        b'{"query": "\xff"}',
        b'{"a": 1} {"b": 2}',
        b'{"query": "\\ud800"}',
        b'{"index": {"_index": "ubi_queries"}}',
        b'\xef\xbb\xbf{"query": "a"}',
    ]
)
SESSION_LOGS = Logs(
    uri="s3://shop/{day}",
    timezone="Europe/Berlin",
    fields=LogFields(user_agent="agent", ip="ip"),
    noise=Noise(internal_ips=("10.0.0.0/8", "::1/128")),
)
UBI_LOGS = Logs(uri="s3://shop/{day}", format="ubi", settle_hours=2, privacy=Privacy(private_queries="mask"))


def outcome(parser: ObjectParser, content: bytes, role: Role) -> tuple[list[Any], list[Any], dict[str, int], int]:
    with tempfile.NamedTemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        # So few lines would else be read one by one.
        patch.setattr(parsing, "_ONE_BY_ONE", 1)
        file.write(content)
        file.flush()
        parts = list(parser.parse(Path(file.name), "s3://shop/part.jsonl", role))
    records = [pa.Table.from_batches([batch]).to_pylist() for part in parts for batch in part.records]
    rows = sorted((row for rows in records for row in rows), key=lambda row: row["line"])
    bad = sorted((line, raw, fault.reason, fault.detail) for part in parts for line, raw, fault in part.bad)
    filtered: dict[str, int] = {}
    for part in parts:
        for rule, count in part.filtered.items():
            filtered[rule] = filtered.get(rule, 0) + count
    return rows, bad, filtered, sum(part.lines for part in parts)


def line_of(value: bytes | dict[str, Any]) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@pytest.mark.parametrize(("logs", "lines"), [(SESSION_LOGS, SESSIONS), (UBI_LOGS, EVENTS)], ids=["sessions", "ubi"])
@pytest.mark.parametrize("role", [Role.OWN, Role.EARLY, Role.NEXT])
def test_lines_together_and_lines_alone_come_to_the_same(logs: Logs, lines: st.SearchStrategy[Any], role: Role) -> None:
    day = Day.of(DAY, logs)

    @given(st.lists(st.one_of(lines, lines, lines, RAW), max_size=12))
    @settings(max_examples=60, deadline=None)
    def check(values: list[Any]) -> None:
        raws = [line_of(value) for value in values]
        together = outcome(ObjectParser(day, logs, KEY), b"\n".join(raws), role)
        alone = ObjectParser(day, logs, KEY)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(arrow_lines, "_is_plain", lambda *_: False)
            apart = outcome(alone, b"\n".join(raws), role)
        assert together == apart
        rows, bad, filtered, n_lines = together
        assert n_lines == len(rows) + len(bad) + sum(filtered.values())

    check()
