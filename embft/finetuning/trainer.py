"""`fit`: train a fine-tuner under a Lightning Trainer, watch the validation loss, keep the best weights."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.strategies import Strategy
from torch.utils.data import DataLoader

from embft.errors import DataRejected
from embft.finetuning.checkpoints import Checkpoints, CheckpointStore
from embft.finetuning.devices import Layout, check_devices
from embft.finetuning.history import TrainingHistory
from embft.finetuning.limits import Limits
from embft.finetuning.order import EpochOrder
from embft.finetuning.paired import PairedFineTuningInputsDataset
from embft.finetuning.params import FineTuningSettings
from embft.finetuning.recorder import Recorder
from embft.finetuning.sharing import OwnSigterm, SameEverywhere, shared_training
from embft.finetuning.threads import cpu_threads
from embft.finetuning.tuner import EmbeddingsFineTuner


def fit(
    tuner: EmbeddingsFineTuner,
    train: PairedFineTuningInputsDataset,
    validation: PairedFineTuningInputsDataset,
    settings: FineTuningSettings,
    checkpoint_dir: str | Path,
    *,
    patience: int = 2,
    checkpoints: CheckpointStore | None = None,
    checkpoint_each_s: float = 600.0,
    max_seconds: float | None = None,
    is_hopeless: Callable[[float], bool] | None = None,
) -> TrainingHistory:
    """Train until the validation loss stops falling or `num_epochs` are done; the model ends with its best weights.

    Those of the start are among them: a model never ends worse on the validation sessions than it began. Where the
    loss stops being a number, the model gets its best weights so far back before the error is raised.

    Where several processes train together, one per device, call it in each, with the same arguments: they share the
    work of every batch, and the losses are those of one device, but for dropout and the last digits. Process 0 alone
    writes files and tracks measures, and its model alone ends with the best weights; the others keep the last ones.

    On a CPU the same seed, data and settings give identical weights, interrupted or not, and the caller's random state
    is left as it was. On a GPU sums are taken in any order, and two runs differ in the last digits. Nothing is printed
    to stdout.

    Args:
        tuner: Its model is trained in place.
        train: Training sessions.
        validation: The newest part of the training days, cut off by the caller; never the held-out test.
        settings: Epochs, batch size, kept passes, validation interval, seed, precision, devices.
        checkpoint_dir: The best weights so far, those of the start among them, lie here as `best.ckpt`, also when
            training fails.
        patience: Validations without a lower loss after which training stops, >= 1.
        checkpoints: Where an interrupted training of the same tuner, sessions and settings is found, to go on with, and
            where this one is kept; such as `CheckpointFolder("…")`. None: an interrupted training is lost.
        checkpoint_each_s: Longest time between two checkpoints, in seconds.
        max_seconds: Time after which a last validation ends the training; None sets no limit. In several processes,
            all give one or none does, and that of process 0 counts.
        is_hopeless: Validation loss → whether to give the training up; asked after each validation but that before
            training, and as for `max_seconds` in several processes.

    Returns:
        The history.

    Raises:
        ConfigError: Settings that this machine cannot run, a `step_size` or `gamma` out of range, or checkpoints of
            another training.
        DataRejected: The loss is no longer a number, or no training or no validation session has a pair.
        TemporaryError: The process was told to stop (SIGTERM), and `checkpoints` has what was done so far; a GPU that
            the pod was promised is not there; the processes have read other sessions.
    """
    layout = check_devices(settings)
    _check_pairs(tuner, train)
    tuner.model.kept_passes = settings.kept_passes
    folder = Path(checkpoint_dir)
    order = EpochOrder(len(train), settings.seed)
    recorder = Recorder(tuner, train, folder / "best.ckpt")
    newest = checkpoints.newest() if checkpoints else None
    same = SameEverywhere(tuner, [train, validation], settings, newest)
    callbacks = [OwnSigterm(), same, recorder, EarlyStopping("val_loss", patience=patience, check_finite=True)]
    limits = Limits(recorder, max_seconds, is_hopeless)
    if max_seconds is not None or is_hopeless is not None:
        callbacks.append(limits)
    if checkpoints is not None:
        callbacks.append(Checkpoints(checkpoints, checkpoint_each_s, order, settings.batch_size, folder, same.training))
    with (
        _seeded(settings.seed, layout),
        _quiet(),
        cpu_threads(tuner.model.n_cpu_threads),
        shared_training(tuner, layout) as strategy,
    ):
        trainer = _make_trainer(settings, layout, strategy, len(train), checkpoint_dir, callbacks)
        validation_loader = _loader(validation, settings)
        if newest is None:
            trainer.validate(tuner, validation_loader, verbose=False)
        try:
            trainer.fit(tuner, _loader(train, settings, order), validation_loader, ckpt_path=newest, weights_only=True)
        except DataRejected as error:
            if layout.place.rank > 0:
                raise
            recorder.restore_best()
            raise DataRejected(
                f"{error}; the model has the weights of step {recorder.best.step} again, its best so far, which lie in "
                f"{folder / 'best.ckpt'}"
            ) from error
    if layout.place.rank == 0:
        recorder.restore_best()
    ended = {"out_of_time": limits.is_out_of_time, "pruned": limits.is_pruned}
    return recorder.history(stopped_early=bool(trainer.should_stop) and not any(ended.values()), **ended)


def _check_pairs(tuner: EmbeddingsFineTuner, train: PairedFineTuningInputsDataset) -> None:
    """Refuse sessions in which a click has nothing beside it to learn from, before hours of no step.

    Raises:
        DataRejected: No session has a not-clicked result, and the loss needs one.
    """
    if tuner.loss_func.negatives != "shown" or any(len(it.events) < len(it) for it in train.not_irrelevant):
        return
    if tuner.fine_tuning_params.not_irrelevant_only or not train.irrelevant:
        raise DataRejected(
            f"none of {len(train)} training sessions has a not-clicked result beside its clicks; give shown lists, or "
            "take the loss catalogue_softmax, which compares a click with the catalogue"
        )


def _make_trainer(
    settings: FineTuningSettings,
    layout: Layout,
    strategy: Strategy | str,
    n_train: int,
    checkpoint_dir: str | Path,
    callbacks: list[Callback],
) -> pl.Trainer:
    interval: dict[str, Any] = {}
    if settings.test_each_n_inputs is not None:
        # An interval in batches that may span epochs.
        batches = max(1, round(settings.test_each_n_inputs / settings.batch_size))
        batches = min(batches, settings.num_epochs * -(-n_train // settings.batch_size))
        interval = {"val_check_interval": batches, "check_val_every_n_epoch": None}
    return pl.Trainer(
        accelerator=layout.accelerator,
        devices=layout.n_local,
        num_nodes=layout.n_nodes,
        strategy=strategy,
        use_distributed_sampler=False,  # every process goes over all batches: see `sharing`
        precision=settings.precision,
        max_epochs=settings.num_epochs,
        callbacks=callbacks,
        default_root_dir=checkpoint_dir,
        logger=False,
        enable_checkpointing=False,  # else Lightning keeps one of its own beside ours
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        deterministic="warn",
        **interval,
    )


def _loader(
    dataset: PairedFineTuningInputsDataset, settings: FineTuningSettings, order: EpochOrder | None = None
) -> DataLoader[Any]:
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # it has __len__ and __getitem__, without importing torch for them
        batch_size=settings.batch_size,
        sampler=order,
        # Its own, or each epoch would draw a number from the one that dropout draws from.
        generator=torch.Generator(),
        collate_fn=list,
    )


@contextmanager
def _seeded(seed: int, layout: Layout) -> Iterator[None]:
    """Seed torch, for dropout, which alone draws from it, so that each process may have a seed of its own.

    Put back afterwards are its random state and its choice of algorithms, which a Trainer changes.
    """
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        # Of its own GPU alone: to ask another process's for its state would take memory there.
        with torch.random.fork_rng([layout.place.local_rank] if layout.accelerator == "cuda" else []):
            torch.manual_seed(seed + layout.place.rank)
            yield
    finally:
        torch.use_deterministic_algorithms(was_deterministic, warn_only=warn_only)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what Lightning says about machines, data loaders and its makers that is no news here."""
    lightning = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [it.level for it in lightning]
    for it in lightning:
        it.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
            warnings.filterwarnings("ignore", message=".*number of training batches.*")
            warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # all processes have the same values
            warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
            # Its loader takes the epoch's order up where it was left, by another way than Lightning's own.
            warnings.filterwarnings("ignore", message=".*resuming from a checkpoint that ended before the epoch.*")
            yield
    finally:
        for it, level in zip(lightning, levels, strict=True):
            it.setLevel(level)
