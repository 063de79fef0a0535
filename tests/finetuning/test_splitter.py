from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embft.errors import ConfigError, DataRejected
from embft.finetuning.inputs import FineTuningInput, query_identity
from embft.finetuning.splitter import ClickstreamSplitter, SplitBy

_BEGAN = datetime(2011, 10, 1, tzinfo=UTC)


def _session(number: int, *, day: int | None = None, query: str = "", clicked: bool = True) -> FineTuningInput:
    return FineTuningInput(
        f"s{number}",
        query or f"query {number}",
        [f"i{number}"] if clicked else [],
        [f"i{number}", "other"],
        timestamp=None if day is None else _BEGAN + timedelta(days=day),
    )


def _parts(splitter: ClickstreamSplitter, sessions: list[FineTuningInput]) -> dict[str, list[FineTuningInput]]:
    return {name: [*dataset.not_irrelevant, *dataset.irrelevant] for name, dataset in splitter.split(sessions).items()}


def _ids(part: list[FineTuningInput]) -> list[str]:
    return sorted(session.session_id for session in part)


def test_the_newest_fifth_is_the_test() -> None:
    sessions = [_session(day, day=day) for day in (3, 0, 4, 1, 2)]
    parts = _parts(ClickstreamSplitter(), sessions)
    assert (_ids(parts["train"]), _ids(parts["test"])) == (["s0", "s1", "s2", "s3"], ["s4"])


@pytest.mark.parametrize(
    ("per_day", "newest_days"),
    [
        ([4, 4, 2], 1),  # 2 of 10: exactly the share
        ([4, 3, 3], 1),  # 3 of 10 are nearer to 2 than none is, and none is no test
        ([2, 7, 1], 1),  # 1 of 10 is nearer to 2 than 8 of 10
        ([1, 9], 1),  # all but the first day: the only cut there is
    ],
)
def test_sessions_of_one_moment_stay_together(per_day: list[int], newest_days: int) -> None:
    days = [day for day, count in enumerate(per_day) for _ in range(count)]
    parts = _parts(ClickstreamSplitter(0.2), [_session(i, day=day) for i, day in enumerate(days)])
    assert len(parts["test"]) == sum(per_day[-newest_days:])


def test_by_time_every_session_needs_a_timestamp() -> None:
    sessions = [_session(0, day=0), _session(1), _session(2, day=1), _session(3)]
    with pytest.raises(DataRejected, match=r"2 of 4 sessions have no timestamp.*'s1'.*by=\"session\""):
        ClickstreamSplitter().split(sessions)
    ClickstreamSplitter(by="session").split(sessions)


def test_sessions_of_one_moment_alone_cannot_be_split_by_time() -> None:
    with pytest.raises(DataRejected, match=r"all 2 sessions have the timestamp 2011-10-01T00:00:00.*by=.session"):
        ClickstreamSplitter().split([_session(0, day=0), _session(1, day=0)])


def test_no_query_is_in_both_parts_however_it_is_typed() -> None:
    sessions = [_session(i, query=["Red Shoe", "red  shoe", "hat", "HAT ", "boot"][i % 5]) for i in range(20)]
    parts = _parts(ClickstreamSplitter(0.34, by="query"), sessions)
    train, test = ({query_identity(session.query) for session in part} for part in parts.values())
    assert (len(train), len(test), train & test) == (2, 1, set())


def test_an_id_in_both_parts_stays_in_the_test_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    sessions = [_session(0, day=0), _session(1, day=1), _session(2, day=2), _session(3, day=3), _session(1, day=4)]
    with caplog.at_level(logging.INFO, logger="embft.finetuning.splitter"):
        parts = _parts(ClickstreamSplitter(0.2), sessions)
    assert (_ids(parts["train"]), _ids(parts["test"])) == (["s0", "s2", "s3"], ["s1"])
    assert "3 sessions to train on, 1 to test on, 1 left out of training" in caplog.text


def test_the_test_knows_the_clicks_of_training_and_training_not_those_to_come() -> None:
    sessions = [
        FineTuningInput(f"s{day}", query, [click], ["a", "b"], timestamp=_BEGAN + timedelta(days=day))
        for day, (query, click) in enumerate([("hat", "a"), ("shoe", "a"), ("HAT", "b")])
    ]
    ClickstreamSplitter(0.3).split(sessions)
    assert [session.clicked_for_query for session in sessions] == [{"a"}, {"a"}, {"a", "b"}]


def test_the_parts_are_a_dataset_dict_that_prints() -> None:
    from datasets import DatasetDict

    parts = ClickstreamSplitter(0.5, by="session").split([_session(i) for i in range(4)])
    assert isinstance(parts, DatasetDict)
    assert "test: PairedFineTuningInputsDataset(2 clicked and 0 irrelevant sessions)" in repr(parts)


@pytest.mark.parametrize(("clicked_days", "part"), [((0, 1), "test"), ((4,), "train"), ((), "train")])
def test_a_part_without_a_click_is_rejected_by_name(clicked_days: tuple[int, ...], part: str) -> None:
    sessions = [_session(day, day=day, clicked=day in clicked_days) for day in range(5)]
    with pytest.raises(DataRejected, match=rf"the {part} part has no clicked session among its \d .*by='time'"):
        ClickstreamSplitter(0.2).split(sessions)


@pytest.mark.parametrize("sessions", [[], [_session(0, day=0)]])
@pytest.mark.parametrize("by", ["time", "query", "session"])
def test_too_few_sessions_are_rejected(by: SplitBy, sessions: list[FineTuningInput]) -> None:
    with pytest.raises(DataRejected, match="part has no clicked session"):
        ClickstreamSplitter(by=by).split(sessions)


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_a_share_that_leaves_a_part_empty_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=f"test_share is {share}"):
        ClickstreamSplitter(share)


def test_an_unknown_way_to_split_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="by is 'user'; it must be one of time, query, session"):
        ClickstreamSplitter(by="user")  # type: ignore[arg-type]


_logs = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4), st.booleans(), st.integers(0, 20)), max_size=25)


@given(
    rows=_logs, by=st.sampled_from(["time", "query", "session"]), share=st.floats(0.05, 0.95), seed=st.integers(0, 9)
)
def test_no_session_is_in_both_parts_and_none_is_lost(
    rows: list[tuple[int, int, bool, int]], by: Any, share: float, seed: int
) -> None:
    def log() -> list[FineTuningInput]:
        return [_session(i, day=day, query=f"q {q}", clicked=clicked) for day, q, clicked, i in rows]

    splitter = ClickstreamSplitter(share, by, seed)
    sessions = log()
    try:
        parts = _parts(splitter, sessions)
    except DataRejected:
        return
    train, test = parts["train"], parts["test"]
    train_ids, test_ids = set(_ids(train)), set(_ids(test))
    assert not train_ids & test_ids
    assert len({id(session) for session in [*train, *test]}) == len(train) + len(test)
    lost = [session for session in sessions if all(session is not kept for kept in [*train, *test])]
    assert {session.session_id for session in lost} <= test_ids
    if by == "time":
        older = [*train, *lost]
        assert max(_time(session) for session in older) < min(_time(session) for session in test)
    if by == "query":
        assert not {session.query for session in [*train, *lost]} & {session.query for session in test}
    if by == "session":
        assert len(test) == max(1, min(len(rows) - 1, round(share * len(rows))))

    again = _parts(splitter, log())
    assert {name: _ids(part) for name, part in again.items()} == {name: _ids(part) for name, part in parts.items()}


def _time(session: FineTuningInput) -> datetime:
    assert session.timestamp is not None
    return session.timestamp


def test_the_seed_moves_the_draw() -> None:
    sessions = [_session(i) for i in range(40)]
    tests = {seed: _ids(_parts(ClickstreamSplitter(by="session", seed=seed), sessions)["test"]) for seed in (1, 2)}
    assert tests[1] != tests[2]
    assert len(tests[1]) == len(set(tests[1])) == 8
