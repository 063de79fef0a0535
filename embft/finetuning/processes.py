"""The processes of a training on several devices: which one this is, and how the others are started and watched.

One process per device, told apart by the environment variables of torchrun. It, or a cluster's training operator, may
have started them all; else process 0, the leader, starts the followers itself, for torchrun would make every exit code
a 1. Free of torch.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from embft.errors import ConfigError, DataRejected, EmbftError, TemporaryError

logger = logging.getLogger(__name__)

_STARTED = "TORCHELASTIC_RUN_ID"  # what Lightning takes for the sign of processes that somebody else has started
_LEADER = "EMBFT_LEADER_PID"
_WATCH_EACH_S = 0.5
# An error that a lost follower causes in the leader shows within a second, or, in a collective on GPUs, never.
_GRACE_S = 15.0


@dataclass(frozen=True)
class Place:
    """Which of a training's processes this one is.

    Args:
        rank: From 0; the leader is 0, and it alone writes and logs.
        n_processes: All of them.
        local_rank: From 0, of those on this machine.
        n_local: Those on this machine.
        is_started: Whether others were started with it; False of a process on its own, which is its own leader.
    """

    rank: int = 0
    n_processes: int = 1
    local_rank: int = 0
    n_local: int = 1
    is_started: bool = False


def this_process() -> Place:
    """Read from the environment which process this is.

    Returns:
        Its place.

    Raises:
        ConfigError: The environment is not as torchrun leaves it.
    """
    if _STARTED not in os.environ:
        return Place()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    try:
        rank, n_processes, local_rank, n_local = (int(os.environ[name]) for name in names)
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"${_STARTED} is set, but {error} is wrong or missing among {', '.join(names)}; start the processes with "
            "torchrun, which sets them all"
        ) from None
    return Place(rank, n_processes, local_rank, n_local, is_started=True)


def is_follower() -> bool:
    """Whether another process leads: then this one helps to train, and writes, tracks and prints nothing."""
    return _STARTED in os.environ and os.environ.get("RANK", "0") != "0"


@contextmanager
def followers(
    command: Sequence[str], count: int, scratch: Path, variables: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Start the other processes of a training on this machine, watch them in the block, and end them with it.

    A follower that fails or is killed ends the leader too, within `_GRACE_S`: where the leader hangs in a collective
    with the dead, which no exception reaches, the whole process is ended as the command line would end it.

    Args:
        command: What a follower runs.
        count: How many to start; 0 starts none.
        scratch: Where they keep temporary files, for a follower is killed when it is not needed any more.
        variables: Further environment variables of theirs.

    Yields:
        Nothing. In the block the environment says that this is process 0 of `count` + 1.

    Raises:
        EmbftError: A follower ended first; the error carries the follower's own exit code where that has a meaning.
    """
    if count == 0:
        yield
        return
    shared = {
        _STARTED: "embft",
        _LEADER: str(os.getpid()),
        "WORLD_SIZE": str(count + 1),
        "LOCAL_WORLD_SIZE": str(count + 1),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "TMPDIR": str(scratch),
    }
    logger.info("%d processes train together", count + 1)
    group = _Followers()
    try:
        for rank in range(1, count + 1):
            group.start(command, {**(variables or {}), **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        Thread(target=group.watch, name="followers", daemon=True).start()
        with _environment(shared | {"RANK": "0", "LOCAL_RANK": "0"}, but_for=(_LEADER, "TMPDIR")):
            yield
    except EmbftError:
        raise
    except Exception as error:
        lost = group.lost(wait_s=10.0)
        if lost is None:
            raise
        raise lost from error
    finally:
        group.end()


def stay_with_leader() -> None:
    """In a follower that a leader started: leave stopping to the leader, and end when the leader is gone."""
    leader = os.environ.get(_LEADER)
    if leader is None or not is_follower():
        return
    # A worker tells the whole process group to stop; the leader may still need this process for its last checkpoint.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == int(leader):
            time.sleep(_WATCH_EACH_S)
        os._exit(TemporaryError.exit_code)

    Thread(target=watch, name="leader", daemon=True).start()


class _Followers:
    """What the leader has started."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._over = Event()

    def start(self, command: Sequence[str], variables: Mapping[str, str]) -> None:
        # What a library prints in a follower must not get between the lines of the leader's result.
        process = subprocess.Popen(command, env=os.environ | variables, stdin=subprocess.DEVNULL, stdout=2)
        self._processes.append(process)

    def lost(self, wait_s: float = 0.0) -> EmbftError | None:
        """The error that the end of a follower comes to, if one ended with anything but 0."""
        until = time.monotonic() + wait_s
        while True:
            for rank, process in enumerate(self._processes, 1):
                if code := process.poll():
                    return _error_of(code, rank, len(self._processes) + 1)
            if time.monotonic() >= until:
                return None
            time.sleep(0.1)

    def watch(self) -> None:
        """End this process where a follower is lost and the block does not end by itself."""
        while not self._over.wait(_WATCH_EACH_S):
            error = self.lost()
            if error is not None and not self._over.wait(_GRACE_S):
                self._kill()
                sys.stderr.write(f"error: {error}\n")
                sys.stderr.flush()
                os._exit(error.exit_code)

    def end(self) -> None:
        self._over.set()
        self._kill()
        for process in self._processes:
            process.wait()

    def _kill(self) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.kill()


def _error_of(code: int, rank: int, n_processes: int) -> EmbftError:
    who = f"process {rank} of {n_processes} (counted from 0)"
    if code < 0:
        name = signal.Signals(-code).name
        hint = "; most often the machine ran out of memory: give it more, or lower `batch_size`" * (name == "SIGKILL")
        return TemporaryError(f"{who} was ended by {name} before the training was over{hint}")
    kinds = {kind.exit_code: kind for kind in (ConfigError, DataRejected, TemporaryError)}
    return kinds.get(code, EmbftError)(f"{who} ended with exit code {code} before the training was over; it says why")


@contextmanager
def _environment(variables: Mapping[str, str], but_for: Sequence[str]) -> Iterator[None]:
    chosen = {name: value for name, value in variables.items() if name not in but_for}
    before = {name: os.environ.get(name) for name in chosen}
    os.environ.update(chosen)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
