"""Train before validation before test, and no session in two of them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from embft.clickstream.sessions import SCHEMA
from embft.clickstream.split import Split, n_unseen_sessions, split_by_time, unseen_queries

TEST_FROM = date(2026, 3, 8)


def table(rows: list[tuple[str, int]]) -> pa.Table:
    """Sessions given as id and day of March."""
    records = []
    for id_, number in rows:
        day = date(2026, 3, number)
        at = datetime.combine(day, time(12), UTC)
        records.append({"session_id": id_, "day": day, "time": at, "query": "lamp", "clicked": []})
    return pa.Table.from_pylist(records, schema=SCHEMA)


def ids(part: pa.Table) -> list[str]:
    found: list[str] = part["session_id"].to_pylist()
    return found


def split(rows: list[tuple[str, int]], validation_days: int = 2) -> Split:
    return split_by_time(table(rows), test_from=TEST_FROM, validation_days=validation_days)


def test_newest_train_days_are_validation_and_the_rest_is_train() -> None:
    parts = split([("a", 1), ("b", 5), ("c", 6), ("d", 7), ("e", 8), ("f", 9)])
    assert [ids(parts.train), ids(parts.validation), ids(parts.test)] == [["a", "b"], ["c", "d"], ["e", "f"]]
    assert parts.n_repeated == 0


def test_missing_day_does_not_empty_validation() -> None:
    parts = split([("a", 1), ("b", 3), ("c", 8)], validation_days=1)
    assert [ids(parts.train), ids(parts.validation), ids(parts.test)] == [["a"], ["b"], ["c"]]


def test_id_that_comes_again_stays_in_the_later_part() -> None:
    parts = split([("a", 1), ("a", 7), ("b", 2), ("b", 9), ("c", 7), ("c", 8), ("d", 3)], validation_days=1)
    assert [ids(parts.train), ids(parts.validation), ids(parts.test)] == [["d"], ["a"], ["b", "c"]]
    assert parts.n_repeated == 3


def test_window_without_train_days_has_an_empty_train() -> None:
    parts = split([("a", 7), ("b", 8)])
    assert [ids(parts.train), ids(parts.validation), ids(parts.test)] == [[], ["a"], ["b"]]
    assert split([]).test.num_rows == 0


def test_queries_of_test_that_train_has_not_are_listed_once_in_order() -> None:
    train, test = (
        [{"query": query} for query in queries] for queries in (["lamp", "rug"], ["sofa", "rug", "bed", "sofa"])
    )
    parts = [pa.Table.from_pylist(rows, pa.schema([("query", pa.string())])) for rows in (train, test)]
    assert unseen_queries(*parts).to_pydict() == {"query": ["bed", "sofa"]}
    assert n_unseen_sessions(*parts) == 3
    assert unseen_queries(parts[0], parts[0]).to_pydict() == {"query": []}
    assert n_unseen_sessions(parts[0], parts[0]) == 0


@given(
    rows=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 12)), max_size=30),
    validation_days=st.integers(1, 4),
)
def test_no_future_and_no_session_on_two_sides(rows: list[tuple[str, int]], validation_days: int) -> None:
    parts = split(rows, validation_days)
    known = [set(ids(part)) for part in (parts.train, parts.validation, parts.test)]
    assert not known[0] & known[1] | known[1] & known[2] | known[0] & known[2]
    assert max(parts.train["day"].to_pylist(), default=date.min) < min(
        parts.validation["day"].to_pylist(), default=date.max
    )
    assert max(parts.validation["day"].to_pylist(), default=date.min) < TEST_FROM
    assert min(parts.test["day"].to_pylist(), default=date.max) >= TEST_FROM
    assert sum(part.num_rows for part in (parts.train, parts.validation, parts.test)) + parts.n_repeated == len(rows)
