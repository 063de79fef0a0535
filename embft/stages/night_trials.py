"""The trials of one night: trained until a budget is used up, whoever trains them, and the best one found."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embft.errors import DataRejected
from embft.finetuning.trials import SearchSummary, Trial
from embft.search_config import spelled
from embft.stages.candidates import Candidates, TrialParams
from embft.stages.models import tracker_of
from embft.stages.stage import Context
from embft.stages.trial_training import TrialTraining

if TYPE_CHECKING:
    from embft.experiments.manager import ExperimentsManager
    from embft.experiments.study import Told
    from embft.experiments.trials import TrialRun, Trials
    from embft.finetuning.models import EmbeddingsModelInterface

log = logging.getLogger(__name__)

HISTORY = "history.json"


class NightTrials:
    """The trials of a night, as one of those who train them sees them; see `night_trials`.

    Args:
        context: Of `fine_tune`.
        manager: The experiment, whose iteration is open.
        trials: Of the iteration.
        worker: Number of the helper; None for `fine_tune` itself.
    """

    def __init__(self, context: Context, manager: "ExperimentsManager", trials: "Trials", worker: int | None) -> None:
        run = context.run

        def earlier(count: int) -> list[dict[str, Any]]:
            return manager.top_params(count, before=_of_night(context))

        has_champion = run.champion is not None
        self.candidates = Candidates(run.config.training, has_champion=has_champion, earlier=earlier)
        self.training = TrialTraining(context, several=self.candidates.limit > 1)
        self._ended: list[TrialRun] = []
        self._context = context
        self._manager = manager
        self._trials = trials
        self._worker = worker
        self._kept: dict[str, Path] = {}

    def work(self) -> None:
        """Train trials until a budget is used up, or nothing is left to try.

        Raises:
            TemporaryError: MLflow or S3 stays away, or the process was told to stop; a later call goes on.
        """
        self._trials.tidy()
        while (trial := self._trials.unfinished() or self._next()) is not None:
            self._train(trial)

    def best(self) -> "tuple[TrialRun, Path]":
        """Find the best trial and its model; its history lies in the folder too.

        Returns:
            Trial and folder.

        Raises:
            DataRejected: Every trial failed.
            TemporaryError: MLflow or its store of files stays away.
        """
        from embft.experiments.trials import best_of

        while True:
            runs = self._trials.runs()
            best = best_of(runs)
            if best is None:
                raise DataRejected(_all_failed(runs))
            if folder := self._model_of(best):
                return best, folder
            log.warning("the model of the best trial, run %s, is lost: it is trained again", best.run_id)
            self._train(best, is_lost=True)

    def records(self) -> list[Trial]:
        """Give all trials that are over, the earliest begun first."""
        return [self._record(it) for it in self._trials.runs() if it.is_over]

    def ended(self) -> list[Trial]:
        """Give those that this process has ended, in their order."""
        return [self._record(it) for it in self._ended]

    def url_of(self, trial: "TrialRun") -> str | None:
        """Where a person looks at a trial; None where MLflow has no web page."""
        return self._manager.url_of(trial.run_id)

    def close(self, result: str) -> None:
        """Mark the trials as over, so that whoever forces the stage begins anew."""
        from embft.experiments.trials import close

        for trial in self._trials.runs()[:1]:
            close(self._manager, trial.run_id, result)

    def summary(self) -> SearchSummary:
        """Sum the search up as it stands."""
        from embft.experiments.trials import best_of

        runs = self._trials.runs()
        best = best_of(runs)
        return SearchSummary(
            objective="validation loss",
            higher_is_better=False,
            trials=len(runs),
            pruned=sum(it.state == "pruned" for it in runs),
            importances=self.candidates.space.importances(self._told(runs)) if self.candidates.searched else {},
            best=best and best.params_id,
        )

    def _next(self) -> "TrialRun | None":
        """Claim a trial of one's own; None where a budget is used up."""
        while True:
            runs = self._trials.runs()
            left = self._seconds_left(runs)
            if len(runs) >= self.candidates.limit:
                return None
            if runs and left is not None and left <= 0:
                log.info("the time of the search is over after %d of %d trials", len(runs), self.candidates.limit)
                return None
            proposed = self.candidates.next(runs, self._told, self._worker or 0)
            if proposed is None:
                return None
            if claimed := self._trials.claim(*proposed, self.candidates.limit):
                return claimed

    def _seconds_left(self, runs: "list[TrialRun]") -> float | None:
        """Training time that is left: of one's own share, and to `fine_tune` what nobody has used."""
        search = self._context.run.config.training.search
        if search is None:
            return None
        if self._worker is None:
            return 60 * search.minutes * search.trials_in_parallel - sum(it.seconds for it in runs)
        return 60 * search.minutes - sum(it.seconds for it in runs if it.worker == worker_name(self._worker))

    def _train(self, trial: "TrialRun", *, is_lost: bool = False) -> None:
        _ = self.training.sessions  # read before any trial begins: what is wrong with them is no trial's fault
        params = TrialParams.model_validate(trial.params)
        model, runs = self.training.start(params.start_from), self._trials.runs()
        number = 1 + [it.run_id for it in runs].index(trial.run_id)
        name = f"{self._context.run.model} {self._context.run.day}"
        left = self._seconds_left(runs)

        try:
            with self._trials.training(
                trial, f"{name} trial {number}" if self._several else name, self._tags(), self._shown(model, params)
            ) as run_id:
                trained = self.training.lead(
                    model,
                    params,
                    self._manager,
                    max_seconds=None if left is None else max(0.0, left) + trial.seconds,
                    is_hopeless=None if is_lost else self._stopper(runs),
                )
                if trained.history.pruned:
                    self._trials.prune(trained.seconds)
                else:
                    folder = self._context.folder / "kept" / run_id
                    model.save(folder)
                    (folder / HISTORY).write_text(json.dumps(trained.to_dict(), indent=2))
                    self._kept[run_id] = folder
                    self._trials.finish(trained.quality, trained.seconds, folder, keep=self._several)
        except DataRejected as error:
            log.warning("trial %d of %d failed: %s", number, self.candidates.limit, error)
        self._after(run_id, number)
        if self._several:  # else nobody but the checkpoints has what was trained, until the result is in S3
            self.training.forget(params)

    def _after(self, run_id: str, number: int) -> None:
        from embft.experiments.trials import best_of

        self._trials.tidy()
        runs = self._trials.runs()
        best = best_of(runs)
        for other in [it for it in self._kept if best is None or it != best.run_id]:
            shutil.rmtree(self._kept.pop(other))
        for run in runs:
            if run.run_id == run_id:
                self._ended.append(run)
                _tell(self._record(run), number, self.candidates.limit)

    @property
    def _several(self) -> bool:
        return self.candidates.limit > 1

    def _stopper(self, runs: "list[TrialRun]") -> "Callable[[float], bool] | None":
        from embft.experiments.study import stopper

        search = self._context.run.config.training.search
        if search is None:
            return None
        stop = stopper(search.pruner, self._told([it for it in runs if it.is_over]))

        def is_hopeless(loss: float) -> bool:
            # Before a checkpoint can hold this validation: other trials are measured by it.
            self._manager.flush()
            return stop(loss)

        return is_hopeless

    def _told(self, runs: "Sequence[TrialRun]") -> "list[Told]":
        return [self.candidates.told_of(it, self._trials.curve(it) if it.is_over else ()) for it in runs]

    def _model_of(self, trial: "TrialRun") -> Path | None:
        if kept := self._kept.get(trial.run_id):
            return kept
        if not trial.has_model:
            return None
        try:
            return self._manager.download_model(trial.run_id, self._context.folder / "downloads")
        except DataRejected as error:
            log.warning("%s", error)
            return None

    def _record(self, trial: "TrialRun") -> Trial:
        values = {
            name: value if value is None or isinstance(value, int | float | str) else spelled(value)
            for name, value in self.candidates.values_of(trial).items()
        }
        return Trial.model_validate(
            {
                "params_id": trial.params_id,
                "params": values,
                "state": trial.state,
                "quality": trial.quality,
                "seconds": trial.seconds,
                "from": trial.came_from,
                "curve": self._trials.curve(trial),
                "mlflow_run_id": trial.run_id,
            }
        )

    def _tags(self) -> dict[str, str]:
        run = self._context.run
        return {
            "embft.model": run.model,
            "embft.day": run.day.isoformat(),
            "embft.attempt": self._context.attempt_uri,
            "embft.synthetic": str(run.config.synthetic).lower(),
        }

    def _shown(self, model: "EmbeddingsModelInterface", params: TrialParams) -> dict[str, object]:
        from embft.finetuning.optimizers import learning_rates
        from embft.finetuning.registry import make_loss

        settings = self.training.settings
        margin = make_loss(settings.loss_func).suggested_margin if params.margin is None else params.margin
        return {
            "base_model": self._context.run.config.training.base_model,
            **params.model_dump(mode="json"),
            **learning_rates(model, params),
            "margin": margin,
            **settings.model_dump(mode="json"),
            "params_id": params.id,
        }


@contextmanager
def night_trials(context: Context, worker: int | None = None) -> Iterator[NightTrials]:
    """Open the trials of a night, in the block.

    They are an iteration of the experiment, of the same name for the same inputs, settings and code. Where the result
    of such a search was kept already, and the stage is forced, it is a new one.

    Args:
        context: Of `fine_tune`.
        worker: Number of a helper; None for `fine_tune` itself, which goes on with what helpers have left.

    Yields:
        The trials.
    """
    from embft.experiments.trials import Trials

    manager, inputs = tracker_of(context), f"{_of_night(context)} {context.fingerprint[:12]}"
    name, takes_over = "fine_tune" if worker is None else worker_name(worker), worker is None
    with manager.patient():
        for number in count(1):
            iteration = inputs if number == 1 else f"{inputs} {number}"
            trials = Trials(manager, iteration, name, takes_over=takes_over)
            if not any(it.result for it in trials.runs()):
                break
        with manager.iteration(iteration):
            yield NightTrials(context, manager, trials, worker)


def _of_night(context: Context) -> str:
    """Begin the name of an iteration: several models may have one experiment, and each has nights of its own."""
    return f"{context.run.model} {context.run.day}"


def worker_name(number: int) -> str:
    """Spell the name by which a helper is known in MLflow."""
    return f"search {number}"


def _all_failed(runs: "list[TrialRun]") -> str:
    reasons = list(dict.fromkeys(it.why or "for no known reason" for it in runs if it.state == "failed"))
    if len(runs) == 1:
        return reasons[0]
    more = f"; and {len(reasons) - 3} other reasons" if len(reasons) > 3 else ""
    return f"all {len(runs)} trials of the night failed: {'; '.join(reasons[:3])}{more}"


def _tell(record: Trial, number: int, of: int) -> None:
    tried = ", ".join(f"{name} {value}" for name, value in record.params.items())
    outcome = record.state if record.quality is None else f"validation loss {record.quality:.4f}"
    log.info("trial %d of %d (%s): %s after %.0f s", number, of, tried or "the config's", outcome, record.seconds)
