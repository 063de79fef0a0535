"""`check_sessions`: each kind of damage puts exactly its rows aside, or stops the night with a sentence."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from embft.clickstream.sessions import SCHEMA
from embft.validation_config import Expectation
from embft.validation.sessions import SessionsVerdict, check_sessions

WINDOW = (date(2011, 10, 1), date(2011, 10, 10))
ITEMS = pa.schema([("id", pa.string()), ("text", pa.string())])
Rows = list[dict[str, Any]]


@pytest.fixture
def check(suites: dict[str, tuple[Expectation, ...]], tmp_path: Path) -> Any:
    def run(sessions: Rows, items: Rows, max_quarantined: float = 0.05) -> SessionsVerdict:
        return check_sessions(
            pa.Table.from_pylist(sessions, schema=SCHEMA),
            pa.Table.from_pylist(items, schema=ITEMS),
            suites["sessions"],
            suites["catalogue"],
            window=WINDOW,
            zone=ZoneInfo("Europe/Berlin"),
            max_quarantined=max_quarantined,
            min_clients=5,
            docs_folder=tmp_path / "docs",
        )

    return run


def test_a_healthy_window_is_silent_and_whole(check: Any, sessions: Rows, items: Rows) -> None:
    verdict = check(sessions, items)
    assert not verdict.rejected
    assert verdict.reason is None
    assert verdict.clean == pa.Table.from_pylist(sessions, schema=SCHEMA)
    assert verdict.clean_items.num_rows == len(items)
    assert verdict.quarantine.num_rows == 0
    assert verdict.figures["warnings"] == verdict.figures["notes"] == []
    assert all(it.success for it in verdict.verdicts)
    json.dumps(verdict.figures)


def test_a_log_without_shown_lists_is_healthy_too(check: Any, sessions: Rows, items: Rows) -> None:
    verdict = check([{**row, "shown": None} for row in sessions], items)
    assert not verdict.rejected
    assert all(it.success for it in verdict.verdicts)


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        ({"query": ""}, "query_length must be at least 1"),
        ({"query": "  \t"}, "query_length must be at least 1"),
        ({"query": "x" * 501}, "query_length must be at most 500"),
        ({"clicked": ["B0-777"], "shown": None}, "n_unknown_clicked must be 0"),
        ({"clicked": ["B0-40"], "shown": ["B0-1"]}, "n_clicked_not_shown must be 0"),
        ({"session_id": "s0"}, "n_earlier_copies must be 0"),
        ({"day": date(2011, 9, 30), "time": datetime(2011, 9, 30, 9, tzinfo=UTC)}, "in_window must be at least 1"),
        ({"time": datetime(2013, 1, 1, tzinfo=UTC)}, "days_off must be at most 1"),
    ],
)
def test_damage_puts_exactly_its_rows_aside(
    check: Any, sessions: Rows, items: Rows, damage: dict[str, Any], rule: str
) -> None:
    for row in (3, 77):
        sessions[row] |= damage
    verdict = check(sessions, items)
    assert not verdict.rejected
    aside = verdict.quarantine.to_pylist()
    assert [(it["row"], it["suite"], it["rules"]) for it in aside] == [
        (3, "sessions", [rule]),
        (77, "sessions", [rule]),
    ]
    assert json.loads(aside[0]["raw"])["query"] == sessions[3]["query"]
    assert verdict.clean.num_rows == 598
    assert verdict.figures["set_aside_by_rule"] == {f"sessions: {rule}": 2}


def test_midnight_in_the_logs_zone_is_not_on_another_day(check: Any, sessions: Rows, items: Rows) -> None:
    """22:30 UTC on the 1st is 00:30 on the 2nd in Berlin; a session may also run over midnight."""
    sessions[1] |= {"day": date(2011, 10, 2), "time": datetime(2011, 10, 1, 22, 30, tzinfo=UTC)}
    assert check(sessions, items).quarantine.num_rows == 0


def test_a_row_keeps_every_rule_it_broke(check: Any, sessions: Rows, items: Rows) -> None:
    sessions[5] |= {"query": "", "clicked": ["B0-777"]}
    (aside,) = check(sessions, items).quarantine.to_pylist()
    assert aside["id"] == "s5"
    assert aside["rules"] == [
        "query_length must be at least 1",
        "n_unknown_clicked must be 0",
        "n_clicked_not_shown must be 0",
    ]


def test_items_of_another_shop_stop_the_night_with_a_sentence(check: Any, sessions: Rows, items: Rows) -> None:
    for n, row in enumerate(sessions[:412]):
        row |= {"clicked": [f"X-{n}"], "shown": None}
    verdict = check(sessions, items)
    assert verdict.rejected
    assert verdict.clean.num_rows == 188
    assert verdict.reason == (
        "412 of 600 sessions (68.7 %) were set aside, more than validation.max_quarantined allows (5.0 %). The rule "
        "that most of them break, 412, is “n_unknown_clicked must be 0” (first: 'X-0', 'X-1', 'X-2'): these sessions "
        "click items that are not in the catalogue; check catalogue.uri and catalogue.id_field, and whether the "
        "catalogue is older than the logs"
    )


def test_the_share_set_aside_may_reach_the_limit_but_not_pass_it(check: Any, sessions: Rows, items: Rows) -> None:
    for row in sessions[:6]:
        row["query"] = ""
    assert not check(sessions, items, max_quarantined=0.01).rejected
    sessions[6]["query"] = ""
    assert check(sessions, items, max_quarantined=0.01).rejected


def test_a_window_without_clicks_says_where_to_look(check: Any, sessions: Rows, items: Rows) -> None:
    verdict = check([{**row, "clicked": []} for row in sessions], items)
    assert verdict.rejected
    assert verdict.reason.startswith(
        "sessions: the sum of has_click is 0; it must be at least 1: no session in the window"
    )
    assert "logs.fields.clicked" in verdict.reason


def test_a_window_without_sessions(check: Any, items: Rows) -> None:
    verdict = check([], items)
    assert verdict.rejected
    assert verdict.reason.startswith("sessions: the number of rows is 0")
    assert verdict.clean.schema == SCHEMA


def test_all_sessions_set_aside(check: Any, sessions: Rows, items: Rows) -> None:
    verdict = check([{**row, "query": ""} for row in sessions], items, max_quarantined=1)
    assert verdict.rejected
    assert verdict.clean.num_rows == 0
    assert verdict.quarantine.num_rows == 600


def test_few_clicks_are_a_warning(check: Any, sessions: Rows, items: Rows) -> None:
    for row in sessions[10:]:
        row["clicked"] = []
    verdict = check(sessions, items)
    assert not verdict.rejected
    assert verdict.figures["warnings"] == [
        "sessions: the mean of has_click is 0.008333; it must be at least 0.02: hardly any search ends in a click; "
        "click events may be lost on the way"
    ]


def test_shown_items_that_the_catalogue_lacks_are_a_warning(check: Any, sessions: Rows, items: Rows) -> None:
    for row in sessions[:100]:
        row["shown"] = [*row["shown"], "gone"]
    verdict = check(sessions, items)
    assert not verdict.rejected
    assert "n_unknown_shown" in verdict.figures["warnings"][0]


def test_damaged_items_go_aside_and_clicks_on_them_too(check: Any, sessions: Rows, items: Rows) -> None:
    items += [{"id": "B0-49", "text": "a second one"}, {"id": " ", "text": "nameless"}]
    items[10]["text"] = ""
    verdict = check(sessions, items, max_quarantined=0.1)
    assert not verdict.rejected
    aside = verdict.quarantine.to_pylist()
    assert [(it["row"], it["rules"]) for it in aside if it["suite"] == "catalogue"] == [
        (10, ["text_length must be at least 1"]),
        (50, ["n_earlier_copies must be 0"]),
        (51, ["id_length must be at least 1"]),
    ]
    assert verdict.clean_items.to_pylist() == [item for n, item in enumerate(items) if n not in (10, 50, 51)]
    assert {it["id"] for it in aside if it["suite"] == "sessions"} == {
        row["session_id"] for row in sessions if row["clicked"] == ["B0-10"]
    }


def test_an_empty_catalogue_is_the_reason_not_its_consequence(check: Any, sessions: Rows) -> None:
    verdict = check(sessions, [])
    assert verdict.reason.startswith("catalogue: the number of rows is 0; it must be at least 2")
    assert "catalogue.uri" in verdict.reason


def test_an_attackers_query_stays_text(check: Any, sessions: Rows, items: Rows, tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>" * 30
    sessions[3] |= {"query": attack}
    sessions[5] |= {"clicked": ["<script>alert(2)</script>"]}
    verdict = check(sessions, items)
    assert verdict.quarantine["row"].to_pylist() == [3, 5]
    for page in (tmp_path / "docs").iterdir():
        assert "<script" not in page.read_text()
    assert "&lt;script&gt;alert(2)" in (tmp_path / "docs" / "index.html").read_text()


def test_examples_cannot_break_a_line_of_the_log(check: Any, sessions: Rows, items: Rows) -> None:
    for row in sessions:
        row |= {"clicked": ["evil\n2011-10-20 INFO all is well \u202e" + "y" * 500], "shown": None}
    reason = check(sessions, items).reason
    assert "\n" not in reason
    assert "\u202e" not in reason
    assert len(reason) < 600


def test_verdicts_are_the_same_each_time(check: Any, sessions: Rows, items: Rows) -> None:
    sessions[3]["time"] += timedelta(days=500)
    first, second = check(sessions, items), check(sessions, items)
    assert first.figures == second.figures
    assert first.quarantine == second.quarantine
    assert first.verdicts == second.verdicts
