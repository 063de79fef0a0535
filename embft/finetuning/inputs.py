"""`FineTuningInput`, a search session as the fine-tuner sees it, and clicked sessions paired with irrelevant ones."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from sys import intern
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from embft.errors import DataRejected

if TYPE_CHECKING:
    import pyarrow as pa

Value = TypeVar("Value")

_UNKNOWN = math.nan  # how an unknown rank lies in a session's array; a NaN given from outside is refused


class FineTuningInput:
    """A search session: the query, what was shown, what was clicked, and how near a model found each shown item.

    Ranks lie in one array beside the results instead of a dict of objects, and a million sessions with a few
    results each stay under 2 GB. A clicked id that is not among the results (a click on a recommendation, a log
    without shown lists) counts as shown last: without that it would have no rank.

    Args:
        session_id: Names the session in messages; unique in the log.
        query: What was searched; a `QueryRetriever` says what of it the model gets.
        events: Ids of the items with an event (clicks), in order.
        results: Ids of the items shown, in order.
        ranks: Item id → similarity (or distance) to the query, None where unknown; ids left out are unknown.
        event_types: One kind per event ("click", "cart"); None where the log has only clicks.
        event_weights: One weight >= 0 per event; None where all count alike.
        timestamp: When the session began, with a time zone.

    Raises:
        DataRejected: A rank is NaN or infinite or of an item that was not shown; a list beside `events` has
            another length; the timestamp has no time zone.
    """

    __slots__ = ("_ranks", "event_types", "event_weights", "events", "query", "results", "session_id", "timestamp")

    def __init__(
        self,
        session_id: str,
        query: str,
        events: Sequence[str],
        results: Sequence[str],
        ranks: Mapping[str, float | None] | None = None,
        event_types: Sequence[str] | None = None,
        event_weights: Sequence[float] | None = None,
        timestamp: datetime | None = None,
    ) -> None:
        self.session_id = session_id
        self.query = query
        self.events: tuple[str, ...] = tuple(dict.fromkeys(events))
        self.results: tuple[str, ...] = tuple(dict.fromkeys([*results, *events]))
        self.event_types = self._aligned(event_types, len(events), "event_types")
        self.event_weights = self._aligned(event_weights, len(events), "event_weights")
        if timestamp is not None and timestamp.tzinfo is None:
            raise DataRejected(f"session {session_id!r}: timestamp {timestamp!r} has no time zone; give it in UTC")
        self.timestamp = timestamp
        self._ranks = array("d")
        self.ranks = ranks or {}

    def _aligned(self, values: Sequence[Value] | None, n_events: int, name: str) -> tuple[Value, ...] | None:
        if values is not None and (len(values) != n_events or len(values) != len(self.events)):
            raise DataRejected(
                f"session {self.session_id!r}: {len(values)} {name} for {n_events} events "
                f"({len(self.events)} distinct); there must be one for each distinct event"
            )
        return None if values is None else tuple(values)

    @property
    def ranks(self) -> Mapping[str, float | None]:
        """Item id → rank in the order of `results`, None where unknown. Read-only: assign a whole mapping."""
        known = (None if math.isnan(rank) else rank for rank in self._ranks)
        return MappingProxyType(dict(zip(self.results, known, strict=True)))

    @ranks.setter
    def ranks(self, ranks: Mapping[str, float | None]) -> None:
        self._ranks = array("d", (self._checked(id_, ranks.get(id_)) for id_ in self.results))
        if strangers := ranks.keys() - set(self.results):
            raise DataRejected(
                f"session {self.session_id!r} has ranks of items that were not shown: {sorted(strangers)}"
            )

    def _checked(self, id_: str, rank: float | None) -> float:
        if rank is None:
            return _UNKNOWN
        if not math.isfinite(rank):
            raise DataRejected(
                f"session {self.session_id!r}: the rank of item {id_!r} is {rank}; "
                "a rank is finite, or None where unknown"
            )
        return float(rank)

    @property
    def rank_values(self) -> array[float]:
        """Ranks aligned to `results`, float64 [shown], NaN where unknown: the cheap form, for arithmetic."""
        return self._ranks

    @property
    def has_all_ranks(self) -> bool:
        """Whether every shown item has a rank."""
        return not any(map(math.isnan, self._ranks))

    @property
    def is_irrelevant(self) -> bool:
        """Whether nothing was clicked."""
        return not self.events

    @property
    def not_events(self) -> list[str]:
        """Ids that were shown and not clicked, in the order shown."""
        clicked = set(self.events)
        return [id_ for id_ in self.results if id_ not in clicked]

    def remove_results(self, ids: Collection[str]) -> None:
        """Forget these items: as results, as events, and their ranks."""
        gone = set(ids)
        kept_ranks = {id_: rank for id_, rank in self.ranks.items() if id_ not in gone}
        kept_events = [i for i, id_ in enumerate(self.events) if id_ not in gone]
        self.results = tuple(id_ for id_ in self.results if id_ not in gone)
        self.event_types = self.event_types and tuple(self.event_types[i] for i in kept_events)
        self.event_weights = self.event_weights and tuple(self.event_weights[i] for i in kept_events)
        self.events = tuple(self.events[i] for i in kept_events)
        self.ranks = kept_ranks

    def __len__(self) -> int:
        """How many items were shown."""
        return len(self.results)

    def __bool__(self) -> bool:
        """Always true: a session without results is still a session, not a missing one."""
        return True

    def __repr__(self) -> str:
        """Name, query and counts, short enough for a log line."""
        return (
            f"FineTuningInput({self.session_id!r}, query={self.query!r}, "
            f"{len(self.events)} clicked of {len(self.results)} shown)"
        )


class PairedFineTuningInputsDataset:
    """Each clicked session, with an irrelevant one beside it; what a `DataLoader` of the fine-tuner reads.

    Partner of clicked session i in epoch e is number (e · clicked + i) modulo irrelevant of a seeded permutation
    of the irrelevant sessions: at any moment, two of them have been used equally often, give or take one.

    Args:
        inputs: Sessions of one split, clicked and irrelevant mixed.
        seed: Of the permutation.

    Raises:
        DataRejected: No session has a click.
    """

    def __init__(self, inputs: Iterable[FineTuningInput], seed: int = 0) -> None:
        self.not_irrelevant: list[FineTuningInput] = []
        self.irrelevant: list[FineTuningInput] = []
        for session in inputs:
            (self.irrelevant if session.is_irrelevant else self.not_irrelevant).append(session)
        if not self.not_irrelevant:
            raise DataRejected(
                f"none of {len(self.irrelevant)} sessions has a click, so there is nothing to learn from; "
                "widen the window of days or look at what the log reader set aside"
            )
        self._order = list(range(len(self.irrelevant)))
        random.Random(seed).shuffle(self._order)
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Go on through the irrelevant sessions where epoch `epoch` - 1 ended."""
        self._epoch = epoch

    def __len__(self) -> int:
        """How many clicked sessions there are."""
        return len(self.not_irrelevant)

    def __getitem__(self, index: int) -> tuple[FineTuningInput, FineTuningInput | None]:
        """A clicked session and its partner; None where the log has no irrelevant session."""
        clicked = self.not_irrelevant[index]
        if not self._order:
            return clicked, None
        turn = (self._epoch * len(self) + index % len(self)) % len(self._order)
        return clicked, self.irrelevant[self._order[turn]]

    def __iter__(self) -> Iterator[tuple[FineTuningInput, FineTuningInput | None]]:
        """Pairs in the order of the clicked sessions."""
        return (self[index] for index in range(len(self)))


def inputs_schema() -> pa.Schema:
    """Columns of a table of sessions; `ranks` is aligned to `results`, null where unknown."""
    import pyarrow as pa

    return pa.schema(
        [
            ("session_id", pa.string()),
            ("query", pa.string()),
            ("time", pa.timestamp("us", tz="UTC")),
            ("results", pa.list_(pa.string())),
            ("clicked", pa.list_(pa.string())),
            ("ranks", pa.list_(pa.float32())),
        ]
    )


def inputs_to_table(inputs: Iterable[FineTuningInput]) -> pa.Table:
    """Write sessions as a table, one row each, in order; event types and weights are not part of it.

    Args:
        inputs: Sessions, clicked and irrelevant mixed.

    Returns:
        Table with the columns of `inputs_schema`.
    """
    import pyarrow as pa

    rows = [
        {
            "session_id": session.session_id,
            "query": session.query,
            "time": session.timestamp and session.timestamp.astimezone(UTC),
            "results": session.results,
            "clicked": session.events,
            "ranks": list(session.ranks.values()),
        }
        for session in inputs
    ]
    return pa.Table.from_pylist(rows, schema=inputs_schema())


def inputs_from_table(table: pa.Table) -> list[FineTuningInput]:
    """Read sessions from a table written by `inputs_to_table`, or one with the same columns.

    Args:
        table: Columns `session_id`, `query`, `results`, `clicked`, and optionally `time` and `ranks`.

    Returns:
        Sessions in the table's order. Equal ids share one string, which is most of what a session weighs.

    Raises:
        DataRejected: A column is missing, or a row breaks a rule of `FineTuningInput`.
    """
    missing = {"session_id", "query", "results", "clicked"} - set(table.column_names)
    if missing:
        raise DataRejected(f"a table of sessions lacks the columns {sorted(missing)}; it has {table.column_names}")
    return [session for batch in table.to_batches(max_chunksize=10_000) for session in _from_batch(batch)]


def _from_batch(batch: pa.RecordBatch) -> Iterator[FineTuningInput]:
    """Sessions of one chunk; chunks bound the plain Python lists that exist at a time.

    Raises:
        DataRejected: A session's ranks are not aligned to its results.
    """
    columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
    unknown: list[None] = [None] * batch.num_rows
    rows = zip(
        columns["session_id"],
        columns["query"],
        columns["results"],
        columns["clicked"],
        columns.get("ranks", unknown),
        columns.get("time", unknown),
        strict=True,
    )
    for session_id, query, results, clicked, ranks, time in rows:
        ids = [intern(id_) for id_ in results or ()]
        if ranks and len(ranks) != len(ids):
            raise DataRejected(
                f"session {session_id!r}: {len(ranks)} ranks for {len(ids)} results; "
                "`ranks` is aligned to `results`, null where unknown, or empty"
            )
        yield FineTuningInput(
            session_id=session_id,
            query=query,
            events=[intern(id_) for id_ in clicked or ()],
            results=ids,
            ranks=dict(zip(ids, ranks, strict=True)) if ranks else None,
            timestamp=time,
        )
