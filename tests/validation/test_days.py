"""`check_sessions` against earlier nights: each way in which a day goes wrong is told, by the rule that is for it."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest

from embft.clickstream.sessions import SCHEMA
from embft.validation.profiles import LOOKBACK_DAYS, Profiler
from embft.validation.window import Before
from embft.validation_config import Expectation
from tests.validation.checks import ITEMS, WINDOW, Rows, check_rows

TODAY = WINDOW[1]
N = 400  # sessions of an ordinary day


@cache
def _day(day: date) -> tuple[dict[str, Any], ...]:
    """An ordinary day: busy from 8 to 22, queries that lead to their own items, five results shown."""
    random = np.random.default_rng(day.toordinal())
    n = int(N * random.uniform(0.9, 1.1))
    hours = 8 + np.clip(random.normal(7, 3, n), 0, 13.9)
    rows = []
    for k, (at, query) in enumerate(zip(np.sort(hours), random.zipf(1.6, n) % 40, strict=True)):
        second = int(at * 3600)
        shown = [f"B0-{(query + j) % 50}" for j in range(5)]
        clicked = [shown[min(int(random.exponential(1)), 4)]] if random.random() < 0.6 else []
        rows.append(
            {
                "session_id": f"{day}-{k}",
                "day": day,
                "time": datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=second - 7200),
                "client": f"c{random.integers(150)}",
                "query": f"thing {query}" if random.random() < 0.9 else f"rare {random.integers(10_000)}",
                "shown": shown,
                "clicked": clicked,
            }
        )
    return tuple(rows)


def rows_of(first: date, last: date) -> Rows:
    days = (first + timedelta(days=n) for n in range((last - first).days + 1))
    return [dict(row) for day in days for row in _day(day)]


@pytest.fixture(scope="module")
def before() -> Before:
    """Six weeks of ordinary days before the newest one."""
    profiler, profiles = Profiler(ZoneInfo("Europe/Berlin"), LOOKBACK_DAYS), {}
    for back in range(42, 0, -1):
        rows = rows_of(TODAY - timedelta(days=back), TODAY - timedelta(days=back))
        counted = {"lines": len(rows), "duplicates": 0, "quarantined": 0, "filtered": 0}
        profile = profiler.profile(rows[0]["day"], pa.Table.from_pylist(rows, schema=SCHEMA), counted)
        profiles[profile.day] = profile
    items = pa.Table.from_pylist([{"id": f"B0-{n}", "text": f"game number {n}"} for n in range(50)], schema=ITEMS)
    return Before(profiles, items)


@pytest.fixture
def check(suites: dict[str, tuple[Expectation, ...]], tmp_path: Path, before: Before) -> Any:
    return partial(check_rows, suites=suites, folder=tmp_path, before=before)


def test_an_ordinary_night_is_silent(check: Any, items: Rows) -> None:
    checked = check(rows_of(*WINDOW), items)
    assert checked.told == []
    assert checked.figures["notes"] == []
    assert list(checked.figures["profiles"]) == [f"2011-10-{n:02}" for n in range(1, 11)]


def _half_is_missing(day: Rows) -> Rows:
    return [row for row in day if row["time"].hour < 12]


def _sampled(day: Rows) -> Rows:
    return day[::6]


def _twice_under_new_ids(day: Rows) -> Rows:
    return [*day, *({**row, "session_id": f"{row['session_id']}x"} for row in day)]


def _clicks_moved_by_a_row(day: Rows) -> Rows:
    moved = [*day[1:], day[0]]
    return [{**row, "shown": it["shown"], "clicked": it["clicked"]} for row, it in zip(day, moved, strict=True)]


def _eight_hours_late(day: Rows) -> Rows:
    return [{**row, "time": row["time"] + timedelta(hours=8)} for row in day]


def _time_is_lost(day: Rows) -> Rows:
    return [{**row, "time": row["time"].replace(hour=0, minute=0, second=0)} for row in day]


def _clicks_are_lost(day: Rows) -> Rows:
    return [{**row, "clicked": []} if n % 2 else row for n, row in enumerate(day)]


def _all_on_the_first_position(day: Rows) -> Rows:
    return [{**row, "clicked": row["shown"][:1]} if row["clicked"] else row for row in day]


def _one_client(day: Rows) -> Rows:
    return [{**row, "client": "bot"} if n % 3 else row for n, row in enumerate(day)]


def _one_query(day: Rows) -> Rows:
    return [{**row, "query": "buy now"} if n % 10 else row for n, row in enumerate(day)]


def _queries_cut(day: Rows) -> Rows:
    return [{**row, "query": row["query"][:2]} for row in day]


def _another_market(day: Rows) -> Rows:
    return [{**row, "query": "手机壳 黑色"} if n % 3 else row for n, row in enumerate(day)]


def _yesterday_again(day: Rows) -> Rows:
    return [
        {**row, "day": TODAY, "time": row["time"] + timedelta(days=1), "session_id": f"{row['session_id']}y"}
        for row in _day(TODAY - timedelta(days=1))
    ]


def _no_shown_lists(day: Rows) -> Rows:
    return [{**row, "shown": None} for row in day]


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (_half_is_missing, "no_silent_hours"),
        (_sampled, "volume"),
        (_twice_under_new_ids, "no_twins"),
        (_clicks_moved_by_a_row, "clicks_fit_queries"),
        (_eight_hours_late, "hours_in_place"),
        (_time_is_lost, "times_differ"),
        (_clicks_are_lost, "click_rate_usual"),
        (_all_on_the_first_position, "positions_usual"),
        (_one_client, "one_client_does_not_rule"),
        (_one_query, "one_query_does_not_rule"),
        (_queries_cut, "query_length_usual"),
        (_another_market, "scripts_usual"),
        (_yesterday_again, "no_replay"),
        (_no_shown_lists, "shown_lists_usual"),
    ],
)
def test_a_damaged_day_stops_its_night(check: Any, items: Rows, damage: Callable[[Rows], Rows], rule: str) -> None:
    healthy = rows_of(WINDOW[0], TODAY - timedelta(days=1))
    checked = check([*healthy, *damage(rows_of(TODAY, TODAY))], items)
    assert rule in checked.broken_rules()
    reasons = [reason for reason in checked.reasons if f"(rule {rule})" in reason]
    assert len(reasons) == 1
    assert reasons[0].startswith("the sessions of 2011-10-10: ")
    assert "; next: " in reasons[0]
    assert not checked.aside


def test_queries_that_nobody_typed_before(check: Any, items: Rows) -> None:
    healthy = rows_of(WINDOW[0], TODAY - timedelta(days=1))
    today = [{**row, "query": f"gen{n:05}"} for n, row in enumerate(rows_of(TODAY, TODAY))]
    assert "queries_are_known" in check([*healthy, *today], items).broken_rules()


def test_an_earlier_damaged_day_is_left_out_and_named(check: Any, items: Rows) -> None:
    """Its own night was stopped by it; later nights neither learn from it nor stop."""
    rows = rows_of(*WINDOW)
    bad = date(2011, 10, 4)
    n_bad = sum(row["day"] == bad for row in rows)
    damaged = [{**row, "clicked": []} if row["day"] == bad else row for row in rows]
    checked = check(damaged, items)
    assert checked.reasons == []
    assert list(checked.figures["days_left_out"]) == ["2011-10-04"]
    (warning,) = checked.figures["warnings"]
    assert warning.startswith(f"2011-10-04 is left out of this night with its {n_bad} sessions: click_rate is 0, usual")
    assert bad not in checked.clean["day"].to_pylist()
    assert checked.clean.num_rows == len(rows) - n_bad
    assert checked.figures["sessions"]["left_out"] == n_bad


def test_a_day_that_could_not_be_read_is_left_out_or_stops_its_own_night(check: Any, items: Rows) -> None:
    why = "90 of 100 log lines could not be read"
    rows = rows_of(*WINDOW)
    earlier = check(rows, items, refused={date(2011, 10, 4): why})
    assert (earlier.reasons, earlier.figures["days_left_out"]) == ([], {"2011-10-04": [why]})
    assert check(rows, items, refused={TODAY: why}).reasons == [f"the sessions of 2011-10-10: {why}"]


def test_the_first_night_says_that_it_compares_with_nothing(check: Any, items: Rows) -> None:
    half = [*rows_of(WINDOW[0], TODAY - timedelta(days=1)), *_half_is_missing(rows_of(TODAY, TODAY))]
    checked = check(half, items, before=Before())
    assert checked.told == []
    notes = checked.figures["notes"]
    assert all("not judged, no earlier night to compare with" in note for note in notes)
    assert any("no_silent_hours" in note for note in notes)
    assert any("items_stay" in note for note in notes)
    # Absolute limits hold from the first night on.
    doubled = [*half, *({**row, "session_id": f"{row['session_id']}x"} for row in half if row["day"] == TODAY)]
    assert "no_twins" in check(doubled, items, before=Before()).broken_rules()


def test_days_after_the_one_under_test_are_never_asked(check: Any, items: Rows, before: Before) -> None:
    """A backfill compares with the days before its day, even where later nights have run already."""
    later = {
        TODAY + timedelta(days=n): it.model_copy(update={"figures": {}}) for n, it in enumerate([*before.days.values()])
    }
    rows = rows_of(*WINDOW)
    assert (
        check(rows, items, before=Before({**before.days, **later}, before.items)).figures == check(rows, items).figures
    )


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        (lambda items: items[:30], {"size_usual", "items_stay"}),
        (
            lambda items: [{**it, "id": f"new-{n}" if n > 25 else it["id"]} for n, it in enumerate(items)],
            {"items_stay"},
        ),
        (
            lambda items: [{**it, "text": items[(n + 1) % 50]["text"]} for n, it in enumerate(items)],
            {"texts_stay"},
        ),
        (lambda items: [{**it, "text": "a game"} for it in items], {"texts_stay", "texts_differ"}),
    ],
)
def test_a_damaged_catalogue_is_the_reason(check: Any, items: Rows, change: Any, rules: set[str]) -> None:
    checked = check(rows_of(*WINDOW), change(items), max_quarantined=1)
    assert checked.broken_rules() & {"size_usual", "items_stay", "texts_stay", "texts_differ"} == rules
    assert checked.reasons[0].startswith("catalogue: ")
