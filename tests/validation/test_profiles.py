"""A day in figures: each one counted again by hand or in plain Python."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embft.clickstream.sessions import SCHEMA
from embft.validation.hashes import SeenBefore, hashes
from embft.validation.lists import isin_own_list, place_in_own_list
from embft.validation.profiles import DayProfile, Profiler
from embft.validation.scripts import is_garbled, script_counts

DAY = date(2026, 3, 1)


def row(n: int = 0, **changes: Any) -> dict[str, Any]:
    time = datetime(2026, 3, 1, 10, tzinfo=UTC) + timedelta(seconds=n)
    whole = {"session_id": f"s{n}", "day": DAY, "time": time, "client": f"c{n}", "query": f"q{n}", "clicked": []}
    return {**whole, **changes}


def profiles(*days: list[dict[str, Any]], lookback: int = 1, zone: str = "UTC", **lines: int) -> list[DayProfile]:
    profiler = Profiler(ZoneInfo(zone), lookback)
    tables = [pa.Table.from_pylist(rows, schema=SCHEMA) for rows in days]
    return [profiler.profile(DAY + timedelta(days=n), table, lines) for n, table in enumerate(tables)]


def figures(profile: DayProfile) -> dict[str, float]:
    return {name: value for name, (value, _) in profile.figures.items()}


def test_a_day_by_hand() -> None:
    day = [
        row(0, query="lamp", client="a", clicked=["x"], shown=["y", "x"]),
        row(1, query="lamp", client="a", clicked=["y", "z"], shown=["y", "x", "z"], positions=[1, 2, 40]),
        row(2, query="desk", client=None),
        row(2, query="chair", client="b", session_id="t"),
    ]
    (found,) = profiles(day, lines=10, duplicates=1, quarantined=2, filtered=3)
    assert figures(found) == pytest.approx(
        {
            "n_sessions": 4,
            "click_rate": 0.5,
            "query_length_mean": (4 + 4 + 4 + 5) / 4,
            "top_query_share": 0.5,
            "shown_share": 0.5,
            "unknown_shown_share": 0,
            "first_position_share": 1 / 3,
            "twin_share": 0,
            "duplicate_share": 0.1,
            "quarantined_share": 0.2,
            "filtered_share": 0.3,
        }
    )
    assert found.positions == [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert [hour for hour, count in enumerate(found.hours) if count] == [10]


def test_hours_are_those_of_the_logs_zone() -> None:
    (found,) = profiles([row()], zone="Asia/Kolkata")
    assert found.hours[15] == 1  # 10:00 UTC is 15:30 there


def test_a_day_against_the_day_before() -> None:
    yesterday = [row(0, query="lamp", clicked=["x"]), row(1, query="desk", clicked=["d"]), row(2, query="sofa")]
    today = [
        row(0, query="lamp", clicked=["x"], session_id="again"),  # a session of yesterday, to the second
        row(2, query="sofa", clicked=["s"]),  # known, but never clicked before
        row(3, query="new", clicked=["x"]),
        *(row(10 + n, query="lamp", clicked=["y" if n % 2 else "x"]) for n in range(37)),
    ]
    first, second = profiles(yesterday, today)
    assert "unseen_query_share" not in first.figures
    found = figures(second)
    assert found["unseen_query_share"] == 1 / 40
    assert found["known_click_share"] == 20 / 38
    assert found["repeated_share"] == 0  # one is chance


def test_shares_of_a_handful_are_not_told() -> None:
    """Of three sessions one is a third: no flood."""
    few, enough = profiles([row(n, client="a") for n in range(3)], [row(n // 2, client="a") for n in range(40)])
    assert not {"top_second_share", "top_client_share"} & few.figures.keys()
    assert (figures(enough)["top_second_share"], figures(enough)["top_client_share"]) == (0.05, 1)


def test_a_log_that_counts_in_minutes_is_no_replay_and_one_in_it_is_found() -> None:
    random = np.random.default_rng(5)

    def day(number: int) -> list[dict[str, Any]]:
        minutes = random.integers(0, 600, 1500)
        return [
            row(60 * int(n), session_id=f"{number}-{k}", query=f"q{k % 20}", clicked=["x"])
            for k, n in enumerate(minutes)
        ]

    yesterday, today = day(0), day(1)
    again = [{**it, "session_id": f"again-{n}"} for n, it in enumerate(yesterday[:500])]
    assert figures(profiles(yesterday, today)[1])["repeated_share"] < 0.02
    assert figures(profiles(yesterday, [*today, *again])[1])["repeated_share"] > 0.1


def test_twins_are_sessions_that_differ_by_their_id_alone() -> None:
    day = [row(2 * n, clicked=["x"]) for n in range(100)]
    twins = [{**day[n], "session_id": f"t{n}", "client": "new"} for n in range(36)]
    quiet = [row(500, session_id=f"u{n}", query="same") for n in range(50)]  # nothing clicked: too little to tell
    (found,) = profiles([*day, *twins, *quiet])
    assert figures(found)["twin_share"] == pytest.approx((36 - 3 * 36**0.5) / 186)


def test_a_busy_shops_coincidences_are_neither_twins_nor_repeats() -> None:
    """Forty of the same search and click in each second, by people of whom the log says nothing."""
    random = np.random.default_rng(3)
    days = [
        [row(int(n), session_id=f"{day}-{k}", query="lamp", client=None, clicked=["x"]) for k, n in enumerate(seconds)]
        for day, seconds in enumerate(random.integers(0, 60, (2, 2400)))
    ]
    found = figures(profiles(*days)[1])
    assert max(found["twin_share"], found["repeated_share"]) < 0.02  # the last second has none after it


def test_a_day_without_sessions() -> None:
    (found,) = profiles([])
    assert found.figures == {"n_sessions": (0.0, 0.0)}
    assert DayProfile.model_validate_json(found.to_json()) == found


LISTS = st.lists(st.lists(st.sampled_from("abcde"), max_size=5), max_size=8)


@given(LISTS, st.data())
def test_places_in_lists_are_those_of_plain_python(lists: list[list[str]], data: st.DataObject) -> None:
    wanted = [data.draw(st.lists(st.sampled_from("abcdef"), max_size=4)) for _ in lists]
    parents = np.array([n for n, ids in enumerate(wanted) for _ in ids], dtype=np.int64)
    other = np.array([n for n, ids in enumerate(lists) for _ in ids], dtype=np.int64)
    ids = pa.array([id_ for ids in wanted for id_ in ids], pa.string())
    other_ids = pa.array([id_ for ids in lists for id_ in ids], pa.string())
    start = np.cumsum([0, *map(len, lists)])
    expected = [
        start[n] + lists[n].index(id_) if id_ in lists[n] else -1 for n, ids in enumerate(wanted) for id_ in ids
    ]
    assert place_in_own_list(parents, ids, other, other_ids).tolist() == expected
    assert isin_own_list(parents, ids, other, other_ids).tolist() == [place >= 0 for place in expected]


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", "ü"]), max_size=6), max_size=4))
def test_copies_are_counted_over_partitions(partitions: list[list[str]]) -> None:
    seen, remembered = SeenBefore(), set[str]()
    for ids in partitions:
        found = seen.earlier_copies(pa.chunked_array([pa.array(ids, pa.string())])).tolist()
        assert found == [ids[:n].count(id_) + (id_ in remembered) for n, id_ in enumerate(ids)]
        remembered.update(ids)


def test_equal_texts_have_equal_hashes() -> None:
    found = hashes(pa.array(["a", "b", None, "a", ""], pa.string())).tolist()
    assert found[0] == found[3]
    assert found[2] == found[4]
    assert len(set(found)) == 3


def test_scripts_are_those_of_most_letters() -> None:
    queries = ["xbox 360", "手机壳 xl", "привет", "360", "", None, "наушники bt", "ελληνικά", "עברית"]
    assert script_counts(pa.chunked_array([pa.array(queries, pa.string())])) == {
        "none": 3,
        "cyrillic": 2,
        "latin": 1,
        "cjk": 1,
        "greek": 1,
        "hebrew": 1,
    }


@pytest.mark.parametrize(
    "text", ["café", "Müller fön", "привет мир", "手机壳", "xbox 360™", "l’été", "5°c", "señor", "naïve", "😀"]
)
def test_text_of_any_language_is_readable_and_wrongly_decoded_text_is_not(text: str) -> None:
    damaged = text.encode().decode("latin-1").lower()
    found = is_garbled(pa.chunked_array([pa.array([text.lower(), damaged, "plain", "lost \ufffd", None], pa.string())]))
    assert found.tolist() == [False, True, False, True, False]


def test_shares_know_how_sure_they_are() -> None:
    """The error of 0 of 10 is not 0: else a first click on a quiet day would be infinitely strange."""
    (found,) = profiles([row(n) for n in range(10)])
    assert found.figures["click_rate"][0] == 0
    assert 0.05 < found.figures["click_rate"][1] < 0.15
    counted = Counter(round(error, 3) for _, error in found.figures.values())
    assert counted[0] <= 1
