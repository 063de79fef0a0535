"""The queries that gained and lost most, counted by hand."""

from typing import Any

import numpy as np
import pytest

from embft.promotion.changed_queries import ChangedQueries, changed_queries

QUERIES = ["sofa", "sofa", "lamp", "rug", "rug", "tent", "drill", "odd"]
BEFORE = [0.5, 0.5, 0.0, 0.5, 0.9, 0.4, 0.7, np.nan]
AFTER = [0.8, 0.9, 0.6, 0.4, 0.8, 0.4, 0.6, 1.0]


def changed(shareable: Any = None, queries: list[str] = QUERIES, **figures: Any) -> ChangedQueries:
    before, after = (np.array(figures.get(name, it)) for name, it in (("before", BEFORE), ("after", AFTER)))
    return changed_queries(
        queries, before, after, candidate="challenger", opponent="base", shareable=shareable, min_clients=5
    )


def test_a_query_counts_by_its_sessions_times_its_change() -> None:
    found = changed()
    # sofa 0.3 + 0.4, lamp 0.6; rug -0.1 - 0.1, drill -0.1; tent is the same, and odd has no figure before.
    assert [it.query for it in found.gained] == ["sofa", "lamp"]
    assert [it.query for it in found.lost] == ["rug", "drill"]
    assert (found.n_gained, found.n_lost, found.n_same, found.n_unnamed) == (2, 2, 1, 0)
    sofa = found.gained[0]
    assert (sofa.n_sessions, sofa.before, sofa.after) == (2, 0.5, pytest.approx(0.85))


def test_a_query_that_may_not_be_shared_is_counted_and_not_named() -> None:
    found = changed(shareable={"lamp", "rug", "tent"})
    assert [it.query for it in (*found.gained, *found.lost)] == ["lamp", "rug"]
    assert (found.n_gained, found.n_lost, found.n_unnamed) == (2, 2, 2)
    assert b"sofa" not in found.to_json()
    assert changed(shareable=frozenset()).gained == ()


def test_ten_of_either_are_named_and_equal_changes_in_the_order_of_the_alphabet() -> None:
    queries = [f"q{n:02}" for n in reversed(range(30))]
    found = changed(queries=queries, before=[0.5] * 30, after=[0.6] * 15 + [0.4] * 15)
    assert [it.query for it in found.gained] == [f"q{n}" for n in range(15, 25)]
    assert [it.query for it in found.lost] == [f"q{n:02}" for n in range(10)]
