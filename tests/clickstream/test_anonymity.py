"""`shareable_queries`: people are counted, not their searches."""

import pyarrow as pa
import pytest

from embft.clickstream.anonymity import shareable_queries
from embft.clickstream.sessions import SCHEMA


def searches(*rows: tuple[str, str | None]) -> pa.Table:
    schema = pa.schema([SCHEMA.field("query"), SCHEMA.field("client")])
    return pa.table({"query": [it[0] for it in rows], "client": [it[1] for it in rows]}, schema=schema)


def test_a_query_of_enough_people_is_shareable_and_one_of_fewer_is_not() -> None:
    table = searches(*[("chess", f"c{n}") for n in range(5)], *[("go", f"c{n}") for n in range(4)])
    assert shareable_queries(table, 5) == {"chess"}
    assert shareable_queries(table, 4) == {"chess", "go"}


def test_one_persons_many_searches_are_one_person() -> None:
    assert shareable_queries(searches(*[("my secret illness", "c1")] * 50), 2) == frozenset()


def test_people_are_counted_over_all_parts_of_the_window() -> None:
    days = [searches(("chess", f"c{n}")) for n in range(5)]
    assert shareable_queries(pa.concat_tables(days), 5) == {"chess"}


@pytest.mark.parametrize("known", [[], ["c1", "c2", "c3", "c4"]])
def test_a_search_of_nobody_known_counts_for_nobody(known: list[str]) -> None:
    table = searches(*[("chess", None)] * 50, *[("chess", it) for it in known])
    assert shareable_queries(table, 5) == frozenset()


def test_where_one_client_is_enough_everything_may_be_shown() -> None:
    assert shareable_queries(searches(("chess", None)), 1) is None


def test_no_sessions() -> None:
    assert shareable_queries(searches(), 5) == frozenset()
