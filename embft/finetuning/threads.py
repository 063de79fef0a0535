"""How many CPU threads torch uses for a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Let torch use this many threads in the block; None leaves its choice alone.

    Small operations gain nothing from a second thread, and lose much where another process has the core: each
    operation then waits for the slower half. Measured on 2 cores with the static model, 72 steps of 256 sessions:
    1.1 s with one thread as with two; beside two busy processes 2 to 3 s with one, 7 to 19 s with two.

    Args:
        count: Threads, or None.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
