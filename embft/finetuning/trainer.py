"""`fit`: train a fine-tuner under a Lightning Trainer, watch the validation loss, keep the best weights."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.strategies import Strategy
from torch.utils.data import DataLoader

from embft.errors import DataRejected
from embft.finetuning.devices import Layout, check_devices
from embft.finetuning.paired import PairedFineTuningInputsDataset
from embft.finetuning.params import FineTuningSettings
from embft.finetuning.sharing import SameEverywhere, shared_training
from embft.finetuning.threads import cpu_threads
from embft.finetuning.tuner import EmbeddingsFineTuner

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ValidationRecord:
    """One validation during training.

    Args:
        epoch: From 0; -1 is the validation before training.
        step: Optimiser steps done.
        val_loss: Mean loss over the validation sessions.
        train_loss: Mean loss of the training batches since the record before, each weighing by its sessions; within
            a batch it weighs clicks alike, where `val_loss` weighs sessions alike. None before training.
        metrics: Further validation measures, by name.
        seconds: Since `fit` began.
    """

    epoch: int
    step: int
    val_loss: float
    train_loss: float | None
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class TrainingHistory:
    """How a training went.

    Args:
        records: Validations in order; the first one is before training.
        best_val_loss: Of the weights that the model now has.
        best_step: Optimiser steps after which it had them.
        steps: Optimiser steps done in all.
        stopped_early: Whether the validation loss had stopped falling before `num_epochs`.
        seconds: Of the whole, validation included.
        sessions_per_s: Training sessions per second of the whole.
    """

    records: tuple[ValidationRecord, ...]
    best_val_loss: float
    best_step: int
    steps: int
    stopped_early: bool
    seconds: float
    sessions_per_s: float

    @property
    def start_val_loss(self) -> float:
        """Validation loss before training."""
        return self.records[0].val_loss

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, for JSON."""
        return asdict(self) | {"start_val_loss": self.start_val_loss, "records": [asdict(r) for r in self.records]}


def fit(
    tuner: EmbeddingsFineTuner,
    train: PairedFineTuningInputsDataset,
    validation: PairedFineTuningInputsDataset,
    settings: FineTuningSettings,
    checkpoint_dir: str | Path,
    *,
    patience: int = 2,
) -> TrainingHistory:
    """Train until the validation loss stops falling or `num_epochs` are done; the model ends with its best weights.

    Those of the start are among them: a model never ends worse on the validation sessions than it began. Where the
    loss stops being a number, the model gets its best weights so far back before the error is raised.

    Where several processes train together, one per device, call it in each, with the same arguments: they share the
    work of every batch, and the losses are those of one device, but for dropout and the last digits. Process 0 alone
    writes files and tracks measures, and its model alone ends with the best weights; the others keep the last ones.

    On a CPU the same seed, data and settings give identical weights, and the caller's random state is left as it was.
    On a GPU sums are taken in any order, and two runs differ in the last digits. Nothing is printed to stdout.

    Args:
        tuner: Its model is trained in place.
        train: Training sessions.
        validation: The newest part of the training days, cut off by the caller; never the held-out test.
        settings: Epochs, batch size, validation interval, seed, precision, devices.
        checkpoint_dir: The best weights so far, those of the start among them, lie here as `best.ckpt`, also when
            training fails.
        patience: Validations without a lower loss after which training stops, >= 1.

    Returns:
        The history.

    Raises:
        ConfigError: Settings that this machine cannot run, or a `step_size` or `gamma` out of range.
        TemporaryError: A GPU that the pod was promised is not there, or the processes read other sessions.
        DataRejected: The loss is no longer a number, or no training or no validation session has a pair.
    """
    began = time.perf_counter()
    layout = check_devices(settings)
    _check_pairs(tuner, train)
    best_path = Path(checkpoint_dir) / "best.ckpt"
    recorder = _Recorder(tuner, train, best_path, began)
    stopping = EarlyStopping("val_loss", patience=patience, check_finite=True)
    same = SameEverywhere(tuner, [train, validation], settings)
    with (
        _seeded(settings.seed, layout),
        _quiet(),
        cpu_threads(tuner.model.n_cpu_threads),
        shared_training(tuner, layout) as strategy,
    ):
        trainer = _make_trainer(settings, layout, strategy, len(train), checkpoint_dir, [same, recorder, stopping])
        validation_loader = _loader(validation, settings, shuffle=False)
        trainer.validate(tuner, validation_loader, verbose=False)
        try:
            trainer.fit(tuner, _loader(train, settings, shuffle=True), validation_loader)
        except DataRejected as error:
            if layout.place.rank > 0:
                raise
            _restore(tuner, best_path)
            raise DataRejected(
                f"{error}; the model has the weights of step {recorder.best.step} again, its best so far, which lie in "
                f"{best_path}"
            ) from error
    if layout.place.rank == 0:
        _restore(tuner, best_path)

    seconds = time.perf_counter() - began
    best_record = recorder.best
    return TrainingHistory(
        records=tuple(recorder.records),
        best_val_loss=best_record.val_loss,
        best_step=best_record.step,
        steps=tuner.steps_done,
        stopped_early=bool(trainer.should_stop),
        seconds=seconds,
        sessions_per_s=recorder.sessions / seconds,
    )


def _check_pairs(tuner: EmbeddingsFineTuner, train: PairedFineTuningInputsDataset) -> None:
    """Refuse sessions in which a click has nothing beside it to learn from, before hours of no step.

    Raises:
        DataRejected: No session has a not-clicked result, and the loss needs one.
    """
    if tuner.loss_func.negatives == "batch" or any(len(it.events) < len(it) for it in train.not_irrelevant):
        return
    if tuner.fine_tuning_params.not_irrelevant_only or not train.irrelevant:
        raise DataRejected(
            f"none of {len(train)} training sessions has a not-clicked result beside its clicks; give shown lists, or "
            "take the loss in_batch_softmax, which compares the clicks of a batch with each other"
        )


class _Recorder(Callback):  # type: ignore[misc]  # Lightning is untyped here
    """Notes every validation, keeps the best weights, and hands the epoch on to the pairing of sessions."""

    def __init__(
        self, tuner: EmbeddingsFineTuner, train: PairedFineTuningInputsDataset, best_path: Path, began: float
    ) -> None:
        self.records: list[ValidationRecord] = []
        self.sessions = 0
        self._train = train
        self._best_path = best_path
        self._began = began
        tuner.train_measures.reset()
        tuner.steps_done = 0

    @property
    def best(self) -> ValidationRecord:
        """Record of the lowest validation loss, the earliest where some tie."""
        return min(self.records, key=lambda record: record.val_loss)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._train.set_epoch(trainer.current_epoch)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.sessions += len(batch)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, EmbeddingsFineTuner)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val_")}
        record = ValidationRecord(
            epoch=trainer.current_epoch if self.records else -1,
            step=pl_module.steps_done,
            val_loss=metrics.pop("val_loss"),
            train_loss=pl_module.train_measures.means().get("loss"),
            metrics=metrics,
            seconds=time.perf_counter() - self._began,
        )
        pl_module.train_measures.reset()
        self.records.append(record)
        # Asked of the first process, for all of them must save together, and on GPUs their last digits may differ.
        if trainer.strategy.broadcast(record is self.best):
            trainer.save_checkpoint(self._best_path, weights_only=True)
        logger.info("step %d: val_loss %.4f, train_loss %s", record.step, record.val_loss, record.train_loss)


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


def _loader(dataset: PairedFineTuningInputsDataset, settings: FineTuningSettings, *, shuffle: bool) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(settings.seed)
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # it has __len__ and __getitem__, without importing torch for them
        batch_size=settings.batch_size,
        shuffle=shuffle,
        generator=generator,
        collate_fn=list,
    )


def _restore(tuner: EmbeddingsFineTuner, path: Path) -> None:
    tuner.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])


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
            yield
    finally:
        for it, level in zip(lightning, levels, strict=True):
            it.setLevel(level)
