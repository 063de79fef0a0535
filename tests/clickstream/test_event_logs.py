"""Events of a search, joined: the same searches as from a log of sessions, however the events come."""

from __future__ import annotations

import json
import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embft.clickstream.days import Role
from embft.clickstream.shop import Shop
from embft.clickstream.simulator import simulate
from embft.log_config import LogFields, Logs, Noise
from tests.clickstream.good_lines import DAY, DayLog, Read, read_day

NO_NOISE = Noise(
    max_sessions_per_client=None,
    max_sessions_per_client_query=None,
    max_sessions_per_client_item=None,
    max_sessions_per_minute=None,
    typing_pause_s=None,
)
EVENTS = Logs(uri="s3://shop/{day}", format="events", noise=NO_NOISE)
UBI = Logs(uri="s3://shop/{day}", format="ubi", noise=NO_NOISE)
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def event(action: str, second: float = 0, **fields: Any) -> dict[str, Any]:
    """An event of the search s1, some seconds after noon."""
    time = (NOON + timedelta(seconds=second)).isoformat()
    return {"action": action, "search_id": "s1", "client": "c1", "time": time} | fields


SEARCH = event("search", query="Red Lamp")
SHOWN = [event("impression", 0.1, item=item, position=place) for place, item in enumerate(["a", "b", "c"], 1)]


def lines(events: list[dict[str, Any]]) -> bytes:
    return b"\n".join(json.dumps(it).encode() for it in events)


def only(found: DayLog) -> dict[str, Any]:
    (row,) = found.sessions.to_pylist()
    return row


def test_a_search_is_told_by_its_events(read: Read) -> None:
    clicks = [
        event("click", 9, item="c", dwell=2.5),
        event("click", 5, item="b", dwell=40),
        event("purchase", 60, item="b"),
        event("add_to_cart", 30, item="b"),
    ]
    logs = EVENTS.model_copy(update={"fields": EVENTS.fields.model_copy(update={"dwell_s": "dwell"})})
    found = read(lines([*clicks, *SHOWN, SEARCH]), logs=logs)
    row = only(found)
    assert (row["session_id"], row["query"], row["time"]) == ("s1", "red lamp", NOON)
    assert (row["shown"], row["positions"]) == (["a", "b", "c"], [1, 2, 3])
    assert (row["clicked"], row["actions"], row["dwell_s"]) == (["b", "c"], ["purchase", "click"], [40.0, 2.5])
    assert (found.accounting.used, found.accounting.sessions) == (8, 1)


@pytest.mark.parametrize(
    ("change", "shown", "positions"),
    [
        # Counted from 0: the same places, counted from 1.
        ({"position": lambda place: place - 1}, ["a", "b", "c"], [1, 2, 3]),
        # A second page keeps its places.
        ({"position": lambda place: place + 10}, ["a", "b", "c"], [11, 12, 13]),
        # Places that are not told: in the order of time, and of one moment of ids.
        ({"position": lambda place: None, "time": lambda place: -place}, ["c", "b", "a"], None),
    ],
)
def test_shown_are_the_impressions_by_position(
    read: Read, change: dict[str, Any], shown: list[str], positions: list[int] | None
) -> None:
    events = []
    for place, item in enumerate(["a", "b", "c"], 1):
        position = change["position"](place)
        events.append(event("impression", change.get("time", lambda _: 1)(place), item=item, position=position))
    row = only(read(lines([event("search", -10, query="lamp"), *events]), logs=EVENTS))
    assert (row["shown"], row["positions"]) == (shown, positions)


def test_result_ids_of_the_search_stand_in_for_impressions(read: Read) -> None:
    search = SEARCH | {"shown": ["x", "y"]}
    assert only(read(lines([search]), logs=EVENTS))["shown"] == ["x", "y"]
    assert only(read(lines([search, *SHOWN]), logs=EVENTS))["shown"] == ["a", "b", "c"]


def test_delivered_twice_counts_once_by_id_or_by_content(read: Read) -> None:
    by_id = [SEARCH | {"event_id": 1}, SEARCH | {"event_id": 1, "extra": True}, *SHOWN]
    assert read(lines(by_id), logs=EVENTS).accounting.duplicates == 1
    by_content = read(
        lines([SEARCH, *SHOWN, *SHOWN, event("click", 5, item="a"), event("click", 5, item="a")]), logs=EVENTS
    )
    assert (by_content.accounting.duplicates, only(by_content)["clicked"]) == (4, ["a"])


@pytest.mark.parametrize(
    ("rule", "events", "n_lines"),
    [
        ("no_search", [event("click", item="a"), *SHOWN], 4),
        ("nothing_shown", [SEARCH], 1),
        ("click_without_impression", [SEARCH, *SHOWN, event("click", 3, item="z")], 5),
        ("other_action", [SEARCH, *SHOWN, {"action": "page_exit", "time": "never"}], 1),
        ("no_item", [SEARCH, *SHOWN, event("purchase", 9)], 1),
    ],
)
def test_what_tells_nothing_is_filtered_by_name(
    read: Read, rule: str, events: list[dict[str, Any]], n_lines: int
) -> None:
    assert read(lines(events), logs=EVENTS).accounting.filtered == {rule: n_lines}


def test_a_click_beside_those_that_were_shown_leaves_the_search_its_own(read: Read) -> None:
    found = read(lines([SEARCH, *SHOWN, event("click", 3, item="z"), event("click", 4, item="b")]), logs=EVENTS)
    assert only(found)["clicked"] == ["b"]
    assert found.accounting.filtered == {"click_without_impression": 1}
    assert found.accounting.used == 5


def test_without_search_ids_a_clients_events_belong_to_its_last_search(read: Read) -> None:
    fields = EVENTS.fields.model_copy(update={"search_id": None})
    logs = EVENTS.model_copy(update={"fields": fields, "inactivity_minutes": 30})
    events = [
        event("search", 0, query="lamp"),
        event("impression", 1, item="a", position=1),
        event("click", 20 * 60, item="a"),
        event("search", 25 * 60, query="sofa"),
        event("click", 26 * 60, item="b"),
        # After the pause, nothing says what this click is about.
        event("click", 60 * 60, item="c"),
        event("search", 1, query="other", client="c2"),
        event("click", 2, item="d", client="c2"),
    ]
    random.Random(1).shuffle(events)
    found = read(lines([{**it, "search_id": None} for it in events]), logs=logs)
    rows = {row["query"]: row for row in found.sessions.to_pylist()}
    assert {query: row["clicked"] for query, row in rows.items()} == {"lamp": ["a"], "sofa": ["b"], "other": ["d"]}
    assert found.accounting.filtered == {"no_search": 1}
    assert rows["lamp"]["client"] != rows["other"]["client"]


def loose(*events: dict[str, Any]) -> tuple[bytes, Logs]:
    """Events without search ids, and the logs to read them."""
    logs = EVENTS.model_copy(update={"fields": EVENTS.fields.model_copy(update={"search_id": None})})
    return lines([{**it, "search_id": None} for it in events]), logs


def test_clicks_on_a_private_search_are_none_on_the_one_before(read: Read) -> None:
    content, logs = loose(
        event("search", 0, query="lamp"),
        event("click", 5, item="a"),
        event("search", 10, query="me@example.org"),
        event("click", 15, item="x"),
    )
    found = read(content, logs=logs)
    assert (only(found)["query"], only(found)["clicked"]) == ("lamp", ["a"])
    assert found.accounting.filtered == {"private_query": 2}
    named = read(lines([event("search", query="me@example.org"), *SHOWN, event("click", 5, item="a")]), logs=EVENTS)
    assert named.accounting.filtered == {"private_query": 5}


def test_two_searches_of_one_client_in_one_second_are_two(read: Read) -> None:
    content, logs = loose(
        event("search", 0, query="lamp"), event("search", 0, query="sofa"), event("click", 5, item="s")
    )
    found = read(content, logs=logs)
    assert [(row["query"], row["clicked"]) for row in found.sessions.to_pylist()] == [("sofa", ["s"])]
    assert found.accounting.filtered == {"nothing_shown": 1}


def test_event_ids_that_begin_anew_with_each_search_are_no_copies(read: Read) -> None:
    events = [
        event(action, n, search_id=f"s{search}", event_id=n, query="lamp", item="a")
        for search in range(5)
        for n, action in enumerate(["search", "click"])
    ]
    found = read(lines([*events, events[3]]), logs=EVENTS)
    assert (found.accounting.sessions, found.accounting.duplicates) == (5, 1)


def test_a_click_after_midnight_counts_for_the_day_of_its_search_alone(tmp_path: Path) -> None:
    midnight = (datetime(2026, 3, 11, tzinfo=UTC) - NOON).total_seconds()
    searched = [event("search", midnight - 600, query="lamp"), event("impression", midnight - 599, item="a")]
    # The click tells the query as well, as some logs do.
    clicked = [event("click", midnight + 600, item="a", query="lamp")]
    objects = {"today": lines(searched), "tomorrow": lines(clicked)}
    settling = EVENTS.model_copy(update={"settle_hours": 2})
    first = read_day(objects, tmp_path / "1", logs=settling, roles={"tomorrow": Role.NEXT})
    assert only(first)["clicked"] == ["a"]
    tomorrow = {"tomorrow": objects["tomorrow"]}
    second = read_day(
        tomorrow, tmp_path / "2", day=DAY + timedelta(days=1), logs=settling, roles={"tomorrow": Role.EARLY}
    )
    assert (second.sessions.num_rows, second.accounting.filtered) == (0, {"other_day": 1})


def test_an_event_that_belongs_to_nobody_is_set_aside(read: Read) -> None:
    found = read(lines([SEARCH, *SHOWN, event("click", item="a", search_id=None, client=None)]), logs=EVENTS)
    (row,) = found.quarantine.to_pylist()
    assert row["reason"] == "search_id_missing"
    assert "neither search_id nor client" in row["detail"]


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("action_missing", {"action": None}),
        ("action_type", {"action": 5}),
        ("item_type", {"item": {"id": 1}}),
        ("position_type", {"position": -1}),
        ("position_type", {"position": "first"}),
        ("search_id_type", {"search_id": [1]}),
        ("event_id_type", {"event_id": 1.5}),
        ("time_missing", {"time": None}),
        ("other_day", {"time": "2036-03-10T00:00:00Z"}),
    ],
)
def test_bad_event_is_set_aside_with_its_reason(read: Read, reason: str, change: dict[str, Any]) -> None:
    found = read(lines([SEARCH, *SHOWN, event("impression", item="d", position=4) | change]), logs=EVENTS)
    assert found.accounting.quarantined_by_reason == {reason: 1}
    assert only(found)["shown"] == ["a", "b", "c"]


EVENT_LISTS = st.lists(
    st.builds(
        event,
        st.sampled_from(["search", "impression", "click", "purchase"]),
        st.integers(0, 5),
        search_id=st.sampled_from(["s1", "s2", None]),
        client=st.sampled_from(["c1", "c2"]),
        query=st.sampled_from(["lamp", "sofa", None]),
        item=st.sampled_from(["a", "b", None]),
        position=st.sampled_from([0, 1, 2, None]),
    ),
    max_size=12,
)


@given(events=EVENT_LISTS, seed=st.randoms(use_true_random=False))
@settings(max_examples=15)
def test_any_order_and_any_split_give_the_same_sessions(
    tmp_path_factory: pytest.TempPathFactory, events: list[dict[str, Any]], seed: random.Random
) -> None:
    shuffled = [*events, *events[:3]]
    seed.shuffle(shuffled)
    cut = seed.randrange(len(shuffled) + 1)
    whole = read_day({"a": lines([*events, *events[:3]])}, tmp_path_factory.mktemp("whole"), logs=EVENTS)
    split = {"b": lines(shuffled[cut:]), "a": lines(shuffled[:cut])}
    pieces = read_day(split, tmp_path_factory.mktemp("pieces"), logs=EVENTS)
    assert pieces.sessions.equals(whole.sessions)
    assert pieces.accounting == whole.accounting


def simulated(shop: Shop, day: date, **options: Any) -> dict[str, bytes]:
    objects = dict(simulate(shop, first_day=day, days=1, sessions_per_day=150, seed=5, **options))
    return {key: content for key, content in objects.items() if key.startswith("logs/")}


@pytest.mark.parametrize("logs", [EVENTS, UBI], ids=["events", "ubi"])
def test_events_tell_the_same_searches_as_a_log_of_sessions(shop: Shop, tmp_path: Path, logs: Logs) -> None:
    plain = Logs(uri="s3://shop/{day}", noise=NO_NOISE)
    expected = read_day(simulated(shop, DAY), tmp_path / "sessions", logs=plain).sessions
    found = read_day(simulated(shop, DAY, log_format=logs.format), tmp_path / "events", logs=logs)
    assert found.accounting.quarantined == 0
    assert found.accounting.duplicates > 0
    assert found.sessions.num_rows == expected.num_rows
    for name in ("session_id", "query", "shown", "client"):
        assert found.sessions[name].to_pylist() == expected[name].to_pylist()
    clicked = [set(ids) for ids in expected["clicked"].to_pylist()]
    assert [set(ids) for ids in found.sessions["clicked"].to_pylist()] == clicked


@pytest.mark.parametrize("late", [0.0, 0.3])
@pytest.mark.parametrize("logs", [EVENTS, UBI], ids=["events", "ubi"])
def test_late_clicks_are_found_in_the_next_days_objects(shop: Shop, tmp_path: Path, logs: Logs, late: float) -> None:
    objects = simulated(shop, DAY, log_format=logs.format, late_share=late)
    next_day = f"dt={DAY + timedelta(days=1)}/"
    roles = {key: Role.NEXT for key in objects if next_day in key}
    assert bool(roles) == (late > 0)
    settled = logs.model_copy(update={"settle_hours": 3})
    found = read_day(objects, tmp_path / "settled", logs=settled, roles=roles)
    on_time = read_day(simulated(shop, DAY, log_format=logs.format), tmp_path / "on-time", logs=settled)
    assert found.accounting.quarantined == 0
    assert found.sessions.equals(on_time.sessions)


def test_own_field_paths_and_names_of_actions(read: Read) -> None:
    fields = LogFields(
        query="q.text", time="meta.ts", action="meta.what", item="thing.sku", search_id="q.id", position="thing.rank"
    )
    logs = Logs(
        uri="s3://shop/{day}",
        format="events",
        fields=fields,
        actions={"search": ("typed",), "impression": ("saw",), "click": ("took",)},
    )
    seconds = NOON.timestamp()
    events = [
        {"q": {"id": 7, "text": "Lampe"}, "meta": {"ts": seconds, "what": "typed"}},
        {"q": {"id": 7}, "meta": {"ts": seconds + 1, "what": "saw"}, "thing": {"sku": 12, "rank": 1}},
        {"q": {"id": 7}, "meta": {"ts": seconds + 2, "what": "took"}, "thing": {"sku": 12}},
        {"q": {"id": 7}, "meta": {"ts": seconds + 2, "what": "left"}, "thing": None},
    ]
    row = only(read(lines(events), logs=logs))
    assert (row["session_id"], row["query"], row["shown"], row["clicked"]) == ("7", "lampe", ["12"], ["12"])
