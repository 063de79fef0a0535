from __future__ import annotations

import math
import pickle
import tracemalloc
from array import array
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embft.errors import DataRejected
from embft.finetuning.inputs import FineTuningInput, query_identity


def test_not_events_are_the_shown_items_without_a_click_in_order() -> None:
    session = FineTuningInput("s", "q", events=["b"], results=["c", "b", "a"])
    assert session.not_events == ["c", "a"]
    assert not session.is_irrelevant
    assert len(session) == 3


def test_a_click_on_an_item_that_was_not_shown_counts_as_shown_last() -> None:
    session = FineTuningInput("s", "q", events=["x"], results=["a"])
    assert session.results == ("a", "x")
    assert session.not_events == ["a"]


def test_ranks_left_out_are_unknown() -> None:
    session = FineTuningInput("s", "q", [], ["a", "b"], ranks={"b": 0.5})
    assert dict(session.ranks) == {"a": None, "b": 0.5}
    assert not session.has_all_ranks
    session.ranks = {"a": 0.0, "b": 0.1}
    assert session.has_all_ranks


def test_ranks_cannot_be_changed_one_by_one_and_so_be_lost_in_silence() -> None:
    session = FineTuningInput("s", "q", [], ["a"])
    with pytest.raises(TypeError):
        session.ranks["a"] = 1.0  # type: ignore[index]


@pytest.mark.parametrize("rank", [math.nan, math.inf])
def test_a_rank_that_is_no_finite_number_is_refused_by_name(rank: float) -> None:
    with pytest.raises(DataRejected, match=f"'s7'.*'a' is {rank}"):
        FineTuningInput("s7", "q", [], ["a"], ranks={"a": rank})


def test_a_rank_of_an_item_that_was_not_shown_is_refused() -> None:
    with pytest.raises(DataRejected, match=r"not shown.*'z'"):
        FineTuningInput("s", "q", [], ["a"], ranks={"z": 1.0})


def test_event_weights_must_match_the_events() -> None:
    with pytest.raises(DataRejected, match="1 event_weights for 2 events"):
        FineTuningInput("s", "q", ["a", "b"], ["a", "b"], event_weights=[1.0])


def test_a_timestamp_without_time_zone_is_refused() -> None:
    with pytest.raises(DataRejected, match="no time zone"):
        FineTuningInput("s", "q", [], ["a"], timestamp=datetime(2011, 10, 1))


def test_removing_results_forgets_their_clicks_types_and_ranks() -> None:
    session = FineTuningInput(
        "s", "q", ["a", "b"], ["a", "b", "c"], ranks={"a": 1.0, "c": 3.0}, event_types=["click", "cart"]
    )
    session.remove_results({"a"})
    assert (session.results, session.events, session.event_types) == (("b", "c"), ("b",), ("cart",))
    assert dict(session.ranks) == {"b": None, "c": 3.0}
    session.remove_results(["b"])
    assert session.is_irrelevant


def test_a_session_of_20_results_weighs_less_than_2_kb() -> None:
    ids = [f"item{i}" for i in range(20)]
    tracemalloc.start()
    kept = [FineTuningInput(f"s{i}", f"query {i}", [ids[0]], ids, ranks=dict.fromkeys(ids, 0.5)) for i in range(1000)]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / len(kept) < 2000


def test_what_is_known_of_shown_items_takes_no_memory_where_it_is_unknown() -> None:
    session = FineTuningInput("s", "q", ["a"], ["a", "b"], ranks={"a": None})
    assert (session.positions, session.propensities, session.event_weights) == (None, None, None)
    assert not session.has_all_ranks
    assert session.rank_values is None
    assert FineTuningInput("s", "q", [], []).has_all_ranks


def test_positions_and_propensities_belong_to_the_results_as_given() -> None:
    session = FineTuningInput(
        "s", "q", ["x", "b"], ["a", "b", "a"], positions=[4, 7, 9], propensities=[0.5, 0.25, 0.125]
    )
    assert session.results == ("a", "b", "x")
    assert session.positions == array("i", [4, 7, 10])  # a's first place; x, clicked elsewhere, after the last
    assert session.propensities == array("f", [0.5, 0.25, 1.0])  # who clicked x has looked at it


def test_clicks_beside_the_results_take_the_places_after_the_last() -> None:
    assert FineTuningInput("s", "q", ["x", "y"], ["a", "b"], positions=[3, 1]).positions == array("i", [3, 1, 4, 5])
    assert FineTuningInput("s", "q", ["x"], [], positions=[]).positions == array("i", [1])


def test_removing_results_keeps_positions_and_propensities_with_their_items() -> None:
    session = FineTuningInput(
        "s", "q", ["b"], ["a", "b", "c"], positions=[1, 2, 3], propensities=[1.0, 0.5, 0.25], event_weights=[0.5]
    )
    session.remove_results(["a", "b"])
    assert (session.results, session.positions, session.propensities) == (("c",), array("i", [3]), array("f", [0.25]))
    assert session.event_weights == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"positions": [1]}, "'s7': 1 positions for 2 results"),
        ({"propensities": [1.0, 1.0, 1.0]}, "'s7': 3 propensities for 2 results"),
        ({"positions": [1, 0]}, r"'s7': position 0;.*from 1"),
        ({"positions": [1, 1.5]}, r"'s7': position 1\.5;.*whole number"),
        ({"positions": [1, None]}, "position None"),
        ({"positions": [1, math.nan]}, "position nan"),
        ({"positions": [1, 2**31]}, "position 2147483648"),
        ({"propensities": [0.5, 0.0]}, r"'s7': propensity 0\.0;.*\(0, 1\]"),
        ({"propensities": [0.5, 1.5]}, r"propensity 1\.5"),
        ({"propensities": [0.5, math.nan]}, "propensity nan"),
        ({"propensities": [0.5, None]}, "propensity None"),
        ({"propensities": [0.5, 1e-60]}, "propensity 1e-60"),  # 0 as float32, and an infinite weight later
        ({"event_weights": [1.5]}, r"'s7': event weight 1\.5;.*\[0, 1\]"),
        ({"event_weights": [-0.1]}, "event weight -0.1"),
        ({"event_weights": [math.nan]}, "event weight nan"),
        ({"event_weights": [None]}, "event weight None"),
    ],
)
def test_values_outside_their_range_are_refused_by_session_and_value(given: dict[str, Any], message: str) -> None:
    with pytest.raises(DataRejected, match=message):
        FineTuningInput("s7", "q", ["a"], ["a", "b"], **given)


def test_ranks_may_be_given_as_an_array_where_nan_means_unknown() -> None:
    session = FineTuningInput("s", "q", [], ["a", "b"])
    session.rank_values = array("d", [0.5, math.nan])
    assert dict(session.ranks) == {"a": 0.5, "b": None}
    with pytest.raises(DataRejected, match="1 rank_values for 2 results"):
        session.rank_values = array("d", [0.5])
    with pytest.raises(DataRejected, match="infinite rank"):
        session.rank_values = array("d", [0.5, -math.inf])


def test_a_session_alone_knows_its_own_clicks_for_the_query() -> None:
    session = FineTuningInput("s", "q", ["a", "b"], [])
    assert session.clicked_for_query == {"a", "b"}
    session.clicked_for_query = frozenset("abc")
    assert session.clicked_for_query == {"a", "b", "c"}
    with pytest.raises(DataRejected, match=r"'s'.*\['b'\]"):
        session.clicked_for_query = frozenset("a")


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("Red Shoe", "  red\t shoe\n", True),
        ("STRASSE", "straße", True),
        ("redshoe", "red shoe", False),
        ("cafe", "café", False),
    ],
)
def test_queries_are_the_same_but_for_case_and_whitespace(left: str, right: str, same: bool) -> None:
    assert (query_identity(left) == query_identity(right)) is same


_shown = st.lists(st.sampled_from("abcdef"))


@given(data=st.data(), results=_shown, events=st.lists(st.sampled_from("abcdefxyz")), gone=st.sets(_shown.map("".join)))
def test_lists_stay_aligned_whatever_is_repeated_added_or_removed(
    data: st.DataObject, results: list[str], events: list[str], gone: set[str]
) -> None:
    chances = st.floats(0.125, 1, width=32)
    positions = data.draw(st.lists(st.integers(1, 50), min_size=len(results), max_size=len(results)))
    propensities = data.draw(st.lists(chances, min_size=len(results), max_size=len(results)))
    session = FineTuningInput("s", "q", events, results, positions=positions, propensities=propensities)
    session.remove_results(gone)
    assert session.positions is not None
    assert session.propensities is not None
    assert len(session.positions) == len(session.propensities) == len(session.results) == len(session.ranks)
    for id_, place, chance in zip(session.results, session.positions, session.propensities, strict=True):
        assert id_ not in gone
        if id_ in results:
            assert (place, chance) == (positions[results.index(id_)], propensities[results.index(id_)])
        else:
            assert place > max(positions, default=0)
            assert chance == 1.0


def test_a_session_survives_the_way_to_a_worker_process() -> None:
    session = FineTuningInput("s", "q", ["a"], ["a"], {"a": 0.5}, ["cart"], [0.5], positions=[2], propensities=[0.5])
    again = pickle.loads(pickle.dumps(session))
    assert all(
        getattr(again, name) == getattr(session, name)
        for name in ("results", "ranks", "event_types", "event_weights", "positions", "propensities")
    )
