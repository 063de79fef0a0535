"""A batch of sessions laid flat: the shown items of all sessions in a row, distinct queries and items listed once."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embft.errors import ConfigError, DataRejected
from embft.finetuning.evidence import ClickWeights
from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.items import ItemsSet, QueryRetriever
from embft.finetuning.parts import Item, ItemParts

Pair = tuple[FineTuningInput, FineTuningInput | None]
"""A clicked session and the irrelevant one beside it, if any."""


@dataclass(frozen=True)
class FlatBatch:
    """All shown items of a batch, session after session; an entry's irrelevant session follows its clicked one.

    Args:
        query_texts: Distinct query texts.
        item_parts: Distinct items, in parts where the catalogue is split.
        query_rows: Index into `query_texts`, int64 [shown].
        item_columns: Index into the distinct items, int64 [shown].
        clicked: Whether the item was clicked, bool [shown].
        event_weights: How much of a whole event a click counts, in [0, 1], float64 [shown]; 1 where not clicked.
        start_ranks: Ranks from the inputs, float64 [shown], NaN where unknown.
        positions: Place at which the item was shown, from 1 within its session, float64 [shown].
        propensities: Probability that it was looked at, float64 [shown], NaN where unknown.
        session_index: Entry of the batch, int64 [shown], ascending.
        lengths: Items shown in each session, int64 [sessions], irrelevant ones counted on their own.
        n_sessions: Entries of the batch.
        clicked_for_query: Whether an item was clicked for a query anywhere in the log, bool [queries, items]; None
            where it was not asked for.
        candidate_columns: Index of each candidate into the distinct items, int64 [candidates].
        candidate_weight: How many items of the catalogue a candidate stands for.
        certain_columns: As candidate_columns, of what is no draw and stands for itself alone, int64 [certain].
        n_own_parts: How many of `item_parts.parts`, from the first on, are of items that a session shows.
    """

    query_texts: list[str]
    item_parts: ItemParts
    query_rows: NDArray[np.int64]
    item_columns: NDArray[np.int64]
    clicked: NDArray[np.bool_]
    event_weights: NDArray[np.float64]
    start_ranks: NDArray[np.float64]
    positions: NDArray[np.float64]
    propensities: NDArray[np.float64]
    session_index: NDArray[np.int64]
    lengths: NDArray[np.int64]
    n_sessions: int
    clicked_for_query: NDArray[np.bool_] | None
    candidate_columns: NDArray[np.int64]
    candidate_weight: float
    certain_columns: NDArray[np.int64]
    n_own_parts: int


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
    batch: Sequence[Pair],
    items_set: ItemsSet,
    query_retriever: QueryRetriever,
    *,
    with_irrelevant: bool,
    with_clicks_of_log: bool = False,
    candidates: Sequence[Item] = (),
    candidate_weight: float = 1.0,
    certain: Sequence[Item] = (),
    click_weights: ClickWeights | None = None,
) -> FlatBatch:
    """Lay a batch flat.

    Args:
        batch: Pairs of sessions.
        items_set: The items.
        query_retriever: What of a query the model gets.
        with_irrelevant: Whether to take the irrelevant sessions too.
        with_clicks_of_log: Whether to mark what was clicked for each query anywhere in the log.
        candidates: Further items of the set, listed after those shown.
        candidate_weight: How many items of the catalogue each candidate stands for.
        certain: Further ones that stand for themselves alone.
        click_weights: What a click is worth beside its own weight; None takes all alike.

    Returns:
        The flat batch. Two ids with one item (a text that occurs twice) share one column.

    Raises:
        DataRejected: An item is not in the catalogue; the first of a pair has no click.
    """
    entries, sessions = _sessions(batch, with_irrelevant)
    lengths = np.fromiter(map(len, sessions), np.int64, len(sessions))
    query_code: dict[str, int] = {}
    rows = [query_code.setdefault(query_retriever(session.query), len(query_code)) for session in sessions]

    ids = list(chain.from_iterable(session.results for session in sessions))
    item_code: dict[Item, int] = {}
    distinct = dict.fromkeys(ids)
    try:
        column_of = {id_: item_code.setdefault(items_set[id_], len(item_code)) for id_ in distinct}
    except DataRejected as error:
        stranger = next(it for it in sessions if not all(id_ in items_set for id_ in it.results))
        raise DataRejected(f"session {stranger.session_id!r}: {error}") from None
    n_own_parts = len(items_set.parts(list(item_code)).parts)
    candidate_columns, certain_columns = (
        np.array([item_code.setdefault(item, len(item_code)) for item in further], np.int64)
        for further in (candidates, certain)
    )
    clicked = [id_ in session.events for session in sessions for id_ in session.results]
    return FlatBatch(
        query_texts=list(query_code),
        item_parts=items_set.parts(list(item_code)),
        query_rows=np.repeat(np.array(rows, np.int64), lengths),
        item_columns=np.fromiter(map(column_of.__getitem__, ids), np.int64, len(ids)),
        clicked=np.array(clicked, np.bool_),
        event_weights=_joined([_weights(session, click_weights) for session in sessions], lengths, 1.0),
        start_ranks=_joined([session.rank_values for session in sessions], lengths, np.nan),
        positions=_positions(sessions, lengths),
        propensities=_joined([session.propensities for session in sessions], lengths, np.nan),
        session_index=np.repeat(np.array(entries, np.int64), lengths),
        lengths=lengths,
        n_sessions=len(batch),
        clicked_for_query=_clicked_for_query(sessions, rows, items_set, item_code) if with_clicks_of_log else None,
        candidate_columns=candidate_columns,
        candidate_weight=candidate_weight,
        certain_columns=certain_columns,
        n_own_parts=n_own_parts,
    )


def _joined(
    values: Sequence[array[Any] | NDArray[Any] | None], lengths: NDArray[np.int64], default: float
) -> NDArray[np.float64]:
    """Values of all sessions in one array, float64 [shown]; the default where a session has none."""
    if all(it is None for it in values):
        return np.full(lengths.sum(), default)
    of_session = zip(values, lengths.tolist(), strict=True)
    return np.concatenate([np.full(n, default) if it is None else np.asarray(it, np.float64) for it, n in of_session])


def _weights(session: FineTuningInput, click_weights: ClickWeights | None) -> NDArray[np.float64] | None:
    weights: Sequence[float] | None = session.event_weights
    if click_weights is not None and session.events:
        told = [1.0] * len(session.events) if weights is None else weights
        weights = [weight * worth for weight, worth in zip(told, click_weights(session), strict=True)]
    if weights is None:
        return None
    weight_of = dict(zip(session.events, weights, strict=True))
    return np.array([weight_of.get(id_, 1.0) for id_ in session.results])


def _positions(sessions: Sequence[FineTuningInput], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Positions of all sessions; the order of the results where a session does not tell them."""
    in_order = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1.0
    told = _joined([session.positions for session in sessions], lengths, np.nan)
    return np.where(np.isnan(told), in_order, told)


def _clicked_for_query(
    sessions: Sequence[FineTuningInput], rows: Sequence[int], items_set: ItemsSet, column_of: Mapping[Item, int]
) -> NDArray[np.bool_]:
    """Mark the items of the batch that were clicked for each query, in the batch or elsewhere in the log."""
    known: dict[int, frozenset[str]] = {}
    for row, session in zip(rows, sessions, strict=True):
        clicked = session.clicked_for_query
        before = known.setdefault(row, clicked)
        if before is not clicked:  # sessions of one query mostly share one set
            known[row] = before | clicked
    marked = np.zeros((len(known), len(column_of)), np.bool_)
    for row, ids in known.items():
        # By the item, not its id: what was clicked may be in the batch under another id with the same text.
        columns = map(column_of.get, map(items_set.get, ids))
        marked[row, [column for column in columns if column is not None]] = True
    return marked


def _sessions(batch: Sequence[Pair], with_irrelevant: bool) -> tuple[list[int], list[FineTuningInput]]:
    """The batch's sessions in order, and the entry that each is of.

    Raises:
        DataRejected: The first of a pair has no click.
    """
    wrong = next((clicked for clicked, _ in batch if not clicked.events), None)
    if wrong is not None:
        raise DataRejected(f"{wrong!r} has no click, but stands first in a pair; see PairedFineTuningInputsDataset")
    if not with_irrelevant:
        return list(range(len(batch))), [clicked for clicked, _ in batch]
    sessions = [(entry, session) for entry, pair in enumerate(batch) for session in pair if session is not None]
    return [entry for entry, _ in sessions], [session for _, session in sessions]
