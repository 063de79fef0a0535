"""A batch of sessions laid flat: the shown items of all sessions in one row of arrays, distinct texts listed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray

from embft.errors import ConfigError, DataRejected
from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.items import ItemsSet, QueryRetriever

Pair = tuple[FineTuningInput, FineTuningInput | None]
"""A clicked session and the irrelevant one beside it, if any."""


@dataclass(frozen=True)
class FlatBatch:
    """All shown items of a batch, session after session; an entry's irrelevant session follows its clicked one.

    Args:
        query_texts: Distinct query texts.
        item_texts: Distinct item texts.
        query_rows: Index into `query_texts`, int64 [shown].
        item_columns: Index into `item_texts`, int64 [shown].
        clicked: Whether the item was clicked, bool [shown].
        start_ranks: Ranks from the inputs, float64 [shown], NaN where unknown.
        session_index: Entry of the batch, int64 [shown], ascending.
        lengths: Items shown in each session, int64 [sessions], irrelevant ones counted on their own.
        n_sessions: Entries of the batch.
    """

    query_texts: list[str]
    item_texts: list[str]
    query_rows: NDArray[np.int64]
    item_columns: NDArray[np.int64]
    clicked: NDArray[np.bool_]
    start_ranks: NDArray[np.float64]
    session_index: NDArray[np.int64]
    lengths: NDArray[np.int64]
    n_sessions: int


def checked_batch(batch: object) -> list[Pair]:
    """The batch as a list of pairs; a single pair is taken as a batch of one.

    Args:
        batch: A list of (clicked session, irrelevant session or None), or one such tuple.

    Returns:
        The list.

    Raises:
        ConfigError: It is anything else.
    """
    pairs = [batch] if isinstance(batch, tuple) else batch
    if not isinstance(pairs, list) or not pairs:
        raise ConfigError(f"a batch is a non-empty list of pairs of sessions, not {type(batch).__name__} {batch!r:.80}")
    for pair in pairs:
        if not (
            isinstance(pair, tuple)
            and len(pair) == 2
            and isinstance(pair[0], FineTuningInput)
            and isinstance(pair[1], FineTuningInput | None)
        ):
            raise ConfigError(
                f"an entry of a batch is {pair!r:.120}; it must be a tuple (clicked session, irrelevant session "
                "or None): read the sessions through PairedFineTuningInputsDataset"
            )
    return pairs


def flatten(
    batch: Sequence[Pair], items_set: ItemsSet, query_retriever: QueryRetriever, *, with_irrelevant: bool
) -> FlatBatch:
    """Lay a batch flat.

    Args:
        batch: Pairs of sessions.
        items_set: Texts of the items.
        query_retriever: What of a query the model gets.
        with_irrelevant: Whether to take the irrelevant sessions too.

    Returns:
        The flat batch. Two ids with one text share one column.

    Raises:
        DataRejected: An item is not in the catalogue; the first of a pair has no click.
    """
    entries, sessions = _sessions(batch, with_irrelevant)
    lengths = np.fromiter(map(len, sessions), np.int64, len(sessions))
    query_code: dict[str, int] = {}
    rows = [query_code.setdefault(query_retriever(session.query), len(query_code)) for session in sessions]

    ids = list(chain.from_iterable(session.results for session in sessions))
    item_code: dict[str, int] = {}
    column_of = {id_: item_code.setdefault(items_set[id_], len(item_code)) for id_ in dict.fromkeys(ids)}
    clicked = chain.from_iterable(map(set(session.events).__contains__, session.results) for session in sessions)
    start_ranks = [np.frombuffer(session.rank_values, np.float64) for session in sessions if len(session)]
    return FlatBatch(
        query_texts=list(query_code),
        item_texts=list(item_code),
        query_rows=np.repeat(np.array(rows, np.int64), lengths),
        item_columns=np.fromiter((column_of[id_] for id_ in ids), np.int64, len(ids)),
        clicked=np.fromiter(clicked, np.bool_, len(ids)),
        start_ranks=np.concatenate(start_ranks),
        session_index=np.repeat(np.array(entries, np.int64), lengths),
        lengths=lengths,
        n_sessions=len(batch),
    )


def _sessions(batch: Sequence[Pair], with_irrelevant: bool) -> tuple[list[int], list[FineTuningInput]]:
    """The batch's sessions in order, and the entry that each is of.

    Raises:
        DataRejected: The first of a pair has no click.
    """
    entries: list[int] = []
    sessions: list[FineTuningInput] = []
    for entry, (clicked, irrelevant) in enumerate(batch):
        if clicked.is_irrelevant:
            raise DataRejected(
                f"{clicked!r} has no click, but stands first in a pair; see PairedFineTuningInputsDataset"
            )
        both = [clicked, irrelevant] if with_irrelevant and irrelevant is not None else [clicked]
        entries.extend(repeat(entry, len(both)))
        sessions.extend(session for session in both if session is not None)
    return entries, sessions
