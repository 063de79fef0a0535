"""What a command does to the outside world, counted as it happens, so that it can be killed at each of its steps.

Commands run in forked children of this process, which has paid for the imports. A child is killed by SIGKILL: no clean
up of ours can run. This process itself asks MLflow and S3 nothing while such tests run: connections do not survive a
fork.
"""

import functools
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from embft.promotion import load_check
from embft.storage import Storage

_READS = ("get_", "search_", "list_", "load_", "download_", "parse_", "test_")


def effect_functions() -> list[tuple[Any, str]]:
    """Every function by which a command changes what others see: all that MLflow's client and `Storage` have."""
    from mlflow import MlflowClient

    of_mlflow = [
        (MlflowClient, name)
        for name, it in vars(MlflowClient).items()
        if callable(it) and not name.startswith(("_", *_READS)) and isinstance(it, type(effect_functions))
    ]
    return [*of_mlflow, *((Storage, name) for name in ("write", "upload", "remove")), (load_check, "_difference")]


class Effects:
    """Counts a process's effects, the outermost alone, and does something before each.

    Args:
        before: Given the number of the effect (from 0) and its name, just before it happens.
    """

    def __init__(self, before: Callable[[int, str], None] = lambda *_: None) -> None:
        self.names: list[str] = []
        self._before = before
        self._within = False

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        for owner, name in effect_functions():
            patch.setattr(owner, name, self._watched(getattr(owner, name), name))

    def _watched(self, original: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(original)
        def run(*args: Any, **options: Any) -> Any:
            if self._within:
                return original(*args, **options)
            self._before(len(self.names), name)
            self.names.append(name)
            self._within = True
            try:
                return original(*args, **options)
            finally:
                self._within = False

        return run


def recorded(work: Callable[[], Any]) -> list[str]:
    """Run something to its end in a child, and give the names of its effects in their order."""

    def run() -> list[str]:
        effects = Effects()
        with pytest.MonkeyPatch.context() as patch:
            effects.watch(patch)
            work()
        return effects.names

    names: list[str] = in_child(run)
    return names


def killed_before(number: int, work: Callable[[], Any]) -> None:
    """Run something in a child that kills itself before its effect of this number."""

    def kill(at: int, _: str) -> None:
        if at == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def run() -> None:
        with pytest.MonkeyPatch.context() as patch:
            Effects(kill).watch(patch)
            work()

    child = Child(run)
    assert child.wait() == -signal.SIGKILL, f"it ended before its effect {number}"


def paused_before(number: int, work: Callable[[], Any], meanwhile: Callable[[], Any]) -> None:
    """Run something in a child that stops before its effect of this number until something else, in another, is done."""
    told, tells = os.pipe()
    go, lets_go = os.pipe()

    def pause(at: int, _: str) -> None:
        if at == number:
            os.write(tells, b"x")
            os.read(go, 1)

    def run() -> None:
        with pytest.MonkeyPatch.context() as patch:
            Effects(pause).watch(patch)
            work()

    child = Child(run)
    try:
        os.close(tells)
        assert os.read(told, 1) == b"x", f"it ended before its effect {number}"
        in_child(meanwhile)
    finally:
        os.write(lets_go, b"x")
        child.result()
        for end in (told, go, lets_go):
            os.close(end)


class Child:
    """A forked process that does something and tells what came of it.

    Args:
        work: What it does; what it gives must be of JSON.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        self._reads, writes = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid:
            os.close(writes)
            return
        status = 1
        try:
            os.close(self._reads)
            _be_fork_safe()
            with os.fdopen(writes, "w") as pipe:
                json.dump(work(), pipe)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def wait(self) -> int:
        """Give its exit code, or the negative number of the signal that ended it."""
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)

    def result(self) -> Any:
        with os.fdopen(self._reads) as pipe:
            told = pipe.read()
        code = self.wait()
        assert code == 0, f"the child ended with {code}; see its traceback"
        return json.loads(told)


def in_child(work: Callable[[], Any]) -> Any:
    return Child(work).result()


def at_once(*works: Callable[[], Any]) -> Sequence[Any]:
    """Run several things in children at the same time."""
    children = [Child(work) for work in works]
    return [child.result() for child in children]


def _be_fork_safe() -> None:
    """OpenMP's threads do not survive a fork, and a team of them would be waited for in vain."""
    import torch

    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
