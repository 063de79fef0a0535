"""`search`: a helper of `fine_tune` that trains some of a night's trials, in a task of its own beside others.

It writes no result. All helpers and `fine_tune` share the night's trials through MLflow; `fine_tune` goes on with what
a lost helper left, trains what is left of the budget, and keeps the best.
"""

from datetime import date
from pathlib import Path

from embft.finetuning.trials import SearchSummary, Trial
from embft.results import Record


class SearchWork(Record):
    """What a helper did, and how the night's search stands."""

    model: str
    day: date
    worker: int
    is_over: bool
    """Whether `fine_tune` has its result already, so that there was nothing to do."""
    trained: tuple[Trial, ...]
    """Trials that this call ended, in their order."""
    search: SearchSummary | None
    """All trials of the night so far; None where `is_over`."""


def run(model: str, day: date, *, include: Path, worker: int) -> SearchWork:
    """Train trials of a night's search until a budget of it is used up.

    Args:
        model: The model's name.
        day: The night's day.
        include: The project's `include` folder.
        worker: Number of the helper, from 0; a later call with the same number goes on with the trial that an
            earlier one had under way.

    Returns:
        What was done.

    Raises:
        ConfigError: An earlier stage has no result, or the config has no `training.search`.
        DataRejected: An earlier stage rejected the data.
        TemporaryError: S3 or MLflow is away, or the process was told to stop; a later call goes on.
    """
    raise NotImplementedError
