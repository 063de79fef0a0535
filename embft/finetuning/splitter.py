"""`ClickstreamSplitter`: sessions → a training and a test part, with nothing of the test in the training."""

from __future__ import annotations

import logging
import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal, get_args

from embft.errors import ConfigError, DataRejected
from embft.finetuning.inputs import FineTuningInput, query_identity
from embft.finetuning.paired import PairedFineTuningInputsDataset

if TYPE_CHECKING:
    from datasets import DatasetDict

logger = logging.getLogger(__name__)

SplitBy = Literal["time", "query", "session"]


class ClickstreamSplitter:
    """Splits sessions into a training and a test part, the same way for the same sessions, settings and seed.

    Every draw is without replacement, and a session id that comes in both parts stays in the test alone, so that no
    test session is trained on. The training part knows only its own clicks; the test part knows those of both, so
    that what was clicked in training is not taken for a miss.

    Args:
        test_share: Share of the test, in (0, 1): of the sessions, or by query of the distinct queries.
        by: "time": the newest sessions are the test, as a model meets them, and equal timestamps stay together; the
            test is then as near to its share as they allow. "query": no query is in both parts (equal but for case
            and whitespace is the same), which shows how the model does on queries it never saw. "session": by chance.
        seed: Of the draw, and of the pairing in each part.

    Raises:
        ConfigError: `test_share` or `by` is not one of these.
    """

    def __init__(self, test_share: float = 0.2, by: SplitBy = "time", seed: int = 0) -> None:
        if not 0 < test_share < 1:
            raise ConfigError(f"test_share is {test_share}; it must be above 0 and below 1, 0.2 for a fifth")
        if by not in get_args(SplitBy):
            raise ConfigError(f"by is {by!r}; it must be one of {', '.join(get_args(SplitBy))}")
        self.test_share = test_share
        self.by = by
        self.seed = seed

    def split(self, inputs: Iterable[FineTuningInput]) -> DatasetDict:
        """Split sessions.

        Args:
            inputs: Sessions, clicked and irrelevant mixed; the parts keep their order. Each is told what was clicked
                for its query (`clicked_for_query`), in place.

        Returns:
            "train" and "test" → `PairedFineTuningInputsDataset`, what `EmbeddingsFineTuner.preprocess_inputs` takes.
            The mapping's own methods for tables (`map`, `filter`) do not apply to them.

        Raises:
            DataRejected: A part has no clicked session, or by time a session has no timestamp, or all have
                the same.
        """
        from datasets import DatasetDict

        sessions = list(inputs)
        is_test = {"time": self._by_time, "query": self._by_query, "session": self._by_session}[self.by](sessions)
        test = [session for session, chosen in zip(sessions, is_test, strict=True) if chosen]
        test_ids = {session.session_id for session in test}
        older = [session for session, chosen in zip(sessions, is_test, strict=True) if not chosen]
        train = [session for session in older if session.session_id not in test_ids]
        logger.info(
            "split by %s: %d sessions to train on, %d to test on, %d left out of training as their id is in the test",
            self.by,
            len(train),
            len(test),
            len(older) - len(train),
        )
        self._check_clicks("train", train)
        self._check_clicks("test", test)
        return DatasetDict(
            {
                "train": PairedFineTuningInputsDataset(train, self.seed),
                "test": PairedFineTuningInputsDataset(test, self.seed, clicks_of=train),
            }
        )

    def _by_time(self, sessions: Sequence[FineTuningInput]) -> list[bool]:
        times = _timestamps(sessions)
        first = _first_test_moment(sorted(times), self._n_test(len(times)))
        if first is None and len(times) > 1:
            raise DataRejected(
                f"all {len(times)} sessions have the timestamp {times[0].isoformat()}, so none is newer than another; "
                'give the time of each, or use by="session"'
            )
        return [first is not None and time >= first for time in times]

    def _by_query(self, sessions: Sequence[FineTuningInput]) -> list[bool]:
        queries = [query_identity(session.query) for session in sessions]
        distinct = sorted(set(queries))  # sorted: the draw does not move with the order of the log
        chosen = set(random.Random(self.seed).sample(distinct, self._n_test(len(distinct))))
        return [query in chosen for query in queries]

    def _by_session(self, sessions: Sequence[FineTuningInput]) -> list[bool]:
        chosen = set(random.Random(self.seed).sample(range(len(sessions)), self._n_test(len(sessions))))
        return [row in chosen for row in range(len(sessions))]

    def _n_test(self, n: int) -> int:
        """How many of n are the test: at least one, and one less than all at most."""
        return max(0, min(n - 1, max(1, round(self.test_share * n))))

    def _check_clicks(self, name: str, part: Sequence[FineTuningInput]) -> None:
        if all(session.is_irrelevant for session in part):
            others = " or ".join(by for by in get_args(SplitBy) if by != self.by)
            raise DataRejected(
                f"the {name} part has no clicked session among its {len(part)} (by={self.by!r}, "
                f"test_share={self.test_share}, seed={self.seed}): "
                f"{'lower' if name == 'train' else 'raise'} test_share, give more sessions, or split by {others}"
            )


def _timestamps(sessions: Sequence[FineTuningInput]) -> list[datetime]:
    times = [session.timestamp for session in sessions if session.timestamp is not None]
    if len(times) < len(sessions):
        first = next(session for session in sessions if session.timestamp is None)
        raise DataRejected(
            f"{len(sessions) - len(times)} of {len(sessions)} sessions have no timestamp, the first is "
            f'{first.session_id!r}; a split by time needs one of each: give it, or use by="session"'
        )
    return times


def _first_test_moment(times: Sequence[datetime], n_test: int) -> datetime | None:
    """First moment of the test, of sorted times: sessions of one moment go together to where the share fits better."""
    wanted = len(times) - n_test
    if wanted >= len(times):
        return None
    starts = bisect_left(times, times[wanted]), bisect_right(times, times[wanted])
    possible = [start for start in starts if 0 < start < len(times)]
    return times[min(possible, key=lambda start: abs(start - wanted))] if possible else None
