"""The callback that ends a training before its last epoch: when its time is over, or when it is hopeless."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from embft.finetuning.recorder import Recorder

logger = logging.getLogger(__name__)


class Limits(Callback):  # type: ignore[misc]  # Lightning is untyped here
    """Ends a training early; it then has its best weights so far, as at any other end.

    Where several processes train together, the first one decides.

    Args:
        recorder: Of the training; it comes before this one among the callbacks.
        max_seconds: Time after which a last validation is made, and the training ends; what was trained before an
            interruption counts.
        is_hopeless: Told the validation loss after each validation but that before training, says whether to stop.
    """

    def __init__(
        self, recorder: Recorder, max_seconds: float | None, is_hopeless: Callable[[float], bool] | None
    ) -> None:
        self.is_out_of_time = False
        self.is_pruned = False
        self._recorder = recorder
        self._max_seconds = math.inf if max_seconds is None else max_seconds
        self._is_hopeless = is_hopeless

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell of the validations before an interruption, which decide as they did then."""
        for record in self._recorder.records[1:]:
            self._ask(trainer, record.val_loss)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ask for the last validation where the time is over: Lightning makes it before it stops."""
        is_over = self._recorder.seconds >= self._max_seconds
        if trainer.strategy.reduce_boolean_decision(is_over, all=False):
            self.is_out_of_time = True
            trainer.should_stop = True
            logger.info("step %d: the time is over", self._recorder.steps)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ask whether the training is hopeless."""
        if len(self._recorder.records) > 1:
            self._ask(trainer, self._recorder.records[-1].val_loss)

    def _ask(self, trainer: pl.Trainer, val_loss: float) -> None:
        is_hopeless = self._is_hopeless is not None and self._is_hopeless(val_loss)
        if trainer.strategy.broadcast(is_hopeless):
            self.is_pruned = True
            trainer.should_stop = True
