"""`FineTuningInput`: a search session as the fine-tuner sees it."""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import count, repeat
from types import MappingProxyType
from typing import TypeVar

from embft.errors import DataRejected
from embft.same_queries import query_identity as query_identity

Value = TypeVar("Value")
Number = TypeVar("Number", int, float)

_UNKNOWN = math.nan  # how an unknown rank lies in a session's array; in a mapping from outside a NaN is refused
_LAST_POSITION = 1_000_000_000


class FineTuningInput:
    """A search session: the query, what was shown, what was clicked, and how near a model found each shown item.

    What is known of each shown item (rank, position, propensity) lies in an array beside the results, and takes no
    memory where unknown: a million sessions with 20 results each stay under 2 GB. A clicked id that is not among the
    results (a click on a recommendation, a log without shown lists) counts as shown last: it takes the positions
    after the greatest one given, and propensity 1.0: who clicked it has looked at it, whatever the list above.

    Args:
        session_id: Names the session in messages; unique in the log.
        query: What was searched; a `QueryRetriever` says what of it the model gets.
        events: Ids of the items with an event (clicks), in order.
        results: Ids of the items shown, in order; of an id given twice the first place counts.
        ranks: Item id → similarity (or distance) to the query, None where unknown; ids left out are unknown.
        event_types: One kind per event ("click", "cart"); None where the log has only clicks.
        event_weights: How much of a whole event each counts, in [0, 1], one per event; None where all are whole.
        timestamp: When the session began, with a time zone.
        positions: Place at which each of `results` was shown, from 1, one per result; places may repeat (a grid);
            None means in the order of `results`.
        propensities: Probability that a user looked at each of `results`, in (0, 1], one per result, kept as
            float32; None where unknown.

    Raises:
        DataRejected: A rank is NaN or infinite or of an item that was not shown; a list beside `events` or
            `results` has another length; a weight, position or propensity lies outside its range; the timestamp has
            no time zone.
    """

    __slots__ = (
        "_clicked_for_query",
        "_positions",
        "_propensities",
        "_ranks",
        "event_types",
        "event_weights",
        "events",
        "query",
        "results",
        "session_id",
        "timestamp",
    )

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
        positions: Sequence[int] | None = None,
        propensities: Sequence[float] | None = None,
    ) -> None:
        self.session_id = session_id
        self.query = query
        self.events: tuple[str, ...] = tuple(dict.fromkeys(events))
        self.results: tuple[str, ...] = tuple(dict.fromkeys([*results, *events]))
        self.event_types = self._aligned(event_types, len(events), "event_types")
        self.event_weights = self._aligned(event_weights, len(events), "event_weights")
        self._check_weights()
        if timestamp is not None and timestamp.tzinfo is None:
            raise DataRejected(f"session {session_id!r}: timestamp {timestamp!r} has no time zone; give it in UTC")
        self.timestamp = timestamp
        self._positions = None if positions is None else self._checked_positions(positions, results)
        self._propensities = None if propensities is None else self._checked_propensities(propensities, results)
        self._clicked_for_query: frozenset[str] | None = None
        self._ranks: array[float] | None = None
        if ranks:
            self.ranks = ranks

    def _aligned(self, values: Sequence[Value] | None, n_events: int, name: str) -> tuple[Value, ...] | None:
        if values is not None and (len(values) != n_events or len(values) != len(self.events)):
            raise DataRejected(
                f"session {self.session_id!r}: {len(values)} {name} for {n_events} events "
                f"({len(self.events)} distinct); there must be one for each distinct event"
            )
        return None if values is None else tuple(values)

    def _check_weights(self) -> None:
        if bad := [weight for weight in self.event_weights or () if weight is None or not 0 <= weight <= 1]:
            raise DataRejected(
                f"session {self.session_id!r}: event weight {bad[0]}; a weight is in [0, 1], the share of a whole "
                "event that counts: divide the weights by the greatest one"
            )

    def _checked_positions(self, positions: Sequence[int], results: Sequence[str]) -> array[int]:
        self._check_length(positions, results, "positions")
        if bad := [place for place in positions if not _is_position(place)]:
            raise DataRejected(
                f"session {self.session_id!r}: position {bad[0]}; a position is a whole number from 1 to "
                f"{_LAST_POSITION}: count from 1 over all pages, or give None for the order of the results"
            )
        kept = array("i", [int(place) for place in positions])
        return _aligned_to_shown(kept, results, self.results, count(max(kept, default=0) + 1))

    def _checked_propensities(self, propensities: Sequence[float], results: Sequence[str]) -> array[float]:
        self._check_length(propensities, results, "propensities")
        kept = array("f", [_UNKNOWN if chance is None else chance for chance in propensities])
        if bad := [given for given, chance in zip(propensities, kept, strict=True) if not 0 < chance <= 1]:
            raise DataRejected(
                f"session {self.session_id!r}: propensity {bad[0]}; the probability that a user looked at an item is "
                "in (0, 1]: give one for each result, or None for the session where they are unknown"
            )
        return _aligned_to_shown(kept, results, self.results, repeat(1.0))

    def _check_length(self, values: Sequence[object], results: Sequence[str], name: str) -> None:
        if len(values) != len(results):
            raise DataRejected(
                f"session {self.session_id!r}: {len(values)} {name} for {len(results)} results; "
                f"`{name}` is aligned to `results`: give one for each, or None"
            )

    @property
    def ranks(self) -> Mapping[str, float | None]:
        """Item id → rank in the order of `results`, None where unknown. Read-only: assign a whole mapping."""
        values = [_UNKNOWN] * len(self.results) if self._ranks is None else self._ranks
        known = (None if math.isnan(rank) else rank for rank in values)
        return MappingProxyType(dict(zip(self.results, known, strict=True)))

    @ranks.setter
    def ranks(self, ranks: Mapping[str, float | None]) -> None:
        given = [ranks.get(id_) for id_ in self.results]
        if bad := [i for i, rank in enumerate(given) if rank is not None and not math.isfinite(rank)]:
            raise DataRejected(
                f"session {self.session_id!r}: the rank of item {self.results[bad[0]]!r} is {given[bad[0]]}; "
                "a rank is finite, or None where unknown"
            )
        if strangers := ranks.keys() - set(self.results):
            raise DataRejected(
                f"session {self.session_id!r} has ranks of items that were not shown: {sorted(strangers)}"
            )
        self.rank_values = array("d", [_UNKNOWN if rank is None else rank for rank in given])

    @property
    def rank_values(self) -> array[float] | None:
        """Ranks aligned to `results`, float64 [shown], NaN where unknown; None where all are: for arithmetic."""
        return self._ranks

    @rank_values.setter
    def rank_values(self, values: array[float]) -> None:
        self._check_length(values, self.results, "rank_values")
        if any(map(math.isinf, values)):
            raise DataRejected(f"session {self.session_id!r} has an infinite rank; a rank is finite, or NaN: unknown")
        self._ranks = None if all(map(math.isnan, values)) else values

    @property
    def has_all_ranks(self) -> bool:
        """Whether every shown item has a rank."""
        if self._ranks is None:
            return not self.results
        return not any(map(math.isnan, self._ranks))

    @property
    def positions(self) -> array[int] | None:
        """Place of each of `results`, from 1, int32 [shown]; None where they were shown in the order of `results`."""
        return self._positions

    @property
    def propensities(self) -> array[float] | None:
        """Probability that a user looked at each of `results`, float32 [shown]; None where unknown."""
        return self._propensities

    @property
    def clicked_for_query(self) -> frozenset[str]:
        """Ids clicked for the same query anywhere in the log, its own events among them.

        Its own events alone until a `PairedFineTuningInputsDataset` looked at the log. Equal sessions share one set,
        and a session that adds nothing to its events keeps none.

        Raises:
            DataRejected: A set is assigned that lacks one of the session's own events.
        """
        return frozenset(self.events) if self._clicked_for_query is None else self._clicked_for_query

    @clicked_for_query.setter
    def clicked_for_query(self, ids: frozenset[str]) -> None:
        if missing := [id_ for id_ in self.events if id_ not in ids]:
            raise DataRejected(
                f"session {self.session_id!r}: clicked_for_query lacks the session's own events {missing}; "
                "it holds what was clicked for the query anywhere, this session included"
            )
        self._clicked_for_query = None if len(ids) == len(self.events) else ids

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
        """Forget these items: as results, as events, and what is known of them; other items keep their positions."""
        gone = set(ids)
        shown = [i for i, id_ in enumerate(self.results) if id_ not in gone]
        clicked = [i for i, id_ in enumerate(self.events) if id_ not in gone]
        self._ranks = self._ranks and array("d", (self._ranks[i] for i in shown))
        self._positions = self._positions and array("i", (self._positions[i] for i in shown))
        self._propensities = self._propensities and array("f", (self._propensities[i] for i in shown))
        self.event_types = self.event_types and tuple(self.event_types[i] for i in clicked)
        self.event_weights = self.event_weights and tuple(self.event_weights[i] for i in clicked)
        self.results = tuple(self.results[i] for i in shown)
        self.events = tuple(self.events[i] for i in clicked)

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


def _is_position(place: float | None) -> bool:
    return place is not None and 1 <= place <= _LAST_POSITION and place == int(place)


def _aligned_to_shown(
    values: array[Number], results: Sequence[str], shown: tuple[str, ...], of_others: Iterable[Number]
) -> array[Number]:
    """Carry values from the list as given to the ids as shown: an id's first value, and `of_others` for new ids."""
    if shown == tuple(results):
        return values
    given = dict(zip(reversed(results), reversed(values), strict=True))
    others = iter(of_others)
    return array(values.typecode, [given[id_] if id_ in given else next(others) for id_ in shown])
