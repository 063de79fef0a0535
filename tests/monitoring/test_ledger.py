"""Messages as they lie in S3, and the rule by which they come to be: one incident is one message until it changes."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embft.monitoring.incidents import in_order, next_message
from embft.monitoring.ledger import TO_BE_ROUTED, Ledger, kept
from embft.monitoring.message import Message, Signal, Words
from tests.monitoring.told_nights import DAY, ToldNights, told_nights

NOW = datetime.now(UTC)


@pytest.fixture
def nights(tmp_path: Path, s3: str) -> ToldNights:
    return told_nights(tmp_path, s3)


def signal(state: str = "on", cause: str = "a", *, day: date = DAY, incident: str = "night") -> Signal:
    kind = "promotion" if state == "happened" else "stage_failed"
    told = {"incident": incident, "kind": kind, "day": day, "state": state, "cause": cause, "severity": "critical"}
    return Signal.model_validate({**told, "words": Words(title=f"{incident} {state} {cause}")})


def message(last: Message | None = None, **of_signal: str) -> Message:
    made = next_message(last, signal(**of_signal), model="tiny", at_utc=NOW, receivers=["team"])
    assert made
    return made


_signals = st.lists(
    st.builds(
        signal,
        st.sampled_from(["on", "on", "off"]),
        st.sampled_from("abc"),
        day=st.integers(0, 5).map(lambda it: DAY + timedelta(days=it)),
    ),
    max_size=30,
)


@given(_signals)
def test_no_cause_is_told_twice_in_a_row_and_every_recovery_is_of_something_told(seen: list[Signal]) -> None:
    told: list[Message] = []
    for it in seen:
        new = next_message(told[-1] if told else None, it, model="tiny", at_utc=NOW)
        assert next_message(new, it, model="tiny", at_utc=NOW) is None or new is None, "seen again, it is no news"
        if new:
            told.append(new)
    assert [it.number for it in told] == list(range(1, len(told) + 1))
    assert len({it.id for it in told}) == len(told)
    for before, after in zip([None, *told], told, strict=False):
        was_open = before is not None and before.state in ("opened", "changed")
        assert was_open == (after.state in ("changed", "recovered"))
        if before is not None:
            assert after.day >= before.day
            assert not was_open or (after.cause != before.cause and after.since == before.since)


def test_of_several_rules_only_one_more_is_news() -> None:
    both = message(cause="loss, ndcg")
    states = [next_message(both, signal(cause=it), model="tiny", at_utc=NOW) for it in ("ndcg", "loss, mrr")]
    assert [it and it.state for it in states] == [None, "changed"]


def test_nobody_hears_of_an_end_before_its_beginning_though_a_clock_went_back() -> None:
    opened, other = message(), message(incident="gate").model_copy(update={"at_utc": NOW - timedelta(minutes=30)})
    over = message(opened, state="off").model_copy(update={"at_utc": NOW - timedelta(hours=1)})
    assert in_order([over, opened, other]) == [other, opened, over]


def test_messages_are_found_again_with_those_that_are_open_and_those_that_are_young(nights: ToldNights) -> None:
    ledger = Ledger(nights.storage, nights.paths)
    assert (ledger.last("night"), ledger.open(), ledger.since(NOW - timedelta(days=1))) == (None, [], [])
    opened, other = message(), message(incident="gate")
    changed = message(opened, cause="b")
    over = message(other, state="off", incident="gate")
    happened = message(incident="promotion_1_4", state="happened")
    for it in (opened, other, changed, over, happened):
        ledger.write(it)
    assert ledger.last("night") == changed
    again = Ledger(nights.storage, nights.paths)
    assert [again.last(it) for it in ("night", "gate", "promotion_1_4")] == [changed, over, happened]
    assert again.open() == [changed]
    assert {it.id for it in again.since(NOW)} == {it.id for it in (opened, other, changed, over, happened)}
    assert again.since(NOW + timedelta(seconds=1)) == []
    assert len(nights.messages()) == 5
    again.write(changed.model_copy(update={"at_utc": NOW + timedelta(seconds=1)}))
    assert len(nights.messages()) == 5, "whoever notices the same writes the same object"

    waits = kept([opened, over], {(opened.id, "team"), (over.id, "ops")}, ["ops", "team"])
    assert waits == {over.id: ["team"]}
    assert kept([opened], set(), ["ops"]) == {}, "a channel that is no more waits for nothing"


@pytest.mark.parametrize("damage", [b"{", b"", json.dumps({"state": "of another version"}).encode()])
def test_a_damaged_message_makes_no_incident_silent(nights: ToldNights, damage: bytes) -> None:
    """It may be told once more; what would be told of the incident is told in any case."""
    opened = message()
    over = message(opened, state="off")
    for it in (opened, over):
        Ledger(nights.storage, nights.paths).write(it)
    nights.storage.write(f"{nights.paths.incidents}/notes.txt", b"somebody's")
    uris = [f"{nights.paths.incidents}/{it}" for it in nights.messages() if it.endswith(".json")]
    nights.storage.write(uris[1], damage)  # that it is over
    last = Ledger(nights.storage, nights.paths).last("night")
    assert last
    assert (last.number, last.state, last.receivers) == (2, "recovered", (TO_BE_ROUTED,))
    anew = next_message(last, signal(), model="tiny", at_utc=NOW)
    assert anew
    assert (anew.state, anew.number) == ("opened", 3)

    nights.storage.remove([uris[1]])
    nights.storage.write(uris[0], damage)  # that it is there
    last = Ledger(nights.storage, nights.paths).last("night")
    assert last
    states = [next_message(last, signal(it), model="tiny", at_utc=NOW) for it in ("on", "off")]
    assert [it and it.state for it in states] == ["changed", "recovered"]
    assert Ledger(nights.storage, nights.paths).since(NOW - timedelta(days=1)) == [], "nor is it sent as it is"
