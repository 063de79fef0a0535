"""The order in which an epoch takes the training sessions: a matter of seed and epoch alone, so it can be resumed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class EpochOrder(Sampler[int]):
    """Every session once in each epoch, shuffled; the order follows from the seed and the epoch's number.

    Args:
        n_sessions: How many there are.
        seed: Of the orders.
    """

    def __init__(self, n_sessions: int, seed: int) -> None:
        self._n_sessions = n_sessions
        self._seed = seed
        self._epoch = 0
        self._skipped = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; a Trainer calls this before each one."""
        if epoch != self._epoch:
            self._epoch, self._skipped = epoch, 0

    def skip(self, epoch: int, n_sessions: int) -> None:
        """Leave out the sessions that an interrupted epoch has already taken, this once.

        Args:
            epoch: The interrupted epoch.
            n_sessions: How many of its sessions were taken.
        """
        self._epoch, self._skipped = epoch, n_sessions

    def __len__(self) -> int:
        """Sessions of a whole epoch, also where some are skipped: a Trainer counts the batches before a resumption."""
        return self._n_sessions

    def __iter__(self) -> Iterator[int]:
        """Indices of the epoch's sessions."""
        chance = torch.Generator().manual_seed(self._seed)
        order = torch.empty(0)
        for _ in range(self._epoch + 1):
            # A DataLoader that shuffles by itself draws this number before each order: where an epoch's last batch is
            # full, a model comes out as it did under one.
            torch.empty((), dtype=torch.int64).random_(generator=chance)
            order = torch.randperm(self._n_sessions, generator=chance)
        yield from order[self._skipped :].tolist()
