"""The callback that follows a training: notes every validation and keeps the best weights."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from embft.finetuning.history import TrainingHistory, ValidationRecord
from embft.finetuning.paired import PairedFineTuningInputsDataset
from embft.finetuning.tuner import EmbeddingsFineTuner

logger = logging.getLogger(__name__)


class Recorder(Callback):  # type: ignore[misc]  # Lightning is untyped here
    """Notes every validation, keeps the best weights, and hands the epoch on to the pairing of sessions.

    Its state, with the best weights in it, is part of a checkpoint.

    Args:
        tuner: Begun anew.
        train: Training sessions.
        best_path: Where the best weights so far lie.
    """

    def __init__(self, tuner: EmbeddingsFineTuner, train: PairedFineTuningInputsDataset, best_path: Path) -> None:
        self.records: list[ValidationRecord] = []
        self.sessions = 0
        self.resumed_at: list[int] = []
        self._tuner = tuner
        self._train = train
        self._best_path = best_path
        self._began = time.perf_counter()
        tuner.train_measures.reset()
        tuner.steps_done = 0

    @property
    def best(self) -> ValidationRecord:
        """Record of the lowest validation loss, the earliest where some tie."""
        return min(self.records, key=lambda record: record.val_loss)

    @property
    def steps(self) -> int:
        """Optimiser steps done."""
        return self._tuner.steps_done

    @property
    def seconds(self) -> float:
        """Time spent on the training, that before an interruption included."""
        return time.perf_counter() - self._began

    def history(self, *, stopped_early: bool, out_of_time: bool = False, pruned: bool = False) -> TrainingHistory:
        """Sum the training up.

        Args:
            stopped_early: Whether the validation loss had stopped falling before the last epoch.
            out_of_time: Whether its time was over before that.
            pruned: Whether it was given up as hopeless.

        Returns:
            The history.
        """
        seconds, best = self.seconds, self.best
        return TrainingHistory(
            records=tuple(self.records),
            best_val_loss=best.val_loss,
            best_step=best.step,
            steps=self._tuner.steps_done,
            stopped_early=stopped_early,
            seconds=seconds,
            sessions_per_s=self.sessions / seconds,
            resumed_at=tuple(self.resumed_at),
            out_of_time=out_of_time,
            pruned=pruned,
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take up an interrupted epoch, whose start a Trainer does not announce a second time."""
        if self.resumed_at:
            self._train.set_epoch(trainer.current_epoch)
            pl_module.on_train_epoch_start()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the epoch's pairs of sessions differ from those of the epoch before."""
        self._train.set_epoch(trainer.current_epoch)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the sessions."""
        self.sessions += len(batch)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note what was found, and keep the weights if none were better."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val_")}
        record = ValidationRecord(
            epoch=trainer.current_epoch if self.records else -1,
            step=self._tuner.steps_done,
            val_loss=metrics.pop("val_loss"),
            train_loss=self._tuner.train_measures.means().get("loss"),
            metrics=metrics,
            seconds=self.seconds,
        )
        self._tuner.train_measures.reset()
        self.records.append(record)
        # Asked of the first process, for all of them must save together, and on GPUs their last digits may differ.
        if trainer.strategy.broadcast(record is self.best):
            trainer.save_checkpoint(self._best_path, weights_only=True)
        logger.info("step %d: val_loss %.4f, train_loss %s", record.step, record.val_loss, record.train_loss)

    def restore_best(self) -> None:
        """Give the model its best weights so far."""
        self._tuner.load_state_dict(_weights(self._best_path))

    def state_dict(self) -> dict[str, Any]:
        """Everything noted so far and the best weights, as plain values and tensors."""
        return {
            "records": [asdict(record) for record in self.records],
            "sessions": self.sessions,
            "seconds": self.seconds,
            "resumed_at": list(self.resumed_at),
            "steps_done": self._tuner.steps_done,
            "train_measures": self._tuner.train_measures.state_dict(),
            # The first process alone has them, and writes the checkpoint.
            "best": _weights(self._best_path) if self._tuner.global_rank == 0 else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Args:
            state: Of an interrupted training with the same settings and sessions.
        """
        self.records = [ValidationRecord(**record) for record in state["records"]]
        self.sessions = state["sessions"]
        self._began = time.perf_counter() - state["seconds"]
        self.resumed_at = [*state["resumed_at"], state["steps_done"]]
        self._tuner.steps_done = state["steps_done"]
        self._tuner.train_measures.load_state_dict(state["train_measures"])
        if self._tuner.global_rank == 0:
            self._best_path.parent.mkdir(parents=True, exist_ok=True)
            torch.save({"state_dict": state["best"]}, self._best_path)
        logger.info("training goes on at step %d, where it was interrupted", self._tuner.steps_done)


def _weights(path: Path) -> dict[str, Any]:
    weights: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return weights
