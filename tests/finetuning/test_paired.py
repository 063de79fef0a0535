from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embft.errors import DataRejected
from embft.finetuning.inputs import FineTuningInput, query_identity
from embft.finetuning.paired import PairedFineTuningInputsDataset


def _session(name: str, clicked: bool) -> FineTuningInput:
    return FineTuningInput(name, "q", ["a"] if clicked else [], ["a", "b"])


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


def test_a_dataset_prints_its_counts() -> None:
    pairs = PairedFineTuningInputsDataset([_session("c", True), _session("i", False), _session("j", False)])
    assert repr(pairs) == "PairedFineTuningInputsDataset(1 clicked and 2 irrelevant sessions)"


def test_each_session_knows_what_was_clicked_for_its_query_in_the_log() -> None:
    first = FineTuningInput("1", "Red  Shoe", ["a"], ["a", "b"])
    second = FineTuningInput("2", "red shoe", ["b"], ["a", "b"])
    unclicked = FineTuningInput("3", "red shoe ", [], ["a", "b"])
    other = FineTuningInput("4", "hat", ["z"], ["z"])
    PairedFineTuningInputsDataset([first, second, unclicked, other])
    assert first.clicked_for_query == {"a", "b"}
    assert first.clicked_for_query is second.clicked_for_query is unclicked.clicked_for_query
    assert other.clicked_for_query == {"z"}


def test_clicks_of_further_sessions_count_and_those_sessions_are_left_as_they_are() -> None:
    seen, held_out = FineTuningInput("1", "hat", ["a"], []), FineTuningInput("2", "hat", ["b"], ["b", "a"])
    pairs = PairedFineTuningInputsDataset([held_out], clicks_of=[seen])
    assert held_out.clicked_for_query == {"a", "b"}
    assert seen.clicked_for_query == {"a"}
    assert [clicked for clicked, _ in pairs] == [held_out]


def test_a_session_put_into_another_dataset_forgets_the_first() -> None:
    one, two = FineTuningInput("1", "hat", ["a"], []), FineTuningInput("2", "hat", ["b"], [])
    PairedFineTuningInputsDataset([one, two])
    PairedFineTuningInputsDataset([one])
    assert (one.clicked_for_query, two.clicked_for_query) == ({"a"}, {"a", "b"})


_sessions = st.lists(
    st.tuples(st.sampled_from(["hat", "HAT", " hat", "shoe", ""]), st.lists(st.sampled_from("abc"), max_size=3)),
    max_size=8,
)


@given(inputs=_sessions, further=_sessions)
def test_shared_clicks_are_those_that_a_plain_count_finds(
    inputs: list[tuple[str, list[str]]], further: list[tuple[str, list[str]]]
) -> None:
    part = [FineTuningInput(f"s{i}", query, events, ["a"]) for i, (query, events) in enumerate(inputs)]
    others = [FineTuningInput(f"o{i}", query, events, ["a"]) for i, (query, events) in enumerate(further)]
    if not any(events for _, events in inputs):
        return
    PairedFineTuningInputsDataset(part, clicks_of=iter(others))
    for session in part:
        same = [it for it in [*part, *others] if query_identity(it.query) == query_identity(session.query)]
        assert session.clicked_for_query == {id_ for it in same for id_ in it.events}
