"""`fine_tune`: train the challenger under a Lightning Trainer, tracked in MLflow: the best of a night's trials.

A night without a search is one trial, or two where both the champion and the base model may be started from.

On several devices each has a process of its own. Process 0, the leader, does what is done on one device; the others,
its followers, run this stage too, up to the end of one trial, and leave nothing behind.
"""

import json
import logging
import shutil
from datetime import UTC, datetime
from functools import partial
from typing import Any

from embft.errors import EXIT_OK, DataRejected, EmbftError
from embft.finetuning.processes import is_follower, stay_with_leader
from embft.finetuning.trials import TRIALS, write_trials
from embft.paths import Paths
from embft.results import RunSpec, StageResult
from embft.stages.models import experiment_of
from embft.stages.night_trials import HISTORY, NightTrials, night_trials
from embft.stages.retention import KEEP_CHECKPOINTS
from embft.stages.stage import Context, Outcome, Stage, files_below, run_stage

log = logging.getLogger(__name__)


def _work(context: Context) -> Outcome:
    from embft.stages.trial_training import follow

    stay_with_leader()
    if is_follower():
        follow(context)
        raise SystemExit(EXIT_OK)  # what was trained is the leader's to keep and to tell
    with night_trials(context) as night:
        night.work()
        try:
            return _outcome(context, night)
        except DataRejected:
            night.close("none")  # whoever runs the stage again wants it tried again
            raise


def _outcome(context: Context, night: NightTrials) -> Outcome:
    best, folder = night.best()
    history_path = context.folder / HISTORY
    shutil.move(folder / HISTORY, history_path)
    history = json.loads(history_path.read_bytes())
    files = {**files_below(folder, "model"), HISTORY: history_path}
    figures: dict[str, Any] = {
        "started_from": best.params["start_from"],
        "train_sessions": len(night.training.sessions.train),
        "validation_sessions": len(night.training.sessions.validation),
        **{name: history[name] for name in ("start_val_loss", "best_val_loss", "best_step", "steps")},
        **{name: history[name] for name in ("new_share", "mixtures")},
        "resumed_at_steps": history["resumed_at"],
        "training_s": round(history["seconds"], 2),
        "sessions_per_s": round(history["sessions_per_s"], 1),
        "mlflow_run_id": best.run_id,
    }
    if night.candidates.limit > 1:
        files[TRIALS] = context.folder / TRIALS
        write_trials(files[TRIALS], night.records())
        figures["search"] = night.summary().model_dump(mode="json")
    url = night.url_of(best)
    return Outcome(files=files, figures=figures, links={"MLflow run": url} if url else {})


def _settings(run: RunSpec) -> Any:
    training = run.config.training
    # How many train trials at once changes neither which may be tried nor which is kept: those trained stay of use.
    settings = training.model_dump(mode="json", exclude={"search": {"trials_in_parallel"}})
    # After a move to another MLflow the run that the model would be registered under is not there: train again.
    return [
        settings,
        run.base_model_sha256,
        run.champion if training.start_from != "base" else None,
        run.config.mlflow.tracking_uri,
        [run.config.judgements.position_bias, run.config.judgements.max_click_weight],
    ]


def _put_away(run: RunSpec, paths: Paths, result: StageResult) -> None:
    """Let MLflow keep no copy of the model: S3 has it, and where it is promoted, it is logged to MLflow anew."""
    from embft.experiments.trials import close, remove_old_weights

    manager = experiment_of(run.config, paths)
    try:
        with manager.patient():  # without the mark, whoever forces the stage is given the same trials again
            close(manager, result.figures["mlflow_run_id"], result.uri)
            remove_old_weights(manager, datetime.now(UTC) - KEEP_CHECKPOINTS)
    except EmbftError as error:
        log.warning("the result is kept, but MLflow keeps a copy of the model: %s", error)


STAGE = Stage(
    "fine_tune",
    needs=("preprocess_ranks",),
    settings=_settings,
    work=_work,
    # It writes pages and figures alone: nothing of it is trained on, and a page written anew is no reason to train.
    after=("validate_ranks",),
    resumes=True,
    afterwards=_put_away,
)
run = partial(run_stage, STAGE)
