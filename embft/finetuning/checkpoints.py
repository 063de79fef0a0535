"""Checkpoints of a training: kept while it runs, so that an interrupted one goes on where it was.

A checkpoint is Lightning's own file, taken between two batches, with all that the next step depends on: weights,
optimisers, schedulers, the place in the epoch's order, every random state, and what was noted so far with the best
weights. It holds plain values and tensors alone and is read with `weights_only`: no code comes out of it.
"""

from __future__ import annotations

import logging
import os
import pickle
import re
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from embft.errors import ConfigError, TemporaryError
from embft.finetuning.order import EpochOrder
from embft.finetuning.tuner import EmbeddingsFineTuner

logger = logging.getLogger(__name__)

KEPT = 2
"""The newest, and the one before it for the case that the newest cannot be read."""

# A training of a minute is begun anew sooner than a checkpoint of it pays.
_LEAST_S = 60.0
# A validation that is under way when the process is told to stop may end within so long, which loses nothing.
_PATIENCE_S = 30.0
_OURS = "embft"
_NAME = re.compile(r"(\d{12})-\S+\.ckpt")


class CheckpointStore(Protocol):
    """Where a training's checkpoints are kept: a folder, or S3."""

    def newest(self) -> Path | None:
        """The newest whole checkpoint as a local file; None where there is none to go on from."""

    def keep(self, path: Path, step: int) -> None:
        """Take over a checkpoint's file, by its optimiser steps. May return before it is safe: see `settle`."""

    def settle(self) -> None:
        """Wait until what was given to `keep` is safe; raise `TemporaryError` where it cannot be."""


class CheckpointFolder:
    """Keeps the last two checkpoints in a folder.

    Args:
        folder: Made where it does not exist.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def newest(self) -> Path | None:
        """The newest checkpoint that can be read; None where there is none."""
        return next((it for it in self._files() if _can_be_read(it)), None)

    def keep(self, path: Path, step: int) -> None:
        """Move a checkpoint's file here, and remove all but the last two."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # The folder may be on another file system, such as a volume that outlives the pod: moved there under another
        # name, then renamed, so that a reader sees a whole file or none.
        moved = self._folder / "moving.ckpt"
        shutil.move(path, moved)
        os.replace(moved, self._folder / f"{step:012d}-steps.ckpt")
        for old in self._files()[KEPT:]:
            old.unlink(missing_ok=True)

    def settle(self) -> None:
        """Nothing to wait for."""

    def _files(self) -> list[Path]:
        return sorted((it for it in self._folder.glob("*.ckpt") if _NAME.fullmatch(it.name)), reverse=True)


class Checkpoints(Callback):  # type: ignore[misc]  # Lightning is untyped here
    """Takes a checkpoint when its time has come, and the last one when the process is told to stop (SIGTERM).

    Args:
        store: Where they are kept.
        each_s: Longest time between two, in seconds. A new epoch begins with one too, unless the last is younger than a
            minute.
        order: The order of the sessions, which a resumption enters in its middle.
        batch_size: Sessions of a batch.
        folder: For the file until the store has it.
        training: Tells trainings apart whose checkpoints do not fit each other.
    """

    def __init__(
        self,
        store: CheckpointStore,
        each_s: float,
        order: EpochOrder,
        batch_size: int,
        folder: Path,
        training: str,
    ) -> None:
        self._store = store
        self._each_s = each_s
        self._order = order
        self._batch_size = batch_size
        self._path = folder / "next.ckpt"
        self._training = training
        self._last = time.monotonic()
        self._told_to_stop_at: float | None = None
        self._random: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the random states back where they were, and listen for SIGTERM."""
        # Only now: a Trainer has put a handler of its own in place, which would end the training without a checkpoint,
        # and it restores the one from before it when it is done.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._told_to_stop)
        if self._random is not None:
            _set_random_state(pl_module, self._random)
        self._last = time.monotonic()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Take a checkpoint if one is due: here the batch before and its validation are over, and nothing has begun.

        Raises:
            TemporaryError: The process was told to stop; what was done is kept.
        """
        stopping = self._told_to_stop_at is not None
        # Every process of a training takes part in a checkpoint, so they must agree.
        if not trainer.strategy.reduce_boolean_decision(stopping or self._is_due(batch_idx), all=False):
            return
        trainer.save_checkpoint(self._path, weights_only=False)
        step = pl_module.steps_done
        if trainer.is_global_zero:
            self._store.keep(self._path, step)
        self._last = time.monotonic()
        if trainer.strategy.reduce_boolean_decision(stopping, all=False):
            self._store.settle()
            raise TemporaryError(
                f"training was told to stop (SIGTERM) after {step} steps; they are kept: run the same command again, "
                "and it goes on from there"
            )

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Break a long validation off, once the process was told to stop.

        Raises:
            TemporaryError: It does not end in time; the last checkpoint is what is left.
        """
        told = self._told_to_stop_at
        if told is not None and time.monotonic() - told > _PATIENCE_S:
            self._store.settle()
            raise TemporaryError(
                f"training was told to stop (SIGTERM) within a validation of more than {_PATIENCE_S:.0f} s; run the "
                "same command again, and it goes on from the last checkpoint"
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave no checkpoint on its way: what comes now replaces them all."""
        try:
            self._store.settle()
        except TemporaryError as error:
            logger.warning("training is over, and its last checkpoint was not kept: %s", error)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what Lightning does not know of; called where a checkpoint is taken, at the start of a batch."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for count in (progress["total"], progress["current"]):
            count["ready"] = count["started"]  # that batch has not begun
        progress["is_last_batch"] = False
        checkpoint[_OURS] = {
            "training": self._training,
            "epoch": trainer.current_epoch,
            "batches": progress["current"]["completed"],
            "random": _random_state(pl_module),
            "mlflow_run": pl_module.tracker.run_id if pl_module.tracker else None,
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Enter the epoch where it was left; the random states wait until Lightning has drawn from them itself.

        Raises:
            ConfigError: The checkpoint is another training's.
        """
        ours = checkpoint[_OURS]
        if ours["training"] != self._training:
            raise ConfigError(
                "the checkpoints that were given are of a training with other sessions, items or settings, and cannot "
                "be gone on with; give a folder of its own to each training, or empty this one"
            )
        self._order.skip(ours["epoch"], ours["batches"] * self._batch_size)
        self._random = ours["random"]

    def _is_due(self, batch_idx: int) -> bool:
        waited_s = time.monotonic() - self._last
        return waited_s >= self._each_s or (batch_idx == 0 and waited_s >= _LEAST_S)

    def _told_to_stop(self, number: int, frame: object) -> None:
        if self._told_to_stop_at is None:
            self._told_to_stop_at = time.monotonic()
            logger.warning("told to stop (SIGTERM): training stops after this step, with a checkpoint")


def mlflow_run_of(checkpoint: Path) -> str | None:
    """Give the MLflow run that an interrupted training wrote to.

    Args:
        checkpoint: As a store gives it.

    Returns:
        The run's id; None where nothing tracked it.
    """
    # Mapped, not read: the weights stay on the disk.
    run_id: str | None = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)[_OURS]["mlflow_run"]
    return run_id


def _can_be_read(checkpoint: Path) -> bool:
    """Whether a file is a checkpoint; a machine that lost its power leaves half of one, or nothing in it."""
    try:
        torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        problem = str(error).split("\n", 1)[0] or type(error).__name__
        logger.warning("%s cannot be read, so training goes on from the one before it: %s", checkpoint, problem)
        return False
    return True


def _random_state(tuner: EmbeddingsFineTuner) -> dict[str, Any]:
    on_gpu = tuner.device.type == "cuda"
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(tuner.device) if on_gpu else None,
        "draws": tuner.features_extractor.random_state,
    }


def _set_random_state(tuner: EmbeddingsFineTuner, state: dict[str, Any]) -> None:
    tuner.features_extractor.random_state = state["draws"]
    if tuner.global_rank > 0:
        return  # the states of dropout are those of the first process; others must not leave out the same
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and tuner.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], tuner.device)
