"""Split by time: train comes before validation, validation before test, and no session is in two of them."""

from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Split:
    """The parts of a window, each in the order of the sessions that were split.

    Args:
        train: What a model learns from.
        validation: What picks the best epoch.
        test: What models are compared on.
        n_repeated: Rows left out, because a later part has a session of the same id.
    """

    train: pa.Table
    validation: pa.Table
    test: pa.Table
    n_repeated: int


def split_by_time(sessions: pa.Table, *, test_from: date, validation_days: int) -> Split:
    """Split a window's sessions by their day.

    Days are counted where there are sessions, so that a missing log day does not leave validation empty. A session id
    that comes in two parts (ids used again on a later day) stays in the later one: the test is then the same however
    far back the window reaches.

    Args:
        sessions: `embft.clickstream.sessions.SCHEMA`.
        test_from: First test day.
        validation_days: Newest days before it that validation takes.

    Returns:
        The parts; each may be empty.
    """
    days = sessions["day"]
    is_test = pc.greater_equal(days, pa.scalar(test_from, pa.date32()))
    before = sorted(day for day in pc.unique(days).to_pylist() if day < test_from)
    held_out = pa.array(before[len(before) - min(validation_days, len(before)) :], pa.date32())
    is_validation = pc.is_in(days, value_set=held_out)
    is_train = pc.invert(pc.or_(is_test, is_validation))

    test = sessions.filter(is_test)
    validation = _without_ids_of(sessions.filter(is_validation), test)
    train = _without_ids_of(_without_ids_of(sessions.filter(is_train), test), validation)
    n_kept = train.num_rows + validation.num_rows + test.num_rows
    return Split(train, validation, test, n_repeated=sessions.num_rows - n_kept)


def unseen_queries(train: pa.Table, test: pa.Table) -> pa.Table:
    """List the queries of test that train has not: what a model knows of them it took from other queries.

    Args:
        train: What a model learns from; validation does not count, for no weight is learned from it.
        test: What models are compared on.

    Returns:
        Column query, distinct and sorted.
    """
    unseen = pc.unique(test["query"].filter(_is_unseen(train, test)))
    return pa.table({"query": unseen.take(pc.sort_indices(unseen))})


def n_unseen_sessions(train: pa.Table, test: pa.Table) -> int:
    """Count the sessions of test with a query that train has not.

    Args:
        train: As for `unseen_queries`.
        test: As for `unseen_queries`.

    Returns:
        The count.
    """
    return pc.sum(_is_unseen(train, test), min_count=0).as_py() or 0


def _is_unseen(train: pa.Table, test: pa.Table) -> pa.ChunkedArray:
    return pc.invert(pc.is_in(test["query"], value_set=train["query"].combine_chunks()))


def _without_ids_of(part: pa.Table, later: pa.Table) -> pa.Table:
    known = later["session_id"].combine_chunks()
    return part.filter(pc.invert(pc.is_in(part["session_id"], value_set=known)))
