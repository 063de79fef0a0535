"""`fine_tune`: train the challenger under a Lightning Trainer, tracked in MLflow.

On several devices each has a process of its own. Process 0, the leader, does what is done on one device; the others,
its followers, run this stage too, up to the end of the training, and leave nothing behind.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from embft.errors import EXIT_OK
from embft.finetuning.processes import followers, is_follower, stay_with_leader
from embft.results import RunSpec
from embft.stages.models import base_model, champion_model, sessions_of, settings_of, tracker_of, vocabulary
from embft.stages.stage import Context, Outcome, Stage, files_below, run_stage

if TYPE_CHECKING:
    from embft.experiments.manager import ExperimentsManager
    from embft.finetuning.models import EmbeddingsModelInterface


def _work(context: Context) -> Outcome:
    from embft.finetuning.checkpoints import mlflow_run_of
    from embft.finetuning.devices import check_devices
    from embft.finetuning.interpolation import mix_with_base
    from embft.finetuning.paired import PairedFineTuningInputsDataset
    from embft.finetuning.trainer import fit
    from embft.finetuning.tuner import EmbeddingsFineTuner
    from embft.stages.checkpoints import StoredCheckpoints

    run, training, settings = context.run, context.run.config.training, settings_of(context.run)
    layout = check_devices(settings)  # before the first download
    stay_with_leader()
    items_set, retriever = vocabulary(pq.read_table(context.fetch("preprocess_ranks", "items/items.parquet")))
    train_sessions, seed = sessions_of(context, "train"), settings.seed
    train = PairedFineTuningInputsDataset(train_sessions, seed)
    validation = PairedFineTuningInputsDataset(sessions_of(context, "validation"), seed, clicks_of=train_sessions)
    champion = champion_model(context) if training.start_from == "champion" else None
    model = champion or base_model(context)

    checkpoints = StoredCheckpoints(context.storage, context.checkpoints_uri, context.folder / "stored")
    newest = checkpoints.newest()
    resumed, items_sets = mlflow_run_of(newest) if newest else None, {"train": items_set, "test": items_set}
    with _tracked(context, model, resumed) as tracker, followers(_command(run), layout.n_to_start, context.folder):
        tuner = EmbeddingsFineTuner.create(model, settings, items_sets, retriever, training.params, tracker)
        history = fit(
            tuner,
            train,
            validation,
            settings,
            context.folder / "training",
            checkpoints=checkpoints,
            checkpoint_each_s=60 * run.config.runtime.checkpoint_minutes,
        )
    if tracker is None:
        raise SystemExit(EXIT_OK)  # a follower: what was trained is the leader's to keep and to tell
    mixture = None
    if training.interpolate:
        mixture = mix_with_base(tuner, base_model(context), validation, settings.batch_size)
    model.save(context.folder / "model")
    history_path = context.folder / "history.json"
    history_path.write_text(json.dumps(history.to_dict(), indent=2))
    return Outcome(
        files={**files_below(context.folder / "model", "model"), "history.json": history_path},
        figures={
            "started_from": "champion" if champion else "base",
            "train_sessions": len(train),
            "validation_sessions": len(validation),
            "start_val_loss": history.start_val_loss,
            "best_val_loss": history.best_val_loss,
            "best_step": history.best_step,
            "new_share": mixture.new_share if mixture else None,
            "mixtures": {str(share): loss for share, loss in mixture.losses.items()} if mixture else {},
            "steps": history.steps,
            "resumed_at_steps": list(history.resumed_at),
            "training_s": round(history.seconds, 2),
            "sessions_per_s": round(history.sessions_per_s, 1),
            "mlflow_run_id": tracker.run_id,
        },
        links={"MLflow run": tracker.run_url} if tracker.run_url else {},
    )


@contextmanager
def _tracked(
    context: Context, model: "EmbeddingsModelInterface", resumed: str | None
) -> "Iterator[ExperimentsManager | None]":
    """A run in MLflow, that of the training that is resumed, if any; a follower has none."""
    if is_follower():
        yield None
        return
    run, tracker = context.run, tracker_of(context)
    tags = {
        "embft.model": run.model,
        "embft.day": run.day.isoformat(),
        "embft.attempt": context.attempt_uri,
        "embft.synthetic": str(run.config.synthetic).lower(),
    }
    with tracker.run(f"{run.model} {run.day}", tags=tags, params=_params(context, model), resumed=resumed):
        yield tracker


def _command(run: RunSpec) -> list[str]:
    """What a follower runs. With --force: that there is work to do, the leader has found out."""
    stage = ["fine-tune", "--model", run.model, "--day", run.day.isoformat(), "--force"]
    return [sys.executable, "-m", "embft", *stage]


def _params(context: Context, model: "EmbeddingsModelInterface") -> dict[str, object]:
    from embft.finetuning.optimizers import learning_rates

    training = context.run.config.training
    return {
        "base_model": training.base_model,
        "start_from": training.start_from,
        **training.params.model_dump(mode="json"),
        **learning_rates(model, training.params),
        **settings_of(context.run).model_dump(mode="json"),
        "params_id": training.params.id,
    }


def _settings(run: RunSpec) -> Any:
    training = run.config.training
    # After a move to another MLflow the run that the model would be registered under is not there: train again.
    return [
        training,
        run.base_model_sha256,
        run.champion if training.start_from == "champion" else None,
        run.config.mlflow.tracking_uri,
        [run.config.judgements.position_bias, run.config.judgements.max_click_weight],
    ]


STAGE = Stage(
    "fine_tune",
    needs=("preprocess_ranks",),
    settings=_settings,
    work=_work,
    # It writes pages and figures alone: nothing of it is trained on, and a page written anew is no reason to train.
    after=("validate_ranks",),
    resumes=True,
)
run = partial(run_stage, STAGE)
