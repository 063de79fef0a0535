from __future__ import annotations

import math
import tracemalloc
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embft.errors import DataRejected
from embft.finetuning.inputs import (
    FineTuningInput,
    PairedFineTuningInputsDataset,
    inputs_from_table,
    inputs_schema,
    inputs_to_table,
)


def _session(name: str, clicked: bool) -> FineTuningInput:
    return FineTuningInput(name, "q", ["a"] if clicked else [], ["a", "b"])


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


def test_a_session_weighs_less_than_2_kb() -> None:
    ids = [f"item{i}" for i in range(20)]
    tracemalloc.start()
    kept = [FineTuningInput(f"s{i}", f"query {i}", [ids[0]], ids, ranks=dict.fromkeys(ids, 0.5)) for i in range(1000)]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / len(kept) < 2000


_ids = st.lists(st.sampled_from("abcdef"), unique=True)
_ranks = st.floats(-1, 1, width=32)


@given(st.lists(st.tuples(st.text(), _ids, _ids, st.booleans(), _ranks), max_size=4))
def test_a_table_gives_back_the_sessions_written_to_it(
    rows: list[tuple[str, list[str], list[str], bool, float]],
) -> None:
    moment = datetime(2011, 10, 1, 12, 30, 1, 5, tzinfo=UTC)
    written = [
        FineTuningInput(
            f"s{i}", query, events, results, dict.fromkeys(results, rank) if known else None, timestamp=moment
        )
        for i, (query, events, results, known, rank) in enumerate(rows)
    ]
    table = inputs_to_table(written)
    assert table.schema == inputs_schema()
    for before, after in zip(written, inputs_from_table(table), strict=True):
        assert (before.session_id, before.query, before.events) == (after.session_id, after.query, after.events)
        assert (before.results, dict(before.ranks), before.timestamp) == (
            after.results,
            dict(after.ranks),
            after.timestamp,
        )


def test_times_are_written_in_utc() -> None:
    summer = timezone(timedelta(hours=2))
    table = inputs_to_table([FineTuningInput("s", "q", [], ["a"], timestamp=datetime(2011, 7, 1, 2, tzinfo=summer))])
    assert table.column("time").to_pylist() == [datetime(2011, 7, 1, 0, tzinfo=UTC)]


def test_a_table_without_ranks_and_time_is_read_as_unknown() -> None:
    table = pa.table({"session_id": ["s"], "query": ["q"], "results": [["a"]], "clicked": [["a"]]})
    (session,) = inputs_from_table(table)
    assert dict(session.ranks) == {"a": None}
    assert session.timestamp is None


def test_a_table_with_a_missing_column_says_which() -> None:
    with pytest.raises(DataRejected, match="clicked"):
        inputs_from_table(pa.table({"session_id": ["s"], "query": ["q"], "results": [["a"]]}))


def test_ranks_of_another_length_than_results_are_refused() -> None:
    table = pa.table(
        {"session_id": ["s"], "query": ["q"], "results": [["a", "b"]], "clicked": [["a"]], "ranks": [[0.5]]}
    )
    with pytest.raises(DataRejected, match="1 ranks for 2 results"):
        inputs_from_table(table)


@given(n_clicked=st.integers(1, 12), n_irrelevant=st.integers(1, 12), epochs=st.integers(1, 4))
def test_irrelevant_sessions_are_used_equally_often(n_clicked: int, n_irrelevant: int, epochs: int) -> None:
    sessions = [_session(f"c{i}", True) for i in range(n_clicked)] + [
        _session(f"i{i}", False) for i in range(n_irrelevant)
    ]
    pairs = PairedFineTuningInputsDataset(sessions, seed=3)
    used: Counter[str] = Counter({f"i{i}": 0 for i in range(n_irrelevant)})
    for epoch in range(epochs):
        pairs.set_epoch(epoch)
        clicked = [pair[0].session_id for pair in pairs]
        assert sorted(clicked) == sorted(f"c{i}" for i in range(n_clicked))
        used.update(pair[1].session_id for pair in pairs if pair[1] is not None)
    assert sum(used.values()) == n_clicked * epochs
    assert max(used.values()) - min(used.values()) <= 1


def test_pairing_depends_on_the_seed_alone() -> None:
    sessions = [_session(f"c{i}", True) for i in range(20)] + [_session(f"i{i}", False) for i in range(20)]

    def partners(seed: int) -> list[str]:
        return [pair[1].session_id for pair in PairedFineTuningInputsDataset(sessions, seed) if pair[1] is not None]

    assert partners(1) == partners(1)
    assert partners(1) != partners(2)


def test_without_irrelevant_sessions_the_partner_is_none() -> None:
    pairs = PairedFineTuningInputsDataset([_session("c", True)])
    assert pairs[0] == (pairs.not_irrelevant[0], None)
    assert pairs.irrelevant == []


@pytest.mark.parametrize("sessions", [[], [_session("i", False)]])
def test_a_log_without_a_click_is_rejected(sessions: list[FineTuningInput]) -> None:
    with pytest.raises(DataRejected, match=f"none of {len(sessions)} sessions has a click"):
        PairedFineTuningInputsDataset(sessions)
