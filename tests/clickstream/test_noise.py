"""Noise and abuse: each rule filters what it says, by its name, and one client never weighs more than its cap."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from embft.log_config import LogFields, Logs, Noise
from tests.clickstream.good_lines import Read, line

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
OFF = {name: None for name, field in Noise.model_fields.items() if field.default != () and "max" in name} | {
    "typing_pause_s": None
}


def searches(*rows: dict[str, Any]) -> bytes:
    """Sessions of one client a minute apart, each with something changed; `at` gives the seconds after noon."""
    lines = []
    for number, row in enumerate(rows):
        change = {"session_id": f"s{number}", "query": f"q{number}", "clicked": [], **row}
        seconds = change.pop("at", 60 * number)
        lines.append(line(time=(NOON + timedelta(seconds=seconds)).isoformat(), **change))
    return b"\n".join(lines)


def kept(read: Read, content: bytes, **noise: Any) -> tuple[list[str], dict[str, int]]:
    found = read(content, logs=Logs(uri="s3://shop/{day}", noise=Noise(**OFF | noise)))
    return found.sessions["session_id"].to_pylist(), found.accounting.filtered


def test_caps_keep_the_earliest(read: Read) -> None:
    rows = [{} for _ in range(5)]
    assert kept(read, searches(*rows), max_sessions_per_client=3) == (["s0", "s1", "s2"], {"client_cap": 2})
    same = [{"query": "lamp"}, {"query": "sofa"}, {"query": "Lamp "}, {"query": "lamp"}]
    assert kept(read, searches(*same), max_sessions_per_client_query=1) == (["s0", "s1"], {"client_query_cap": 2})
    others = [{"query": "lamp", "client": f"c{number}"} for number in range(4)]
    assert kept(read, searches(*others), max_sessions_per_query=3) == (["s0", "s1", "s2"], {"query_cap": 1})
    clicks = [{"clicked": ["a"]}, {"clicked": ["b"]}, {"clicked": ["a", "b"]}, {"clicked": ["b"]}]
    assert kept(read, searches(*clicks), max_sessions_per_client_item=2) == (["s0", "s1", "s2"], {"client_item_cap": 1})


def test_caps_of_a_client_leave_searches_of_nobody_alone(read: Read) -> None:
    rows = [{"client": None, "query": "lamp", "clicked": ["a"]} for _ in range(5)]
    caps = {"max_sessions_per_client": 1, "max_sessions_per_client_query": 1, "max_sessions_per_client_item": 1}
    assert kept(read, searches(*rows), **caps, max_sessions_per_minute=1, typing_pause_s=600)[1] == {}


def test_more_searches_a_minute_than_a_person_types_are_none_of_a_persons(read: Read) -> None:
    rows = [{"at": second} for second in (1, 10, 20, 59, 61, 119)]
    assert kept(read, searches(*rows), max_sessions_per_minute=3) == (["s4", "s5"], {"too_fast": 4})


@pytest.mark.parametrize(
    ("rows", "left"),
    [
        # Typed letter by letter: the last one is meant.
        ([{"query": "la"}, {"query": "lamp"}, {"query": "lamp red"}], ["s2"]),
        # Taken back, and gone on with.
        ([{"query": "lamps"}, {"query": "lamp"}], ["s1"]),
        # Another query, a click, another client, or a pause: each was meant.
        ([{"query": "la"}, {"query": "sofa"}], ["s0", "s1"]),
        ([{"query": "la", "clicked": ["a"]}, {"query": "lamp"}], ["s0", "s1"]),
        ([{"query": "la"}, {"query": "lamp", "client": "c2"}], ["s0", "s1"]),
        ([{"query": "la"}, {"query": "lamp", "at": 5}], ["s0", "s1"]),
    ],
)
def test_search_as_you_type_counts_once(read: Read, rows: list[dict[str, Any]], left: list[str]) -> None:
    timed = [{"at": 0.5 * number, **row} for number, row in enumerate(rows)]
    assert kept(read, searches(*timed), typing_pause_s=1)[0] == left


def test_robots_and_our_own_people_are_known_by_their_agent_and_address(read: Read) -> None:
    logs = Logs(
        uri="s3://shop/{day}",
        fields=LogFields(user_agent="ua", ip="ip"),
        noise=Noise(internal_ips=("10.0.0.0/8", "2001:db8::/32")),
    )
    agents = ["Mozilla/5.0 Firefox", "Mozilla/5.0 (compatible; GoogleBOT/2.1)", "curl/8.0", None]
    addresses = ["10.9.8.7", "11.9.8.7", "2001:db8::7", "no address", None]
    rows = [{"ua": agent} for agent in agents] + [{"ip": address} for address in addresses]
    found = read(searches(*rows), logs=logs)
    assert found.accounting.filtered == {"user_agent": 2, "internal_ip": 2}
    assert found.sessions["session_id"].to_pylist() == ["s0", "s3", "s5", "s7", "s8"]
    # Neither is kept.
    assert not any("Mozilla" in str(row) or "11.9" in str(row) for row in found.sessions.to_pylist())


@pytest.mark.parametrize("way", ["one query", "many queries", "many lines of one search", "fast"])
def test_one_client_hammering_one_item_weighs_no_more_than_its_cap(read: Read, way: str) -> None:
    honest = [
        line(session_id=f"h{n}", client=f"c{n}", query="lamp", clicked=["b"], time=f"2026-03-10T09:{n:02d}:00Z")
        for n in range(30)
    ]
    attack = []
    for number in range(2_000):
        change: dict[str, Any] = {"session_id": f"x{number}", "client": "evil", "query": "lamp", "clicked": ["a"]}
        if way == "many queries":
            change["query"] = f"lamp {number}"
        if way == "many lines of one search":
            change["session_id"] = "x"
        seconds = number * (0.01 if way == "fast" else 20)
        attack.append(
            line(**change, time=(datetime(2026, 3, 10, 1, tzinfo=UTC) + timedelta(seconds=seconds)).isoformat())
        )
    lines = honest + attack
    random.Random(3).shuffle(lines)
    sessions = read(b"\n".join(lines)).sessions.to_pylist()
    limits = Noise()
    assert limits.max_sessions_per_client_item
    weight = sum("a" in row["clicked"] for row in sessions)
    assert weight <= limits.max_sessions_per_client_item
    assert sum("b" in row["clicked"] for row in sessions) == 30


def test_what_is_filtered_does_not_depend_on_the_order(read: Read) -> None:
    rows = searches(
        *({"client": f"c{n % 3}", "query": f"q{n % 2}", "clicked": ["a"][: n % 2], "at": n} for n in range(60))
    )
    lines = rows.split(b"\n")
    noise = {"max_sessions_per_client": 9, "max_sessions_per_client_query": 5, "max_sessions_per_client_item": 4}
    expected = kept(read, rows, **noise)
    for seed in range(3):
        random.Random(seed).shuffle(lines)
        assert kept(read, b"\n".join(lines), **noise) == expected


def test_sums_hold_with_every_rule_at_once(read: Read) -> None:
    rows = [json.loads(it) for it in searches(*({"client": f"c{n % 2}", "at": n / 4} for n in range(100))).split(b"\n")]
    found = read(b"\n".join(json.dumps(row).encode() for row in [*rows, *rows[:7]]))
    assert found.accounting.duplicates == 7
    assert sum(found.accounting.filtered.values()) + found.accounting.used == 100
