"""`PairedFineTuningInputsDataset`: clicked sessions, each with an irrelevant one beside it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from embft.errors import DataRejected
from embft.finetuning.evidence import ClickWeights
from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.params import FineTuningParams
from embft.same_queries import SameQueries


class PairedFineTuningInputsDataset:
    """Each clicked session, with an irrelevant one beside it; what a `DataLoader` of the fine-tuner reads.

    Partner of clicked session i in epoch e is number (e · clicked + i) modulo irrelevant of a seeded permutation
    of the irrelevant sessions: at any moment, two of them have been used equally often, give or take one.

    Each session is told what was clicked for its query anywhere in `inputs` and `clicks_of` (`clicked_for_query`).
    Queries that differ in case, spaces or a slip of the finger are one query there: see `SameQueries`. A session put
    into a second dataset keeps what the second one told it.

    Args:
        inputs: Sessions of one split, clicked and irrelevant mixed.
        seed: Of the permutation.
        clicks_of: Further sessions of the log, whose clicks count but which are not learned from: for a validation
            set those of the training set. For a training set none that are later, or it would learn from the future.

    Raises:
        DataRejected: No session has a click.
    """

    def __init__(
        self, inputs: Iterable[FineTuningInput], seed: int = 0, clicks_of: Iterable[FineTuningInput] = ()
    ) -> None:
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
        self._share_clicks(clicks_of)

    def _share_clicks(self, clicks_of: Iterable[FineTuningInput]) -> None:
        """Tell every session what was clicked for its query; one set serves all sessions of a query."""
        log = [*self.not_irrelevant, *(it for it in clicks_of if not it.is_irrelevant)]
        self.same_queries = SameQueries([it.query for it in log], [it.events for it in log])
        clicks = _Clicks(self.same_queries)
        for session in log:
            clicks.add(session)
        for sessions in (self.not_irrelevant, self.irrelevant):
            for session in sessions:
                session.clicked_for_query = clicks.of(session)

    def click_weights(self, params: FineTuningParams) -> ClickWeights | None:
        """What each click is worth in a training with these parameters; None where all are worth the same."""
        if params.half_life_days is None and params.repeated_clicks == "count":
            return None
        return ClickWeights(self.not_irrelevant, self.same_queries, params.half_life_days, params.repeated_clicks)

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

    def __repr__(self) -> str:
        """Counts only: a `DatasetDict` prints its values."""
        return f"PairedFineTuningInputsDataset({len(self)} clicked and {len(self.irrelevant)} irrelevant sessions)"


class _Clicks:
    """Query → ids clicked for it."""

    def __init__(self, same_queries: SameQueries) -> None:
        self._key = same_queries.key
        # A query's first events stand for its set until others come: most queries of a log are searched once, and a
        # set for each would weigh more than the sessions.
        self._ids: dict[str, tuple[str, ...] | set[str] | frozenset[str]] = {}

    def add(self, session: FineTuningInput) -> None:
        key = self._key(session.query)
        known = self._ids.setdefault(key, session.events)
        if isinstance(known, set):
            known.update(session.events)
        elif not set(known).issuperset(session.events):
            self._ids[key] = {*known, *session.events}

    def of(self, session: FineTuningInput) -> frozenset[str]:
        key = self._key(session.query)
        ids = self._ids.get(key, ())
        if isinstance(ids, tuple) and len(ids) == len(session.events):
            return frozenset(ids)  # the session's own events: it will not keep the set
        if not isinstance(ids, frozenset):
            ids = self._ids[key] = frozenset(ids)
        return ids
