"""What a training leaves behind in figures: its validations in order, and how it ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


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
        seconds: Since training began, without the time between an interruption and the resumption.
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
        seconds: Of the whole, validation included; what an interruption cost apart.
        sessions_per_s: Training sessions per second of the whole.
        resumed_at: Optimiser steps that were done where an interrupted training went on; empty where none was.
        out_of_time: Whether its time was over before its end.
        pruned: Whether it was given up as hopeless.
    """

    records: tuple[ValidationRecord, ...]
    best_val_loss: float
    best_step: int
    steps: int
    stopped_early: bool
    seconds: float
    sessions_per_s: float
    resumed_at: tuple[int, ...] = ()
    out_of_time: bool = False
    pruned: bool = False

    @property
    def start_val_loss(self) -> float:
        """Validation loss before training."""
        return self.records[0].val_loss

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, for JSON."""
        return asdict(self) | {"start_val_loss": self.start_val_loss}
