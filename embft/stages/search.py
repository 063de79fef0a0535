"""`search`: a helper of `fine_tune` that trains some of a night's trials, in a task of its own beside others.

It writes no result. All helpers and `fine_tune` share the night's trials through MLflow; `fine_tune` goes on with what
a lost helper left, trains what is left of the budget, and keeps the best.
"""

import tempfile
from datetime import date
from pathlib import Path

from pydantic import Field

from embft.errors import ConfigError
from embft.finetuning.processes import is_follower
from embft.finetuning.trials import SearchSummary, Trial
from embft.results import Record
from embft.stages.fine_tune import STAGE
from embft.stages.night_trials import night_trials
from embft.stages.stage import prepare, standing_result


class SearchWork(Record):
    """What a helper did, and how the night's search stands."""

    model: str
    day: date
    worker: int
    is_over: bool = Field(description="Whether `fine_tune` has its result already, so that there was nothing to do.")
    trained: tuple[Trial, ...] = Field((), description="Trials that this call ended, in their order.")
    search: SearchSummary | None = Field(None, description="All trials of the night so far; none where it is over.")


def run(model: str, day: date, *, include: Path, worker: int, force: bool = False) -> SearchWork:
    """Train trials of a night's search until a budget of it is used up.

    Args:
        model: The model's name.
        day: The night's day.
        include: The project's `include` folder.
        worker: Number of the helper, from 0; a later call with the same number goes on with the trial that an
            earlier one had under way.
        force: Train new trials where `fine_tune` has its result already; it has to be forced, too.

    Returns:
        What was done.

    Raises:
        ConfigError: An earlier stage has no result, or the config has no `training.search`.
        DataRejected: An earlier stage rejected the data.
        TemporaryError: S3 or MLflow is away, or the process was told to stop; a later call goes on.
    """
    prepared = prepare(STAGE, model, day, include=include)
    if prepared.run.config.training.search is None:
        raise ConfigError(f"the plan of {model} of {day} has no training.search; `embft fine-tune` alone trains it")
    if is_follower():
        raise ConfigError("several processes were started together, and a helper of a search starts its own: start one")
    if not force and standing_result(prepared.storage, prepared.draft):
        return SearchWork(model=model, day=day, worker=worker, is_over=True)
    with tempfile.TemporaryDirectory(prefix="embft-search-") as folder:
        context = prepared.context(Path(folder), attempt_uri="")
        with night_trials(context, worker) as night:
            night.work()
            trained, summary = tuple(night.ended()), night.summary()
    return SearchWork(model=model, day=day, worker=worker, is_over=False, trained=trained, search=summary)
