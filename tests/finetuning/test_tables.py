from __future__ import annotations

import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embft.errors import DataRejected
from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.tables import inputs_from_table, inputs_schema, inputs_to_table

_ATTRIBUTES = (
    "session_id",
    "query",
    "events",
    "results",
    "ranks",
    "event_types",
    "event_weights",
    "timestamp",
    "positions",
    "propensities",
)


@st.composite
def _sessions(draw: st.DrawFn, optional: bool) -> FineTuningInput:
    def each(values: st.SearchStrategy[Any], count: int) -> list[Any] | None:
        known = optional and draw(st.booleans())
        return draw(st.lists(values, min_size=count, max_size=count)) if known else None

    results = draw(st.lists(st.sampled_from("abcdef"), unique=True))
    events = draw(st.lists(st.sampled_from("abcdefxyz"), unique=True))
    ranks = st.none() | st.floats(-1, 1, width=32)
    return FineTuningInput(
        draw(st.text()),
        draw(st.text()),
        events,
        results,
        ranks=draw(st.none() | st.fixed_dictionaries(dict.fromkeys(results, ranks))),
        event_types=each(st.sampled_from(["click", "cart"]), len(events)),
        event_weights=each(st.floats(0, 1, width=32), len(events)),
        timestamp=draw(st.none() | st.datetimes(datetime(1900, 1, 1), timezones=st.just(UTC))),
        positions=each(st.integers(1, 10**9 - 100), len(results)),
        propensities=each(st.floats(0.0009765625, 1, width=32), len(results)),
    )


@given(st.lists(st.booleans().flatmap(_sessions), max_size=4))
def test_a_table_gives_back_the_sessions_written_to_it(written: list[FineTuningInput]) -> None:
    table = inputs_to_table(written)
    for before, after in zip(written, inputs_from_table(table), strict=True):
        for name in _ATTRIBUTES:
            assert getattr(before, name) == getattr(after, name), name
    for name in ("event_types", "event_weights", "positions", "propensities"):
        assert (name in table.column_names) == any(getattr(session, name) is not None for session in written)


@given(st.lists(_sessions(False), max_size=4))
def test_sessions_without_optional_values_are_written_with_the_six_columns(written: list[FineTuningInput]) -> None:
    table = inputs_to_table(written)
    assert table.schema == inputs_schema()
    assert table.column_names == ["session_id", "query", "time", "results", "clicked", "ranks"]


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


def test_of_an_id_shown_twice_the_first_rank_counts() -> None:
    columns = {"session_id": ["s"], "query": ["red"], "results": [["a", "b", "a"]], "clicked": [["a"]]}
    (session,) = inputs_from_table(pa.table({**columns, "ranks": [[0.5, 0.25, 0.125]]}))
    assert dict(session.ranks) == {"a": 0.5, "b": 0.25}


def test_a_null_in_an_optional_column_is_an_unknown() -> None:
    table = pa.table(
        {
            "session_id": ["s", "t"],
            "query": ["q", "q"],
            "results": [["a"], ["a"]],
            "clicked": pa.array([["a"], None], pa.list_(pa.string())),
            "positions": [[5], None],
            "propensities": [None, [0.5]],
            "event_types": [["cart"], None],
            "event_weights": pa.array([None, None], pa.list_(pa.float32())),
        }
    )
    first, second = inputs_from_table(table)
    assert (list(first.positions or ()), first.propensities, first.event_types) == ([5], None, ("cart",))
    assert (second.positions, list(second.propensities or ()), second.events) == (None, [0.5], ())
    assert first.query is second.query


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("positions", [1], "'s': 1 positions for 2 results"),
        ("positions", [1, 0], "'s': position 0"),
        ("propensities", [1.0, None], "'s': propensity None"),
        ("event_weights", [2.0], "'s': event weight 2.0"),
        ("event_types", [None], "'s': `event_types` is .*no null"),
        ("event_types", ["click", "cart"], "'s': 2 event_types for 1 events"),
        ("results", ["a", None], "'s': `results` is .*no null"),
        ("clicked", [None], "'s': `clicked` is .*no null"),
        ("ranks", [math.inf, 0.5], "'s': the rank of item 'a' is inf"),
        ("ranks", [math.nan, 0.5], "'s': the rank of item 'a' is nan"),
    ],
)
def test_a_row_that_breaks_a_rule_is_refused_by_session(column: str, value: list[Any], message: str) -> None:
    row = {"session_id": "s", "query": "q", "results": ["a", "b"], "clicked": ["a"], column: value}
    with pytest.raises(DataRejected, match=message):
        inputs_from_table(pa.Table.from_pylist([row]))


def test_times_of_any_unit_and_zone_are_read() -> None:
    moment = datetime(2011, 7, 1, 2, 30, tzinfo=UTC)
    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("us", "Europe/Berlin"), pa.timestamp("s", "UTC")):
        table = pa.table({"session_id": ["s"], "query": ["q"], "results": [["a"]], "clicked": [["a"]]})
        table = table.append_column("time", pa.array([moment], kind))
        assert inputs_from_table(table)[0].timestamp == moment


_MEASURE = """
import numpy as np, pyarrow as pa
from embft.finetuning.tables import inputs_from_table

N, SHOWN, ITEMS = 100_000, 10, 20_000

def memory(field):
    line = next(line for line in open("/proc/self/status") if line.startswith(field))
    return int(line.split()[1]) * 1024

chance = np.random.default_rng(0)
ids = pa.array([f"B{i:09d}" for i in range(ITEMS)])
shown = (chance.integers(ITEMS, size=(N, 1)) + np.arange(SHOWN) * 7) % ITEMS
offsets = pa.array(np.arange(0, N * SHOWN + 1, SHOWN, dtype=np.int32))
of_shown = lambda values: pa.ListArray.from_arrays(offsets, pa.array(values))
table = pa.table({
    "session_id": [f"session-{i:09d}" for i in range(N)],
    "query": [f"query number {i % (N // 3)}" for i in range(N)],
    "time": pa.array(1_300_000_000_000_000 + np.arange(N) * 1_000_003, pa.timestamp("us", tz="UTC")),
    "results": pa.ListArray.from_arrays(offsets, ids.take(pa.array(shown.ravel()))),
    "clicked": pa.ListArray.from_arrays(pa.array(np.arange(N + 1, dtype=np.int32)), ids.take(pa.array(shown[:, 3]))),
    "ranks": of_shown(chance.random(N * SHOWN, dtype=np.float32)),
    "positions": of_shown(np.tile(np.arange(1, SHOWN + 1, dtype=np.int32), N)),
    "propensities": of_shown(chance.uniform(0.1, 1, N * SHOWN).astype(np.float32)),
})
inputs_from_table(table.slice(0, 10))
open("/proc/self/clear_refs", "w").write("5")
before = memory("VmRSS")
inputs = inputs_from_table(table)
print((memory("VmHWM") - before) / len(inputs))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is reset and read the way of Linux")
def test_a_million_sessions_of_ten_results_fit_in_2_gb() -> None:
    done = subprocess.run([sys.executable, "-c", _MEASURE], capture_output=True, text=True, check=True)
    bytes_per_session = float(done.stdout)
    assert 300 < bytes_per_session < 2000
