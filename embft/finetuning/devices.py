"""Which devices a training runs on, checked before anything is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import torch

from embft.errors import ConfigError, TemporaryError
from embft.finetuning.params import FineTuningSettings
from embft.finetuning.processes import Place, this_process

GPUS_VARIABLE = "EMBFT_GPUS"
"""How many GPUs the cluster was asked for, where it was: set in a pod, beside the resource limit."""


@dataclass(frozen=True)
class Layout:
    """How a training lies on devices: one process on each.

    Args:
        accelerator: Lightning's name for the kind of device.
        n_local: Processes on this machine.
        place: Which of the processes this one is.
    """

    accelerator: Literal["cpu", "cuda"]
    n_local: int
    place: Place

    @property
    def n_processes(self) -> int:
        """Processes on all machines."""
        return self.n_local * self.n_nodes

    @property
    def n_nodes(self) -> int:
        """Machines."""
        return self.place.n_processes // self.place.n_local

    @property
    def n_to_start(self) -> int:
        """Processes that are wanted beside this one, and that nobody has started yet."""
        return 0 if self.place.is_started else self.n_local - 1


def check_devices(settings: FineTuningSettings) -> Layout:
    """Find the devices that the settings ask for.

    Where several processes were started by torchrun, each machine needs a GPU for each of its own; with `devices` cpu,
    or with auto where there is no GPU, they train on the CPU.

    Args:
        settings: `devices` and `precision` are read.

    Returns:
        The layout.

    Raises:
        ConfigError: The settings ask for what this machine cannot do, or this torch is built for CPUs.
        TemporaryError: The cluster gave fewer GPUs than it was asked for; another node may have them.
    """
    place, n_gpus = this_process(), torch.cuda.device_count()
    asked = _given_by_the_cluster(n_gpus)
    n_used = _n_gpus_to_use(settings, place, asked, n_gpus)
    if n_used > n_gpus:
        raise ConfigError(
            f"devices is {settings.devices}, which takes {n_used} GPU(s) here, and this machine has {n_gpus}: set "
            "`devices` to what it has, or to auto or cpu, in the settings"
        )
    if place.is_started and n_used not in (0, place.n_local):
        raise ConfigError(
            f"{place.n_local} process(es) were started on this machine for {n_used} GPU(s); start as many as "
            f"there are to use (torchrun --nproc-per-node {n_used}), or change `devices` in the settings"
        )
    if n_used == 0 and settings.precision != "32-true":
        raise ConfigError(
            f"precision is {settings.precision} on a CPU, where it is about 100 times slower than 32-true: "
            "set `precision` to 32-true in the settings"
        )
    return Layout("cuda" if n_used else "cpu", place.n_local if place.is_started else max(1, n_used), place)


def encoding_device(settings: FineTuningSettings) -> str:
    """Find the device that texts are encoded on where nothing is trained: a GPU where there is one.

    Args:
        settings: `devices` is read: cpu leaves a GPU alone.

    Returns:
        Torch's name of the device.

    Raises:
        ConfigError: The cluster was asked for GPUs, and this torch is built for CPUs.
        TemporaryError: The cluster gave fewer GPUs than it was asked for.
    """
    n_gpus = torch.cuda.device_count()
    _given_by_the_cluster(n_gpus)
    return f"cuda:{this_process().local_rank}" if n_gpus and settings.devices != "cpu" else "cpu"


def _n_gpus_to_use(settings: FineTuningSettings, place: Place, asked: int, n_gpus: int) -> int:
    if settings.devices == "cpu":
        return 0
    if settings.devices == "auto":
        return asked or (place.n_local if n_gpus else 0)
    return settings.devices


def _given_by_the_cluster(n_gpus: int) -> int:
    """How many GPUs the cluster was asked for, 0 outside of a pod.

    Raises:
        ConfigError: They are not there, for this torch is built for CPUs.
        TemporaryError: They are not there.
    """
    text = os.environ.get(GPUS_VARIABLE, "0")
    if not text.isdecimal():
        raise ConfigError(f"${GPUS_VARIABLE} is {text!r}; it must be the number of GPUs of this pod, as its limit says")
    if int(text) <= n_gpus:
        return int(text)
    told = f"the cluster was asked for {text} GPU(s) (${GPUS_VARIABLE}), and torch sees {n_gpus}"
    if torch.version.cuda is None and torch.version.hip is None:
        raise ConfigError(f"{told}: torch {torch.__version__} is built for CPUs; use an image with a CUDA build")
    raise TemporaryError(
        f"{told}: look at the node's driver, its device plugin and the pod's runtime class (nvidia-smi in a pod "
        "of that node); another node may do"
    )
