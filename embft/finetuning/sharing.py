"""One training in several processes: each encodes a share of every batch, and all see the whole batch's loss.

Every process goes over the same batches. What takes the time, the encoding of the batch's distinct texts, is dealt
out; the vectors are gathered, and each process computes the same loss of the whole batch. So negatives of the batch,
means over clicks and deduplication are those of a single device, whatever the number of processes.
"""

from __future__ import annotations

import hashlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, distributed
from torch.optim import SparseAdam

from embft.errors import ConfigError, TemporaryError
from embft.finetuning.devices import Layout
from embft.finetuning.paired import PairedFineTuningInputsDataset
from embft.finetuning.params import FineTuningSettings
from embft.finetuning.tuner import EmbeddingsFineTuner

# The leader alone talks to S3 and MLflow, and waits for them for minutes, while the others wait in a collective.
_TIMEOUT = timedelta(minutes=10)


def encode_shared(encode: Callable[[Sequence[Any]], Tensor], inputs: Sequence[Any]) -> Tensor:
    """Encode inputs, each process a share of them; to be called with the same inputs in all.

    Shares are of one size, the last input standing in where there are too few, so that a batch with fewer inputs than
    processes is no special case.

    Args:
        encode: Inputs → vectors with gradients, float [inputs, dim].
        inputs: At least one.

    Returns:
        All vectors, in the inputs' order, float [inputs, dim]; the same in every process.
    """
    rank, n_processes = distributed.get_rank(), distributed.get_world_size()
    share = list(inputs[rank::n_processes])
    n_share = -(-len(inputs) // n_processes)
    own = encode(share + [inputs[-1]] * (n_share - len(share)))
    gathered: Tensor = _Gathered.apply(own)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    # Input i is number i // processes of process i % processes.
    return gathered.transpose(0, 1).flatten(0, 1)[: len(inputs)]


class _Gathered(torch.autograd.Function):
    """The vectors of all processes, [processes, share, dim]; the gradient goes back to the own ones."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        gathered = own.new_empty((distributed.get_world_size(), *own.shape))
        distributed.all_gather(list(gathered.unbind()), own.contiguous())
        return gathered

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # DDP takes the mean of the processes' gradients, of which each is that of its own share: the sum is meant.
        return gradients[0][distributed.get_rank()] * distributed.get_world_size()


@contextmanager
def shared_training(tuner: EmbeddingsFineTuner, layout: Layout) -> Iterator[DDPStrategy | str]:
    """Let a fine-tuner share the encoding of its batches in the block, if there are several processes.

    Args:
        tuner: Of this process.
        layout: Where the processes are.

    Yields:
        The strategy for Lightning's Trainer.

    Raises:
        ConfigError: The processes were not started, or the model's gradients are sparse on GPUs.
    """
    if layout.n_to_start:
        raise ConfigError(
            f"devices asks for {layout.n_local} GPUs, and this process is alone: start the script with "
            f"`torchrun --nproc-per-node {layout.n_local}` (`embft fine-tune` starts the others itself), or set "
            "`devices` to 1 in the settings"
        )
    if layout.n_processes == 1:
        yield "auto"
        return
    # Now, not when Lightning asks for them: DDP looks only once, and before that, whether gradients are sparse.
    optimizers, _ = tuner.configure_optimizers()
    if layout.accelerator == "cuda" and any(isinstance(it, SparseAdam) for it in optimizers):
        raise ConfigError(
            f"devices asks for {layout.n_processes} GPUs, and this model's gradients are sparse, which NCCL cannot "
            "add up; such a model trains in minutes on one device: set `devices` to 1 in the settings"
        )
    alone = tuner.features_extractor.encode
    tuner.features_extractor.encode = encode_shared
    is_over = False
    try:
        # Layers that no vector comes from, such as the pooler of a BERT, get no gradient.
        yield DDPStrategy(find_unused_parameters=True, timeout=_TIMEOUT)
        is_over = True
    finally:
        tuner.features_extractor.encode = alone
        # A later training has processes of its own. On GPUs, taking leave after an error might wait for the dead.
        if distributed.is_initialized() and (is_over or layout.accelerator == "cpu"):
            distributed.destroy_process_group()


class OwnSigterm(Callback):  # type: ignore[misc]  # Lightning is untyped here
    """Puts back the handler of SIGTERM that a Trainer has replaced, where several processes train.

    The Trainer's own calls a collective, in whatever step of the training it interrupts; the other processes are in
    another one, and all wait for ever.
    """

    def __init__(self) -> None:
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before the training; within it there may be a better handler, of the callback that takes checkpoints."""
        if trainer.state.fn == "validate":
            self.on_train_start(trainer, pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """At the first moment after the Trainer's own is set."""
        if trainer.world_size > 1 and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)


class SameEverywhere(Callback):  # type: ignore[misc]  # Lightning is untyped here
    """Refuses to train where a process has read other sessions, items or settings than the first.

    `training` tells trainings apart whose checkpoints do not fit each other.

    Args:
        tuner: Its items and parameters count.
        datasets: Sessions of the training and the validation.
        settings: Order and size of the batches count.
        checkpoint: What the training goes on from, if anything; its name counts.
    """

    def __init__(
        self,
        tuner: EmbeddingsFineTuner,
        datasets: Sequence[PairedFineTuningInputsDataset],
        settings: FineTuningSettings,
        checkpoint: Path | None,
    ) -> None:
        order: list[object] = [settings.seed, settings.batch_size, settings.num_epochs, settings.test_each_n_inputs]
        order += [settings.catalogue_candidates]
        order += [settings.step_size, settings.gamma, type(tuner.loss_func).__name__, tuner.fine_tuning_params.id]
        order.append(tuner.objective.id)
        digest = hashlib.sha256(f"{order} {len(tuner.items_sets['train'])}\n".encode())
        for dataset in datasets:
            for session in (*dataset.not_irrelevant, *dataset.irrelevant):
                digest.update(f"{session.session_id} {len(session)}\n".encode())
        self.training = digest.hexdigest()
        self._digest = f"{self.training} {checkpoint and checkpoint.name}"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Compare, before the first batch.

        Args:
            trainer: Tells what the first process has.
            pl_module: Not used.
            stage: Not used.

        Raises:
            TemporaryError: They differ.
        """
        if trainer.strategy.broadcast(self._digest) != self._digest:
            raise TemporaryError(
                f"process {trainer.global_rank} has other sessions, items, settings or checkpoints than process "
                "0; most likely they were written while the processes started: run the stage again"
            )
