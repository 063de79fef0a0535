"""What a click is worth as evidence: a new one more than an old one, the hundredth of its kind less than the first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.params import RepeatedClicks
from embft.same_queries import SameQueries

MOST_BITS = 6.0
"""Most that all clicks of one query on one item weigh together by "log": as much as 63 of them by "count"."""

_DAY_S = 86400.0


class ClickWeights:
    """How much each click of a training set counts, in (0, 1]; for the training alone, never for what is measured.

    A click weighs half for each `half_life_days` that it is older than the newest one. By "log", the n clicks of one
    query on one item share min(6, log2(1 + n)) alike, whenever they were: the first ones tell most, and a bestseller
    is not all that is learned. The weights are looked up, not kept with the sessions, so that trainings with other
    settings may share these.

    Args:
        sessions: Clicked sessions of the training set.
        same_queries: Which queries count as one.
        half_life_days: > 0; None takes all ages alike. A session without a timestamp counts as new.
        repeated_clicks: "count" takes every click as one more.
    """

    def __init__(
        self,
        sessions: Sequence[FineTuningInput],
        same_queries: SameQueries,
        half_life_days: float | None,
        repeated_clicks: RepeatedClicks,
    ) -> None:
        self._key = same_queries.key
        self._half_life_s = half_life_days and half_life_days * _DAY_S
        self._newest = max((it.timestamp for it in sessions if it.timestamp is not None), default=None)
        self._share: dict[tuple[str, str], float] | None = None
        if repeated_clicks == "log":
            counts = Counter(self._clicks(sessions))
            self._share = {pair: min(MOST_BITS, math.log2(1 + count)) / count for pair, count in counts.items()}
        n_clicks = sum(len(it.events) for it in sessions)
        self.mean = sum(sum(self(it)) for it in sessions) / n_clicks
        """Of all clicks of the training set."""

    def __call__(self, session: FineTuningInput) -> list[float]:
        """Weights of a session of the training set, one per event."""
        age = self._of_age(session.timestamp)
        if self._share is None:
            return [age] * len(session.events)
        return [age * self._share[pair] for pair in self._clicks([session])]

    def _of_age(self, timestamp: datetime | None) -> float:
        if self._half_life_s is None or timestamp is None or self._newest is None:
            return 1.0
        return float(0.5 ** ((self._newest - timestamp).total_seconds() / self._half_life_s))

    def _clicks(self, sessions: Iterable[FineTuningInput]) -> Iterator[tuple[str, str]]:
        for session in sessions:
            query = self._key(session.query)
            for id_ in session.events:
                yield query, id_
