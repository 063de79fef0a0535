"""What becomes of each of a model's objects in S3 when it is pruned. What is not known stays."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import NamedTuple

from embft.config import STAGES, ModelConfig
from embft.paths import Paths
from embft.promotion.history import History
from embft.promotion.old_vectors import old_vectors
from embft.results import StageResult
from embft.stages.needed import UNREADABLE, needed_files, needed_sessions, reference_files, results_at
from embft.stages.retention import KEEP_CHECKPOINTS
from embft.storage import Storage, StoredObject

# A night that runs beside it has written what it needs within a day, or has it in its window.
_YOUNG = timedelta(days=1)
# Longer than messages are sent for. A mark is younger than its message, so that one is too old for long.
_MESSAGES_ARE_SENT_FOR = timedelta(days=30)
_UNKNOWN = "not known to embft"
_ATTEMPTS = "/attempts/"


class Fate(NamedTuple):
    """Whether an object goes, and what it is, or why it stays."""

    goes: bool
    what: str


class Fates:
    """Says of each object below a model's prefix whether it goes.

    Args:
        config: Of the model.
        storage: S3.
        paths: Of the model.
        listed: All objects below its prefix.
        history: Of its champions.
        registered: Days whose model has a version in MLflow.
        now: The time of day, with its zone.
    """

    def __init__(
        self,
        config: ModelConfig,
        storage: Storage,
        paths: Paths,
        listed: Sequence[StoredObject],
        history: History,
        registered: Collection[date],
        now: datetime,
    ) -> None:
        self._config = config
        self._storage = storage
        self._paths = paths
        self._listed = listed
        self._history = history
        self._registered = registered
        self._now = now

    def of(self, it: StoredObject) -> Fate:
        """Say what becomes of an object."""
        if it.uri in self._needed:
            return Fate(False, self._needed[it.uri])
        fate = self._by_place(it)
        return Fate(False, "written in the last 24 hours") if fate.goes and not self._is_older(it, _YOUNG) else fate

    def _by_place(self, it: StoredObject) -> Fate:
        paths = self._paths
        match it.uri[: it.uri.find("/", len(paths.root) + 1)]:
            case paths.runs:
                return self._of_night(it)
            case paths.all_sessions:
                return self._of_sessions(it)
            case paths.all_checkpoints:
                return self._by_age(it, KEEP_CHECKPOINTS, "checkpoints")
            case paths.all_pages:
                return self._by_age(it, timedelta(days=self._config.validation.keep_pages_days), "pages")
            case paths.all_vectors:
                return Fate(it.uri in self._old_vectors, "vectors")
            case paths.all_monitoring:
                return self._of_monitoring(it)
            case paths.all_alerts:
                return self._of_alerts(it)
            case paths.history:
                return Fate(False, "the history of champions")
            case paths.mlflow:
                return Fate(False, "MLflow's own")
        return Fate(False, _UNKNOWN)

    def _by_age(self, it: StoredObject, age: timedelta, what: str) -> Fate:
        return Fate(True, what) if self._is_older(it, age) else Fate(False, f"{what} of the last {age.days} days")

    def _of_night(self, it: StoredObject) -> Fate:
        day, prefix = self._night_of(it), _stage_prefix(it.uri)
        if day is None or prefix not in {self._paths.stage(day, stage) for stage in STAGES}:
            return Fate(False, _UNKNOWN)
        if day not in self._kept_nights:
            return Fate(True, "old nights")
        return self._of_attempt(it, f"nights of the last {self._config.retention.keep_days} days")

    def _of_sessions(self, it: StoredObject) -> Fate:
        if _stage_prefix(it.uri) is None:
            return Fate(False, _UNKNOWN)
        needed = self._needed_sessions
        if needed is None:
            return Fate(False, f"sessions, for the plan of a kept night is {UNREADABLE}")
        if not it.uri.startswith(tuple(f"{prefix}/" for prefix in needed)):
            # Where no night runs, monitoring still does, and tomorrow its window has all these days but one.
            return self._by_age(it, timedelta(days=self._config.window.days), "sessions")
        return self._of_attempt(it, "sessions that kept nights learn from")

    def _of_monitoring(self, it: StoredObject) -> Fate:
        """Results are the history, which is small, and stays; what lies below them is looked into for a while."""
        prefix = _stage_prefix(it.uri)
        if prefix is None:
            return Fate(False, _UNKNOWN)
        age = self._config.retention.keep_days
        fate = self._of_attempt(it, "the history of monitoring")
        if fate.goes or fate.what == UNREADABLE or it.uri == Paths.result(prefix):
            return fate
        return self._by_age(it, timedelta(days=age), "monitored days' files")

    def _of_alerts(self, it: StoredObject) -> Fate:
        """Messages stay. That one was sent is of use while somebody might send it again."""
        if it.uri.startswith((f"{self._paths.all_sent}/", f"{self._paths.all_claims}/")):
            age = max(timedelta(days=self._config.retention.keep_days), _MESSAGES_ARE_SENT_FOR)
            return self._by_age(it, age, "marks of sent messages")
        return Fate(False, "messages")

    def _of_attempt(self, it: StoredObject, stays_as: str) -> Fate:
        prefix, _, rest = it.uri.partition(_ATTEMPTS)
        if not rest or prefix not in self._results:  # no attempt's file
            return Fate(False, stays_as)
        result = self._results[prefix]
        if result is None and Paths.result(prefix) in self._uris:
            return Fate(False, UNREADABLE)
        is_current = result is not None and rest.startswith(f"{result.attempt}/")
        return Fate(False, stays_as) if is_current else Fate(True, "superseded attempts")

    def _night_of(self, it: StoredObject) -> date | None:
        name = it.uri.removeprefix(f"{self._paths.runs}/").partition("/")[0]
        try:
            return date.fromisoformat(name)
        except ValueError:
            return None  # somebody else's object

    def _is_older(self, it: StoredObject, age: timedelta) -> bool:
        return it.modified_utc is not None and it.modified_utc < self._now - age

    @cached_property
    def _uris(self) -> set[str]:
        return {it.uri for it in self._listed}

    @cached_property
    def _nights(self) -> dict[date, list[StoredObject]]:
        nights: dict[date, list[StoredObject]] = defaultdict(list)
        for it in self._listed:
            if it.uri.startswith(f"{self._paths.runs}/") and (day := self._night_of(it)):
                nights[day].append(it)
        return dict(nights)

    @cached_property
    def _kept_nights(self) -> set[date]:
        """Nights of which something was written lately: those of a backfill are new, however old their day."""
        age = timedelta(days=self._config.retention.keep_days)
        return {day for day, objects in self._nights.items() if not all(self._is_older(it, age) for it in objects)}

    @cached_property
    def _needed(self) -> dict[str, str]:
        reference_days = self._config.validation.reference_days
        return {
            **reference_files(self._nights, self._kept_nights, reference_days),
            **needed_files(self._storage, self._paths, self._nights, self._history, self._registered),
        }

    @cached_property
    def _needed_sessions(self) -> set[str] | None:
        return needed_sessions(self._storage, self._paths, self._kept_nights)

    @cached_property
    def _results(self) -> dict[str, StageResult | None]:
        """Results of all that has attempts: of kept nights, of sessions, and of monitored days."""
        shared = (f"{self._paths.all_sessions}/", f"{self._paths.all_monitoring}/")
        areas = (*(f"{self._paths.run(day)}/" for day in self._kept_nights), *shared)
        prefixes = {uri.partition(_ATTEMPTS)[0] for uri in self._uris if uri.startswith(areas) and _ATTEMPTS in uri}
        return results_at(self._storage, prefixes)

    @cached_property
    def _old_vectors(self) -> set[str]:
        paths, keep = self._paths, self._config.publish.keep_previous
        listed = [it for it in self._listed if it.uri.startswith(f"{paths.all_vectors}/")]
        return {it.uri for it in old_vectors(self._storage, paths, listed, self._history, keep, now=self._now)}


def _stage_prefix(uri: str) -> str | None:
    """Give the prefix of the stage that an object is of: its result, or a file of an attempt; None for others."""
    prefix, attempts, _ = uri.partition(_ATTEMPTS)
    if attempts:
        return prefix
    folder = uri.rpartition("/")[0]
    return folder if uri == Paths.result(folder) else None
