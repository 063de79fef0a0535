"""Where what is told comes from: a model's config, its objects in S3, its history of champions, and the time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property

from embft.config import STAGES, ModelConfig
from embft.monitoring.day import MonitoredDay
from embft.paths import Paths
from embft.promotion.history import History
from embft.results import StageResult
from embft.stages.monitored import monitored_days
from embft.stages.needed import results_at
from embft.storage import Storage


@dataclass(frozen=True)
class Evidence:
    """All that is looked at.

    Args:
        config: Of the model.
        storage: S3.
        paths: Of the model.
        history: Of its champions; None where it cannot be read.
        now: The time of day, with its zone.
    """

    config: ModelConfig
    storage: Storage
    paths: Paths
    history: History | None
    now: datetime

    @property
    def model(self) -> str:
        """The model's name."""
        return self.config.name

    @cached_property
    def today(self) -> date:
        """The day that it is where the model's logs are written."""
        return self.now.astimezone(self.config.zone).date()

    @cached_property
    def days(self) -> list[MonitoredDay]:
        """The monitoring history, the oldest day first."""
        return monitored_days(self.storage, self.paths)

    def results(self, day: date) -> Mapping[str, StageResult | None]:
        """Read what the stages of a night came to; `pull`, which has no result of its own there, is left out."""
        prefixes = {self.paths.stage(day, stage): stage for stage in STAGES if stage != "pull"}
        return {prefixes[it]: result for it, result in results_at(self.storage, prefixes).items()}

    def gate_results(self, days: Iterable[date]) -> dict[date, StageResult]:
        """Read the gate's word on some nights; those that have none are left out."""
        prefixes = {self.paths.stage(day, "gate"): day for day in days}
        found = results_at(self.storage, prefixes)
        return {prefixes[it]: result for it, result in found.items() if result is not None}

    @property
    def serving(self) -> str:
        """Who serves, in a sentence."""
        if self.history is None:
            return "Which version serves could not be read: the history of champions is damaged."
        champion = self.history.champion
        if champion is None:
            return "No version serves yet."
        return f"Version {champion.version}, from the night of {champion.day}, goes on serving."
