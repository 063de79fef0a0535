"""What counts as relevant and what as not: on lists short enough to read off."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embft.clickstream.judgements import event_weights, judge, strongest_weight
from embft.clickstream.known import keep_known
from embft.clickstream.sessions import SCHEMA
from embft.config import EventWeights, Judgements

RULES = ["all", "skip_above", "last_click_plus_1"]
LISTS = ["shown", "positions", "clicked", "actions", "dwell_s"]


def table(*rows: dict[str, Any]) -> pa.Table:
    """Sessions given as their lists; texts stand for lists of one-letter ids."""
    records = []
    for number, row in enumerate(rows):
        at = datetime(2026, 3, 10, tzinfo=UTC)
        lists = {name: list(value) if isinstance(value, str) else value for name, value in row.items()}
        record = {"session_id": str(number), "day": at.date(), "time": at, "query": "lamp", "clicked": []}
        records.append({**record, **lists})
    return pa.Table.from_pylist(records, schema=SCHEMA)


def judged(row: dict[str, Any], **choices: Any) -> dict[str, Any]:
    """The one session's lists after judging; ids as one text."""
    found = judge(table(row), Judgements(**choices)).sessions
    assert found.schema == SCHEMA
    lists = found.select(LISTS).to_pylist()[0]
    return {name: "".join(ids) if name in ("shown", "clicked") and ids else ids for name, ids in lists.items()}


@pytest.mark.parametrize(
    ("rule", "shown", "positions"),
    # b and d are clicked: a and c stand above the last click, e right below it.
    [("all", "abcdefg", None), ("skip_above", "abcd", None), ("last_click_plus_1", "abcde", None)],
)
def test_rule_says_down_to_where_results_were_looked_at(rule: str, shown: str, positions: list[int] | None) -> None:
    found = judged({"shown": "abcdefg", "clicked": "db"}, not_clicked=rule)
    assert (found["shown"], found["positions"], found["clicked"]) == (shown, positions, "db")


def test_click_on_the_first_result_leaves_nothing_above_it() -> None:
    assert judged({"shown": "abc", "clicked": "a"}, not_clicked="skip_above")["shown"] == "a"
    assert judged({"shown": "abc", "clicked": "a"}, not_clicked="last_click_plus_1")["shown"] == "ab"
    assert judged({"shown": "abc", "clicked": "c"}, not_clicked="last_click_plus_1")["shown"] == "abc"


def test_told_positions_and_not_the_order_of_the_list_say_what_is_above() -> None:
    # A grid of two columns, told column by column: a and d are its first row, b and e the second, c and f the third.
    row = {"shown": "abcdef", "positions": [1, 2, 3, 1, 2, 3], "clicked": "d"}
    found = judged(row, not_clicked="skip_above")
    assert (found["shown"], found["positions"]) == ("ad", [1, 1])
    found = judged(row, not_clicked="last_click_plus_1")
    assert (found["shown"], found["positions"]) == ("abde", [1, 2, 1, 2])
    # The one right below was not told: nothing stands on its place.
    assert judged({"shown": "ac", "positions": [4, 6], "clicked": "a"}, not_clicked="last_click_plus_1")["shown"] == "a"


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("row", [{"shown": "abc"}, {"shown": "abc", "clicked": "z"}, {"shown": None, "clicked": "a"}])
def test_session_without_a_click_in_its_list_keeps_its_results(rule: str, row: dict[str, Any]) -> None:
    before = table(row)
    assert judge(before, Judgements(not_clicked=rule)).sessions.equals(before)


def test_click_left_too_soon_is_neither_clicked_nor_shown() -> None:
    row = {
        "shown": "abcd",
        "clicked": "cab",
        "actions": ["click", "purchase", "click"],
        "dwell_s": [2.5, 30.0, None],
    }
    found = judged(row, min_dwell_s=5)
    assert found == {
        "shown": "abd",
        "positions": [1, 2, 4],
        "clicked": "ab",
        "actions": ["purchase", "click"],
        "dwell_s": [30.0, None],
    }
    assert judged(row, min_dwell_s=2.5)["clicked"] == "cab"
    # The list was read down to the click that was left, so what stands above it was passed over.
    assert judged(row, min_dwell_s=5, not_clicked="skip_above")["shown"] == "ab"
    assert judged({"shown": None, "clicked": "ab", "dwell_s": [1.0, 9.0]}, min_dwell_s=5)["clicked"] == "b"


def test_what_was_taken_out_is_counted() -> None:
    sessions = table(
        {"shown": "abcd", "clicked": "b", "dwell_s": [9.0]},  # c and d do not count
        {"shown": "a", "clicked": "a", "dwell_s": [1.0]},  # nothing is left
        {"shown": "ab", "clicked": "b", "dwell_s": [1.0]},  # a is, as a result without a click
        {"shown": "ab"},
    )
    kept = judge(sessions, Judgements(min_dwell_s=5, not_clicked="skip_above"))
    assert kept.sessions["session_id"].to_pylist() == ["0", "2", "3"]
    assert (kept.n_short_clicks, kept.n_not_counted, kept.n_dropped) == (2, 2, 1)
    dropped = judge(sessions, Judgements(min_dwell_s=5, no_click_sessions="drop"))
    assert dropped.sessions["session_id"].to_pylist() == ["0"]
    assert (dropped.n_short_clicks, dropped.n_not_counted, dropped.n_dropped) == (2, 0, 3)


def test_dropped_no_click_sessions_need_no_shown_list() -> None:
    sessions = table({"shown": None, "clicked": "a"}, {"shown": None}, {"shown": "ab", "clicked": "a"})
    kept = judge(sessions, Judgements(no_click_sessions="drop")).sessions
    assert kept["session_id"].to_pylist() == ["0", "2"]
    assert judge(sessions, Judgements()).sessions is sessions
    assert judge(sessions.slice(0, 0), Judgements(not_clicked="skip_above")).sessions.num_rows == 0


def test_items_below_a_sold_out_one_keep_the_positions_they_were_shown_at() -> None:
    sessions = table({"shown": "abcd"}, {"shown": "abx"}, {"shown": "ax", "positions": [7, 9]}, {"shown": None})
    cut = keep_known(sessions, "acdx").sessions
    assert cut["shown"].to_pylist() == [["a", "c", "d"], ["a", "x"], ["a", "x"], None]
    assert cut["positions"].to_pylist() == [[1, 3, 4], [1, 3], [7, 9], None]
    # Nothing before the end of a list is lost, so counting goes on giving the positions.
    assert keep_known(sessions, "abcx").sessions["positions"].to_pylist() == [None, None, [7, 9], None]


def test_weights_are_relative_to_the_strongest_action_of_the_window() -> None:
    weights = EventWeights(click=0.25, add_to_cart=0.5, purchase=1.0)
    clicks = table({"shown": "ab", "clicked": "a"}, {"shown": "ab", "clicked": "b", "actions": ["click"]})
    assert strongest_weight(clicks, weights) == 0.25
    assert event_weights(clicks, weights, 0.25).to_pylist() == [None, None]  # as today: every click is a whole one
    carts = table(
        {"shown": "abc", "clicked": "ca", "actions": ["add_to_cart", "click"]}, {"shown": "a"}, {"clicked": "a"}
    )
    assert strongest_weight(carts, weights) == 0.5
    assert event_weights(carts, weights, 0.5).to_pylist() == [[1.0, 0.5], None, [0.5]]
    assert strongest_weight(table({"shown": "a"}), weights) == 1.0
    assert strongest_weight(carts, EventWeights()) == 1.0
    assert event_weights(carts, EventWeights(), 1.0).null_count == 3


@st.composite
def any_session(draw: st.DrawFn) -> dict[str, Any]:
    shown = draw(st.lists(st.sampled_from("abcdefgh"), unique=True))
    clicked = draw(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=4))
    places = st.lists(st.integers(1, 30), min_size=len(shown), max_size=len(shown))
    dwell = st.lists(st.none() | st.integers(0, 9), min_size=len(clicked), max_size=len(clicked))
    actions = st.lists(st.sampled_from(["click", "purchase"]), min_size=len(clicked), max_size=len(clicked))
    return {
        "shown": shown or None,
        "positions": draw(st.none() | places) if shown else None,
        "clicked": clicked,
        "actions": draw(st.none() | actions),
        "dwell_s": draw(st.none() | dwell),
    }


def placed(row: dict[str, Any]) -> dict[str, int]:
    """Id → position, in the order shown."""
    shown = row["shown"] or []
    return dict(zip(shown, row["positions"] or range(1, len(shown) + 1), strict=True))


@given(row=any_session(), rule=st.sampled_from(RULES), min_dwell_s=st.none() | st.integers(0, 9))
def test_items_keep_their_order_their_position_and_what_was_done_with_them(
    row: dict[str, Any], rule: str, min_dwell_s: int | None
) -> None:
    found = judge(table(row), Judgements(not_clicked=rule, min_dwell_s=min_dwell_s)).sessions.to_pylist()
    dwell_of = dict(zip(row["clicked"], row["dwell_s"] or [None] * len(row["clicked"]), strict=True))
    long = [
        id_ for id_ in row["clicked"] if min_dwell_s is None or dwell_of[id_] is None or dwell_of[id_] >= min_dwell_s
    ]
    if not found:
        assert row["shown"]
        assert not long  # nothing but clicks that were left too soon, and what stands below them
        return
    before, after = placed(row), placed(found[0])
    assert list(after.items()) == [(id_, place) for id_, place in before.items() if id_ in after]
    assert found[0]["clicked"] == long
    assert [id_ for id_ in before if id_ in long] == [id_ for id_ in after if id_ in long]  # no click is lost
    assert not set(after) & (set(row["clicked"]) - set(long))
    for name in ("actions", "dwell_s"):
        told = None if row[name] is None else dict(zip(row["clicked"], row[name], strict=True))
        assert found[0][name] == (None if told is None else [told[id_] for id_ in long])


@given(rows=st.lists(any_session(), max_size=4))
def test_stricter_rules_keep_a_part_of_what_laxer_ones_keep(rows: list[dict[str, Any]]) -> None:
    kept = [judge(table(*rows), Judgements(not_clicked=rule)).sessions["shown"].to_pylist() for rule in RULES]
    for every, strict, lax in zip(*kept, strict=True):
        assert set(strict or ()) <= set(lax or ()) <= set(every or ())
