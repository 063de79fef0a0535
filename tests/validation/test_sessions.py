"""`check_sessions`: each kind of damage puts exactly its rows aside, or stops the night with a sentence."""

import json
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from embft.clickstream.sessions import SCHEMA
from embft.validation_config import Expectation
from tests.validation.checks import Rows, check_rows


@pytest.fixture
def check(suites: dict[str, tuple[Expectation, ...]], tmp_path: Path) -> Any:
    return partial(check_rows, suites=suites, folder=tmp_path)


def test_a_healthy_window_is_silent_and_whole(check: Any, sessions: Rows, items: Rows) -> None:
    checked = check(sessions, items)
    assert not checked.reasons
    assert checked.clean == pa.Table.from_pylist(sessions, schema=SCHEMA)
    assert checked.items.num_rows == len(items)
    assert len(checked.aside) == 0
    assert checked.told == []
    assert not checked.broken_rules()
    json.dumps(checked.figures)


def test_a_log_without_shown_lists_is_healthy_too(check: Any, sessions: Rows, items: Rows) -> None:
    checked = check([{**row, "shown": None} for row in sessions], items)
    assert not checked.reasons
    assert not checked.broken_rules()


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        ({"query": ""}, "query_present"),
        ({"query": "  \t"}, "query_present"),
        ({"query": "x" * 501}, "query_not_too_long"),
        ({"clicked": ["B0-777"], "shown": None}, "clicks_in_catalogue"),
        ({"clicked": ["B0-40"], "shown": ["B0-1"]}, "clicks_were_shown"),
        ({"session_id": "s0"}, "sessions_unique"),
        ({"day": date(2011, 9, 30), "time": datetime(2011, 9, 30, 9, tzinfo=UTC)}, "day_in_window"),
        ({"time": datetime(2013, 1, 1, tzinfo=UTC)}, "time_on_its_day"),
    ],
)
def test_damage_puts_exactly_its_rows_aside(
    check: Any, sessions: Rows, items: Rows, damage: dict[str, Any], rule: str
) -> None:
    for row in (3, 77):
        sessions[row] |= {"file": sessions[row]["day"], **damage}
    checked = check(sessions, items)
    assert not checked.reasons
    aside = checked.aside
    assert [(it["row"], it["suite"], it["rules"]) for it in aside] == [
        (3, "sessions", [rule]),
        (77, "sessions", [rule]),
    ]
    assert json.loads(aside[0]["raw"])["query"] == sessions[3]["query"]
    assert checked.clean.num_rows == 598
    assert checked.figures["set_aside_by_rule"] == {f"sessions: {rule}": 2}


def test_midnight_in_the_logs_zone_is_not_on_another_day(check: Any, sessions: Rows, items: Rows) -> None:
    """22:30 UTC on the 1st is 00:30 on the 2nd in Berlin; a session may also run over midnight."""
    sessions[1] |= {"day": date(2011, 10, 2), "time": datetime(2011, 10, 1, 22, 30, tzinfo=UTC)}
    assert not check(sessions, items).aside


def test_a_row_keeps_every_rule_it_broke(check: Any, sessions: Rows, items: Rows) -> None:
    sessions[5] |= {"query": "", "clicked": ["B0-777"]}
    (aside,) = check(sessions, items).aside
    assert aside["id"] == "s5"
    assert aside["rules"] == [
        "query_present",
        "clicks_in_catalogue",
        "clicks_were_shown",
    ]


def test_items_of_another_shop_stop_the_night_with_a_sentence(check: Any, sessions: Rows, items: Rows) -> None:
    for n, row in enumerate(sessions[540:581]):
        row |= {"clicked": [f"X-{n}"], "shown": None}
    checked = check(sessions, items)
    assert checked.clean.num_rows == 559
    assert checked.reasons == [
        "41 of 60 sessions of 2011-10-10 (68.3 %) were set aside, more than validation.max_quarantined allows (5.0 "
        "%); the rule that most rows break, 41 in all, is clicks_in_catalogue, “n_unknown_clicked must be 0” "
        "(first: 'X-0' in 's540', 'X-1' in 's541', 'X-2' in 's542'): these sessions click items that are not in the "
        "catalogue; next: check catalogue.uri and catalogue.id_field, and whether the catalogue is older than the logs"
    ]


def test_an_earlier_day_of_another_shop_is_left_out_and_stops_no_night(check: Any, sessions: Rows, items: Rows) -> None:
    for row in sessions[120:180]:  # 10 % of the window
        row |= {"clicked": ["X"], "shown": None}
    checked = check(sessions, items)
    assert checked.reasons == []
    assert list(checked.figures["days_left_out"]) == ["2011-10-03"]
    assert checked.figures["days_left_out"]["2011-10-03"][0].startswith("60 of 60 sessions of 2011-10-03 (100.0 %)")


def test_a_window_of_which_most_days_are_left_out_stops_the_night(check: Any, sessions: Rows, items: Rows) -> None:
    for row in sessions[:360]:
        row |= {"clicked": ["X"], "shown": None}
    (reason,) = check(sessions, items).reasons
    assert reason.startswith(
        "6 of 10 days of the window are left out, too many to learn without them; the first is 2011"
    )


def test_rows_set_aside_all_over_the_window_may_reach_the_limit_but_not_pass_it(
    check: Any, sessions: Rows, items: Rows
) -> None:
    for row in sessions[::100]:
        row["query"] = ""
    assert not check(sessions, items, max_quarantined=0.01).reasons
    for row in sessions[::30]:
        row["query"] = ""
    (reason,) = check(sessions, items, max_quarantined=0.01).reasons
    assert reason.startswith("24 of 600 sessions (4.0 %) were set aside")


def test_a_broken_newest_day_does_not_hide_behind_the_window(check: Any, sessions: Rows, items: Rows) -> None:
    for row in sessions[540:552]:  # 12 of 60, of 600
        row["query"] = ""
    (reason,) = check(sessions, items).reasons
    assert reason.startswith("12 of 60 sessions of 2011-10-10 (20.0 %) were set aside")


def test_a_few_bad_rows_of_a_small_day_are_chance(check: Any, sessions: Rows, items: Rows) -> None:
    for row in sessions[540:545]:  # 8.3 %, where 5 % may
        row["query"] = ""
    checked = check(sessions, items)
    assert not checked.reasons
    assert len(checked.aside) == 5


def test_a_window_without_clicks_says_where_to_look(check: Any, sessions: Rows, items: Rows) -> None:
    checked = check([{**row, "clicked": []} for row in sessions], items)
    assert checked.reasons
    assert checked.reasons[0].startswith(
        "sessions: the sum of has_click is 0; it must be at least 1 (rule clicks_present): no session"
    )
    assert "logs.fields.clicked" in checked.reasons[0]


def test_a_window_without_sessions(check: Any, items: Rows) -> None:
    checked = check([], items)
    assert checked.reasons
    assert checked.reasons[0].startswith("sessions: the number of rows is 0")
    assert checked.clean.schema == SCHEMA


def test_all_sessions_set_aside(check: Any, sessions: Rows, items: Rows) -> None:
    checked = check([{**row, "query": ""} for row in sessions], items, max_quarantined=1)
    assert checked.reasons
    assert checked.clean.num_rows == 0
    assert len(checked.aside) == 600


def test_few_clicks_are_a_warning(check: Any, sessions: Rows, items: Rows) -> None:
    for row in sessions[10:]:
        row["clicked"] = []
    checked = check(sessions, items)
    assert not checked.reasons
    assert checked.figures["warnings"] == [
        "the sessions of 2011-10-10: click_rate is 0; it must be at least 0.02 (rule click_rate): hardly any search "
        "ends in a click; click events may be lost on the way; next: compare the day's click events with those of the "
        "days before"
    ]


def test_shown_items_that_the_catalogue_lacks_are_a_warning(check: Any, sessions: Rows, items: Rows) -> None:
    for row in sessions[520:560]:  # twenty of the newest day's sixty
        row["shown"] = [*row["shown"], "gone"]
    checked = check(sessions, items)
    assert not checked.reasons
    (warning,) = checked.figures["warnings"]
    assert warning.startswith("the sessions of 2011-10-10: unknown_shown_share is 0.3333; it must be at most 0.1")


def test_damaged_items_go_aside_and_clicks_on_them_too(check: Any, sessions: Rows, items: Rows) -> None:
    items += [{"id": "B0-49", "text": "a second one"}, {"id": " ", "text": "nameless"}]
    items[10]["text"] = ""
    checked = check(sessions, items, max_quarantined=0.1)
    assert not checked.reasons
    aside = checked.aside
    assert [(it["row"], it["rules"]) for it in aside if it["suite"] == "catalogue"] == [
        (10, ["text_present"]),
        (50, ["ids_unique"]),
        (51, ["id_present"]),
    ]
    assert checked.items.to_pylist() == [item for n, item in enumerate(items) if n not in (10, 50, 51)]
    assert {it["id"] for it in aside if it["suite"] == "sessions"} == {
        row["session_id"] for row in sessions if row["clicked"] == ["B0-10"]
    }


def test_an_empty_catalogue_is_the_reason_not_its_consequence(check: Any, sessions: Rows) -> None:
    checked = check(sessions, [])
    assert checked.reasons[0].startswith("catalogue: the number of rows is 0; it must be at least 2")
    assert "catalogue.uri" in checked.reasons[0]


def test_an_attackers_query_stays_text(check: Any, sessions: Rows, items: Rows, tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>" * 30
    sessions[3] |= {"query": attack}
    sessions[5] |= {"clicked": ["<script>alert(2)</script>"]}
    checked = check(sessions, items)
    assert [it["id"] for it in checked.aside] == ["s3", "s5"]
    for page in (tmp_path / "docs").iterdir():
        assert "<script" not in page.read_text()
    assert "&lt;script&gt;alert(2)" in (tmp_path / "docs" / "index.html").read_text()


def test_examples_cannot_break_a_line_of_the_log(check: Any, sessions: Rows, items: Rows) -> None:
    for row in sessions:
        row |= {"clicked": ["evil\n2011-10-20 INFO all is well \u202e" + "y" * 500], "shown": None}
    (reason, *_) = check(sessions, items).reasons
    assert "\n" not in reason
    assert "\u202e" not in reason
    assert len(reason) < 600


def test_verdicts_are_the_same_each_time(check: Any, sessions: Rows, items: Rows) -> None:
    sessions[3]["time"] += timedelta(days=500)
    first, second = check(sessions, items), check(sessions, items)
    assert first.figures == second.figures
    assert first.aside == second.aside
    assert first.verdict.verdicts == second.verdict.verdicts
